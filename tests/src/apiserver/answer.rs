//! What each path answers.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{interval, sleep};

use super::{Body, CHUNK, Mode, SLOWNESS, WATCH_INTERVAL};

pub(super) async fn answer(
    request: Request<Incoming>,
    name: &str,
    mode: Mode,
) -> Result<Response<Body>, hyper::Error> {
    if mode == Mode::Slow {
        sleep(SLOWNESS).await;
    }
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, path @ ("/readyz" | "/healthz" | "/livez")) => {
            let status = mode.status(path, request.uri().query());
            let said = if status == StatusCode::OK { "ok" } else { mode.as_str() };
            text(status, said.to_owned())
        }
        (&Method::GET, "/version") => {
            let version =
                json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0-lab", "server": name});
            text(StatusCode::OK, version.to_string())
        }
        (&Method::GET, "/watch") => watch(name),
        (&Method::GET, "/bytes") => bytes(asked_length(request.uri().query())),
        (&Method::POST, "/hash") => hash(request.into_body()).await?,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    })
}

pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A line of JSON each 100 ms, with a counter; without end.
fn watch(name: &str) -> Response<Body> {
    let state = (interval(WATCH_INTERVAL), 0_u64, name.to_owned());
    let lines = stream::unfold(state, |(mut clock, count, name)| async move {
        clock.tick().await;
        let line = format!("{}\n", json!({"server": name, "count": count}));
        Some((Ok(Frame::data(Bytes::from(line))), (clock, count + 1, name)))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)))
}

fn asked_length(query: Option<&str>) -> u64 {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix("n=")?.parse().ok()).next().unwrap_or(0)
}

/// `length` bytes, each a function of its place: see [`byte_at`].
fn bytes(length: u64) -> Response<Body> {
    let chunks = stream::unfold(0, move |sent| async move {
        let end = length.min(sent + CHUNK);
        (sent < end).then(|| {
            let chunk: Vec<u8> = (sent..end).map(byte_at).collect();
            (Ok(Frame::data(Bytes::from(chunk))), end)
        })
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks)));
    response.headers_mut().insert("content-length", length.into());
    response
}

/// What `/bytes` sends at `place`. A prime period: a lost or doubled segment shows.
pub fn byte_at(place: u64) -> u8 {
    u8::try_from(place % 251).unwrap_or_default()
}

async fn hash(mut body: Incoming) -> Result<Response<Body>, hyper::Error> {
    let (mut digest, mut length) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            digest.update(data);
            length += data.len();
        }
    }
    let sum: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(text(StatusCode::OK, json!({"sha256": sum, "length": length}).to_string()))
}
