//! GET over a connection, in clear or not: the status decides. I/O.

use hyper::Uri;
use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::{Answer, Progress};
use super::{Budget, Reason, Stage, Stream, Target, tcp};
use crate::config::Request;

/// What is read at once: the whole answer of most servers.
const READ: usize = 512;

/// Asks for `path` over a connection of its own.
pub(super) async fn ask(target: Target, request: &Request, path: &str) -> Result<Reason, Reason> {
    let endpoint = target.endpoint.to_string();
    let request = self::request(path, request.host.as_deref().unwrap_or(&endpoint), None)?;
    let stream = tcp::connect(target).await?;
    exchange(stream, &request, target.budget).await
}

/// The request for `path`.
pub(super) fn request(
    path: &str,
    host: &str,
    authorization: Option<&HeaderValue>,
) -> Result<Vec<u8>, Reason> {
    let invalid = |what: &str| Reason::Local(Reason::bounded(format_args!("{what} is not valid")));
    path.parse::<Uri>().map_err(|_| invalid("the path"))?;
    HeaderValue::from_str(host).map_err(|_| invalid("the host"))?;
    let agent = concat!("fairlead/", env!("CARGO_PKG_VERSION"));
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\nconnection: close\r\n"
    )
    .into_bytes();
    if let Some(authorization) = authorization {
        request.extend_from_slice(b"authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    Ok(request)
}

/// Sends the request, reads the answer and closes.
pub(super) async fn exchange(
    mut stream: impl Stream,
    request: &[u8],
    budget: Budget,
) -> Result<Reason, Reason> {
    let status = budget.spend(Stage::Response, converse(&mut stream, request)).await?;
    // What the protocol ends with, close_notify included.
    budget.close(stream.shutdown()).await;
    Ok(Reason::Status(status))
}

async fn converse(stream: &mut impl Stream, request: &[u8]) -> Result<u16, Reason> {
    let classify = |error| super::classify(&error);
    stream.write_all(request).await.map_err(classify)?;
    stream.flush().await.map_err(classify)?;
    let mut answer = Answer::default();
    loop {
        answer.bytes.reserve(READ);
        if stream.read_buf(&mut answer.bytes).await.map_err(classify)? == 0 {
            return answer.end().ok_or(Reason::Closed);
        }
        match answer.advance() {
            Progress::More => {}
            Progress::Done(status) => return Ok(status),
            Progress::Bad => return Err(Reason::BadResponse),
        }
    }
}
