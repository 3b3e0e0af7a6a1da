//! What probes show of themselves, read again when it changes.

use std::path::Path;

use super::*;
use crate::config::Identity;
use crate::watched::LOOK_INTERVAL;

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let ca = Authority::new("kubernetes-ca");
    let clients = Authority::new("client-ca");
    let strangers = Authority::new("other-ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ca.server("kubernetes", 4000).version(version).clients(&clients).build();
        let server = Server::tls(config, Behaviour::Answer(OK)).await;
        let run = async |identity| {
            let tls = Tls { identity, ..Tls::new("kubernetes", Verify::Ca(ca.file())) };
            run(server.endpoint, Probe::Https { request: Request::new("/readyz"), tls }).await
        };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run(Some(clients.client(folder.path()))).await, Reason::Status(200));
        let none = run(None).await;
        let Reason::Tls(text) = &none else { panic!("{none:?}") };
        assert!(text.contains("client"), "{version:?}: {text}");
        let stranger = run(Some(strangers.client(folder.path()))).await;
        let Reason::Tls(text) = &stranger else { panic!("{stranger:?}") };
        assert!(text.contains("refused the client certificate"), "{version:?}: {text}");
    }
}

/// The server knows the second client only. Half of the new pair is not used; all of it is.
#[tokio::test]
async fn a_new_client_certificate_is_used_once_both_files_are_there() {
    let ca = Authority::new("kubernetes-ca");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let config = ca.server("kubernetes", 4000).clients(&new).build();
    let server = Server::tls(config, Behaviour::Answer(OK)).await;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let identity = old.client(folder.path());
    let tls =
        Tls { identity: Some(identity.clone()), ..Tls::new("kubernetes", Verify::Ca(ca.file())) };
    let check = check(Probe::Https { request: Request::new("/readyz"), tls }, PATIENT);
    let cache = TlsCache::default();
    let is_used =
        async || probe(server.endpoint, &check, None, &cache).await.reason == Reason::Status(200);
    assert!(!is_used().await);
    let Identity { cert_file, key_file } = new.client(other.path());
    std::fs::rename(cert_file, identity.cert_file).unwrap();
    for _ in 0..2 {
        tokio::time::sleep(LOOK_INTERVAL).await;
        assert!(!is_used().await);
    }
    std::fs::rename(key_file, identity.key_file).unwrap();
    eventually(is_used).await;
}

#[tokio::test]
async fn a_token_is_sent_and_a_new_one_when_the_file_changes() {
    let ca = Authority::new("kubernetes-ca");
    let mut server = Server::tls(ca.certify("kubernetes", 4000), Behaviour::Answer(OK)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let tls =
        Tls { token_file: Some(file.clone()), ..Tls::new("kubernetes", Verify::Ca(ca.file())) };
    let check = check(Probe::Https { request: Request::new("/readyz"), tls }, PATIENT);
    let cache = TlsCache::default();
    let mut sent = async || {
        let found = probe(server.endpoint, &check, None, &cache).await;
        assert_eq!(found.reason, Reason::Status(200));
        let request = server.seen.recv().await.unwrap().request;
        let line = request.lines().find_map(|line| line.strip_prefix("authorization: "));
        line.unwrap_or_default().to_owned()
    };
    assert_eq!(sent().await, "Bearer first");
    replace(&file, "second");
    while sent().await != "Bearer second" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    replace(&file, "not one word");
    tokio::time::sleep(LOOK_INTERVAL).await;
    assert_eq!(sent().await, "Bearer second");
    tokio::time::sleep(LOOK_INTERVAL).await;
    assert_eq!(sent().await, "Bearer second");
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_not_the_backends_fault() {
    let tls = Tls { token_file: Some("/nonexistent".into()), ..Tls::new("a", Verify::Skip) };
    let probe = Probe::Https { request: Request::new("/readyz"), tls };
    let reason = run(closed_port().await, probe).await;
    assert!(matches!(reason, Reason::Local(_)), "{reason}");
}

fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, file).unwrap();
}
