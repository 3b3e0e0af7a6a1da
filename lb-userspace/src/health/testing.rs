//! What the tests of this subsystem share: a clock's start, a server that misbehaves on request, and
//! an authority that certifies it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ALL_VERSIONS, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::config::Identity;

#[expect(clippy::disallowed_methods, reason = "machines are tested from wherever the clock stands")]
pub(super) fn origin() -> Instant {
    Instant::now()
}

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// What a server does with a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// Accepts and never says anything, not even in the handshake.
    Mute,
    /// Reads the request, writes this and waits for the client to close.
    Answer(&'static [u8]),
    /// Reads the request, writes this and closes.
    AnswerAndClose(&'static [u8]),
    /// Reads the request and writes this, then the other for ever.
    Endless(&'static [u8], &'static [u8]),
    /// Writes the first to who asks for what starts like this, else the second.
    ByPath(&'static str, &'static [u8], &'static [u8]),
    /// Waits before it does its part of the handshake; then as `Answer`.
    SlowHandshake(Duration, &'static [u8]),
}

/// What a server saw of a connection.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) peer: SocketAddr,
    pub(super) request: String,
    /// The client came back with a session.
    pub(super) resumed: bool,
    /// 0: the client closed as its protocol demands.
    pub(super) end: io::Result<usize>,
}

/// A server on a loopback port of its own.
pub(super) struct Server {
    pub(super) endpoint: SocketAddr,
    pub(super) seen: mpsc::UnboundedReceiver<Seen>,
}

impl Server {
    pub(super) async fn plain(behaviour: Behaviour) -> Self {
        Self::start(None, behaviour).await
    }

    pub(super) async fn tls(config: Arc<ServerConfig>, behaviour: Behaviour) -> Self {
        Self::start(Some(TlsAcceptor::from(config)), behaviour).await
    }

    async fn start(tls: Option<TlsAcceptor>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        let (report, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(connection(stream, peer, tls.clone(), behaviour, report.clone()));
            }
        });
        Self { endpoint, seen }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    behaviour: Behaviour,
    report: mpsc::UnboundedSender<Seen>,
) {
    if let Behaviour::Mute = behaviour {
        let seen = Seen { peer, request: String::new(), resumed: false, end: Ok(0) };
        report.send(seen).ok();
        return std::future::pending().await;
    }
    if let Behaviour::SlowHandshake(pause, _) = behaviour {
        tokio::time::sleep(pause).await;
    }
    let mut resumed = false;
    let seen = match tls {
        None => converse(stream, behaviour).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => {
                resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                converse(stream, behaviour).await
            }
            Err(error) => Err(error),
        },
    };
    let (request, end) = match seen {
        Ok((request, end)) => (request, end),
        Err(error) => (String::new(), Err(error)),
    };
    report.send(Seen { peer, request, resumed, end }).ok();
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    behaviour: Behaviour,
) -> io::Result<(String, io::Result<usize>)> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    match behaviour {
        Behaviour::Mute => {}
        Behaviour::Answer(answer) | Behaviour::SlowHandshake(_, answer) => {
            stream.write_all(answer).await?;
        }
        Behaviour::ByPath(path, answer, other) => {
            let is_it = request.strip_prefix("GET ").is_some_and(|it| it.starts_with(path));
            stream.write_all(if is_it { answer } else { other }).await?;
        }
        Behaviour::AnswerAndClose(answer) => {
            stream.write_all(answer).await?;
            stream.shutdown().await?;
        }
        Behaviour::Endless(head, piece) => {
            stream.write_all(head).await?;
            while stream.write_all(piece).await.is_ok() {}
        }
    }
    stream.flush().await?;
    let end = stream.read(&mut [0; 64]).await;
    Ok((request, end))
}

/// A CA, and a directory for its PEM file.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let authority = Self { issuer, pem, directory: tempfile::tempdir().unwrap() };
        authority.write(&authority.pem);
        authority
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Replaces the PEM file's content.
    pub(crate) fn write(&self, pem: &str) {
        std::fs::write(self.file(), pem).unwrap();
    }

    /// A server's certificate for `name`, valid until that year.
    pub(crate) fn certify(&self, name: &str, until: i32) -> Arc<ServerConfig> {
        self.server(name, until).build()
    }

    /// The same, with choices to make.
    pub(crate) fn server(&self, name: &str, until: i32) -> ServerPlan {
        let (certificate, key) = self.sign(name, until);
        ServerPlan { certificate, key, versions: ALL_VERSIONS.to_vec(), clients: None }
    }

    /// Files of a client certificate in `folder`.
    pub(crate) fn client(&self, folder: &Path) -> Identity {
        let (certificate, key) = self.sign("client", 4000);
        let (cert_file, key_file) = (folder.join("client.crt"), folder.join("client.key"));
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        Identity { cert_file, key_file }
    }

    fn sign(&self, name: &str, until: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A certificate for `name` that nobody else signed.
pub(crate) fn self_signed(name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    ServerPlan { certificate, key, versions: ALL_VERSIONS.to_vec(), clients: None }.build()
}

/// What a server's TLS is made of.
pub(crate) struct ServerPlan {
    certificate: rcgen::Certificate,
    key: KeyPair,
    versions: Vec<&'static SupportedProtocolVersion>,
    clients: Option<CertificateDer<'static>>,
}

impl ServerPlan {
    /// No other version.
    pub(crate) fn version(self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self }
    }

    /// Only clients that `authority` certified.
    pub(crate) fn clients(self, authority: &Authority) -> Self {
        let certificate = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
        Self { clients: Some(certificate), ..self }
    }

    pub(crate) fn build(self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match self.clients {
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(vec![self.certificate.der().clone()], key).unwrap())
    }
}
