//! Posts an event: one connection each, by hyper and rustls. I/O.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::worker::Failure;
use crate::admin::model::Event;
use crate::admin::{Command, Commands};
use crate::config::notify::{self, Url};
use crate::health::probe::insecure::AnyCertificate;

/// Of an answer that nobody reads.
const MAX_BODY: usize = 4 * 1024;
/// For the controller to say where connections come from.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Webhook {
    pub(super) url: Url,
    pub(super) token_file: Option<PathBuf>,
    /// `None`: any certificate will do.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) timeout: Duration,
    pub(super) commands: Commands,
}

impl Webhook {
    /// One attempt.
    pub(super) async fn post(&self, event: &Event, json: &[u8]) -> Result<(), Failure> {
        match timeout(self.timeout, self.exchange(event, json)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => {
                let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                Err(Failure { reason: format!("it answered {status}"), again })
            }
            Ok(Err(error)) => Err(Failure { reason: format!("{error:#}"), again: true }),
            Err(_) => {
                Err(Failure { reason: format!("no answer within {:?}", self.timeout), again: true })
            }
        }
    }

    async fn exchange(&self, event: &Event, json: &[u8]) -> anyhow::Result<StatusCode> {
        let request = self.request(event, json).await?;
        let stream = self.connect().await?;
        if !self.url.is_tls() {
            return send(stream, request).await;
        }
        let name = ServerName::try_from(self.url.host().to_owned()).context("its name")?;
        let ca_file = self.ca_file.clone();
        let config = spawn_blocking(move || tls(ca_file.as_deref())).await??;
        let stream = TlsConnector::from(config).connect(name, stream).await.context("TLS")?;
        send(stream, request).await
    }

    async fn request(&self, event: &Event, json: &[u8]) -> anyhow::Result<Request<Full<Bytes>>> {
        let kind = event.what.kind().as_str();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.path())
            .header(HOST, self.url.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("fairlead/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .header("x-fairlead-event", kind)
            .body(Full::new(Bytes::copy_from_slice(json)))
            .context("making a request")?;
        if let Some(file) = self.token_file.clone() {
            let token = spawn_blocking(move || token(&file)).await??;
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }

    /// To the first of its addresses that answers.
    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let (host, port) = (self.url.host(), self.url.port());
        let addresses = lookup_host((host, port)).await.context("looking up its name")?;
        let mut last = None;
        for address in addresses {
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some((address, error)),
            }
        }
        match last {
            Some((address, error)) => {
                Err(error).with_context(|| format!("connecting to {address}"))
            }
            None => bail!("its name has no address"),
        }
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source(address.ip()).await {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(address).await
    }

    /// Never a VIP, which the kernel could choose: the answer might come to another node.
    async fn source(&self, address: IpAddr) -> Option<IpAddr> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            // A controller that is ending does not answer.
            self.commands.send(Command::SourceFor { address, reply }).await.ok()?;
            answer.await.ok()?
        };
        timeout(SOURCE_TIMEOUT, asked).await.ok()?
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let answer = sender.send_request(request).await.context("posting")?;
        let status = answer.status();
        let (mut body, mut read) = (answer.into_body(), 0);
        while read < MAX_BODY
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(status)
    };
    // It moves the bytes; how it ends is seen by the answer.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

fn token(file: &Path) -> anyhow::Result<HeaderValue> {
    let shown = file.display();
    let bytes = fs::read(file).with_context(|| format!("reading {shown}"))?;
    notify::token(&bytes).with_context(|| format!("{shown} has no token"))
}

/// Read each time: events are rare, and files change.
fn tls(ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let Some(file) = ca_file else {
        let any = Arc::new(AnyCertificate(provider));
        let builder = builder.dangerous().with_custom_certificate_verifier(any);
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let reading = || format!("reading {}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(reading)? {
        // Bundles have some that rustls does not take.
        let _ = roots.add(certificate.with_context(reading)?);
    }
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
