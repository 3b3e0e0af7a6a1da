//! One request whose answer is not judged: for the certificate and the `Date` of whoever answers. I/O.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::Target;
use crate::config::Probe;
use crate::health::probe::insecure::AnyCertificate;

/// What is read of an answer, to find its head.
const MOST: usize = 8192;
const MOST_HEADERS: usize = 64;

/// What was learned, even if the rest failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The server's own, in DER.
    pub(super) certificate: Option<Vec<u8>>,
    pub(super) ahead_ms: Option<i64>,
}

/// Verifies nothing, and sends no credentials: nothing that is said here is believed for more than this report.
pub(super) async fn hold(target: &Target) -> Told {
    let mut told = Told::default();
    // What fails here fails in the probe too, which says how.
    let _ = converse(target, &mut told).await;
    told
}

async fn converse(target: &Target, told: &mut Told) -> io::Result<()> {
    let (path, name) = match &target.check.probe {
        Probe::Tcp => return Ok(()),
        Probe::Http { request } => (&request.path, None),
        Probe::Https { request, tls } => (&request.path, Some(tls.server_name.as_str())),
    };
    let stream = connect(target).await?;
    let host = name.map_or_else(|| target.endpoint.to_string(), str::to_owned);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let Some(name) = name else {
        told.ahead_ms = date(stream, &request).await?;
        return Ok(());
    };
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(config().map_err(io::Error::other)?);
    let stream = connector.connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    told.certificate = shown.map(|certificate| certificate.to_vec());
    told.ahead_ms = date(stream, &request).await?;
    Ok(())
}

async fn connect(target: &Target) -> io::Result<TcpStream> {
    let socket = match target.endpoint {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = target.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(target.endpoint).await
}

fn config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let verifier = AnyCertificate(Arc::clone(builder.crypto_provider()));
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(config.with_no_client_auth()))
}

/// How much the clock of who answers is ahead, by the middle of what the answer took.
async fn date(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<Option<i64>> {
    let asked = now();
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while answer.len() < MOST && !answer.windows(4).any(|it| it == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let heard = now();
    let Some(said) = date_of(&answer) else { return Ok(None) };
    let middle = (asked.as_millisecond() + heard.as_millisecond()) / 2;
    // `Date` has whole seconds: on average it is half a second old.
    Ok(Some(said.as_millisecond() + 500 - middle))
}

fn date_of(answer: &[u8]) -> Option<Timestamp> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer).ok()?;
    let date = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("date"))?;
    DateTimeParser::new().parse_timestamp(date.value).ok()
}

#[expect(clippy::disallowed_methods, reason = "the clock on the wall is what is compared")]
fn now() -> Timestamp {
    SystemTime::now().try_into().unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_found_in_the_head_of_an_answer() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nok";
        assert_eq!(date_of(answer).unwrap().to_string(), "1994-11-06T08:49:37Z");
        for broken in
            [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nDate: now\r\n\r\n"]
        {
            assert_eq!(date_of(broken), None);
        }
    }
}
