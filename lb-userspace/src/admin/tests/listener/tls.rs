//! The listener in TLS.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;
use crate::watched::LOOK_INTERVAL;

/// A certificate for localhost and its key, written where the configuration has them.
fn issue(folder: &Path) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), cert.pem()).unwrap();
    cert.into()
}

/// The answer to `GET /v1/version`, if the server shows that certificate.
async fn ask(address: SocketAddr, certificate: &CertificateDer<'static>) -> Option<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let request = b"GET /v1/version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Some(parse(&answer).0)
}

#[tokio::test]
async fn certificates_are_shown_and_read_again_and_clear_text_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let first = issue(files.path());
    let remote = Remote::with(|admin| {
        let (cert_file, key_file) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        admin.tls = Some(config::ServerTls { cert_file, key_file });
    })
    .await;
    assert_eq!(ask(remote.address, &first).await, Some(200));
    let clear = b"GET /v1/version HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = remote.exchange(clear).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    remote.wait_refused("tls", 1..=1).await;
    let second = issue(files.path());
    let replaced = async {
        while ask(remote.address, &second).await != Some(200) {
            tokio::time::sleep(LOOK_INTERVAL / 4).await;
        }
    };
    timeout(Duration::from_secs(20), replaced).await.unwrap();
    assert_eq!(ask(remote.address, &first).await, None);
    // Half of a rotation, or a mistake: what was read last goes on.
    std::fs::write(files.path().join("tls.key"), "").unwrap();
    for _ in 0..3 {
        assert_eq!(ask(remote.address, &second).await, Some(200));
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut() {
    let files = tempfile::tempdir().unwrap();
    issue(files.path());
    let remote = Remote::with(|admin| {
        let (cert_file, key_file) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        admin.tls = Some(config::ServerTls { cert_file, key_file });
    })
    .await;
    let start = tokio::time::Instant::now();
    assert_eq!(remote.exchange(b"\x16\x03\x01").await, b"");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(15), "{waited:?}");
}
