//! GET over a connection, in clear or not: the status decides. I/O.

use std::error::Error;
use std::io;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;

use super::{Budget, Reason, Stage, Stream, Target, tcp};
use crate::config::Request;

/// How much of an answer's head is read.
const MAX_HEAD: usize = 16 * 1024;

/// How much of an answer's body is read. Nothing in it counts; reading it lets the server finish.
const MAX_BODY: usize = 4 * 1024;

/// Asks for `path` over a connection of its own.
pub(super) async fn ask(target: Target, request: &Request, path: &str) -> Result<Reason, Reason> {
    let endpoint = target.endpoint.to_string();
    let request = self::request(path, request.host.as_deref().unwrap_or(&endpoint), None)?;
    let stream = tcp::connect(target).await?;
    exchange(stream, request, target.budget).await
}

/// The request for `path`.
pub(super) fn request(
    path: &str,
    host: &str,
    authorization: Option<HeaderValue>,
) -> Result<hyper::Request<Empty<Bytes>>, Reason> {
    let invalid = |what: &str| Reason::Local(Reason::bounded(format_args!("{what} is not valid")));
    let uri = path.parse::<Uri>().map_err(|_| invalid("the path"))?;
    let mut request = hyper::Request::new(Empty::new());
    *request.uri_mut() = uri;
    let agent = HeaderValue::from_static(concat!("fairlead/", env!("CARGO_PKG_VERSION")));
    let host = HeaderValue::from_str(host).map_err(|_| invalid("the host"))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, agent);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

/// Sends the request, reads the answer and closes.
pub(super) async fn exchange(
    stream: impl Stream,
    request: hyper::Request<Empty<Bytes>>,
    budget: Budget,
) -> Result<Reason, Reason> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| classify(&error))?;
    let mut connection = pin!(connection);
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|error| classify(&error))?;
        status(response).await
    };
    let both = async {
        let mut answer = pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => Ok((answer?, false)),
            closed = &mut connection => {
                closed.map_err(|error| classify(&error))?;
                Ok((answer.await?, true))
            }
        }
    };
    let (reason, closed) = budget.spend(Stage::Response, both).await?;
    if !closed {
        // Driven to its end it sends what the protocol ends with, close_notify included.
        budget.close(connection).await;
    }
    Ok(reason)
}

/// Reads the body, up to a limit: a server that dies in the middle of an answer is not well.
async fn status(response: Response<Incoming>) -> Result<Reason, Reason> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut read = 0;
    while read < MAX_BODY
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| classify(&error))?;
        read += frame.data_ref().map_or(0, Bytes::len);
    }
    Ok(Reason::Status(status))
}

fn classify(error: &hyper::Error) -> Reason {
    if error.is_parse() || error.is_parse_too_large() {
        return Reason::BadResponse;
    }
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match cause {
        // A broken chunk of the body.
        Some(error) if error.kind() == io::ErrorKind::InvalidInput => Reason::BadResponse,
        Some(error) => super::classify(error),
        None => Reason::Closed,
    }
}
