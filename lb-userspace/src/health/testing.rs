//! What the tests of this subsystem share: a clock's start, a server that misbehaves on request, and
//! an authority that certifies it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

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
}

/// What a server saw of a connection.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) peer: SocketAddr,
    pub(super) request: String,
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
        report.send(Seen { peer, request: String::new(), end: Ok(0) }).ok();
        return std::future::pending().await;
    }
    let seen = match tls {
        None => converse(stream, behaviour).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => converse(stream, behaviour).await,
            Err(error) => Err(error),
        },
    };
    let (request, end) = match seen {
        Ok((request, end)) => (request, end),
        Err(error) => (String::new(), Err(error)),
    };
    report.send(Seen { peer, request, end }).ok();
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
        Behaviour::Answer(answer) => stream.write_all(answer).await?,
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
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
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

    pub(super) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Replaces the PEM file's content.
    pub(super) fn write(&self, pem: &str) {
        std::fs::write(self.file(), pem).unwrap();
    }

    /// A server's certificate for `name`, valid until that year.
    pub(super) fn certify(&self, name: &str, until: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server_config(certificate, &key)
    }
}

/// A certificate for `name` that nobody else signed.
pub(super) fn self_signed(name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    server_config(params.self_signed(&key).unwrap(), &key)
}

fn server_config(certificate: rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}
