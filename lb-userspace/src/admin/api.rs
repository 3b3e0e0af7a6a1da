//! The routes of the API: JSON in, JSON out, errors included. Called by `server` and `listener`, for each request.
//! I/O: it sends commands and waits for their answers.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::model::{
    Access, BackendChange, BackendChanged, Drain, Failure, Peer, Reload, Stop, Version,
};
use super::query::{Query, Reply};
use super::routes::{config, events, flows, live, metrics, openapi, packets, trace};
use super::{Command, Commands, StatusReader};
use crate::events::Events;
use crate::health::Latencies;
use crate::metrics::{Live, Metrics};

/// No request is larger.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// As in the configuration.
const MAX_WEIGHT: u16 = 1000;

/// For a client to send its request.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// For the controller to take a command.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the controller to carry a command out.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the routes need.
#[derive(Clone, Debug)]
pub struct Api {
    pub status: StatusReader,
    pub commands: Commands,
    pub events: Events,
    pub metrics: Metrics,
    /// For those that follow events.
    pub(super) followers: Arc<Semaphore>,
    /// Who may read flows.
    pub(super) turns: flows::Turns,
    /// For those that look on.
    pub(super) live: live::Live,
}

pub(super) type Answer = Result<Response, Refusal>;

/// An answer that is not a success.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Failure { error: self.1 })).into_response()
    }
}

/// Every route: who has the socket may do everything.
pub(super) fn router(api: Api) -> Router {
    serve(readable().merge(trusted()).merge(local()), api)
}

/// What everybody may read who gets to the TCP listener: what is published anyway. It asks the main loop nothing, and
/// costs no more than it is long.
pub(super) fn readable() -> Router<Api> {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/events", get(events::events))
        .route("/v1/live", get(live::live))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/openapi.json", get(openapi::document))
}

/// What takes the token there: changes of backends, and questions for which the main loop or all flows are looked at.
pub(super) fn trusted() -> Router<Api> {
    Router::new()
        .route("/v1/access", get(access))
        .route("/v1/config", get(config::config))
        .route("/v1/services/{service}/backends/{backend}", post(set_backend))
        .route("/v1/flows", get(flows::list))
        .route("/v1/flows/count", get(flows::count))
        .route("/v1/flows/top", get(flows::top))
        .route("/v1/trace", get(trace::trace))
}

/// What is for the socket alone: what concerns the node as a whole, ends connections, or shows what others send.
pub(super) fn local() -> Router<Api> {
    Router::new()
        .route("/v1/packets", get(packets::packets))
        .route("/v1/capture", get(packets::capture))
        .route("/v1/reload", post(reload))
        .route("/v1/stop", post(stop))
        .route("/v1/drain", post(drain))
        .route("/v1/flows/purge", post(flows::purge))
}

/// What all routes have in common.
pub(super) fn serve(routes: Router<Api>, api: Api) -> Router {
    routes
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(read_body))
        .with_state(api)
}

async fn version(State(api): State<Api>) -> Json<Version> {
    let status = api.status.borrow();
    Json(Version { version: status.version.clone(), pid: std::process::id() })
}

async fn status(State(api): State<Api>) -> Response {
    // Not held while serializing: the controller must not wait to publish.
    let status = api.status.borrow().clone();
    Json(&*status).into_response()
}

/// Whoever gets this far may do what `trusted` has.
async fn access() -> Json<Access> {
    Json(Access { changes: true })
}

async fn reload(
    State(api): State<Api>,
    Extension(by): Extension<Option<Peer>>,
    body: Bytes,
) -> Answer {
    // `()` in JSON is what earlier commands send.
    let is_empty = body.is_empty() || &*body == b"null";
    let wish: Reload = if is_empty { Reload::default() } else { parse(&body)? };
    let reloaded = api.ask(|reply| Command::Reload { wish, by, reply }).await?;
    Ok(Json(reloaded).into_response())
}

async fn stop(State(api): State<Api>, body: Bytes) -> Answer {
    let Stop { handover } = if body.is_empty() { Stop::default() } else { parse(&body)? };
    api.send(Command::Stop { handover }).await?;
    Ok((StatusCode::ACCEPTED, Json(Stop { handover })).into_response())
}

async fn drain(State(api): State<Api>, body: Bytes) -> Answer {
    let Drain { resume } = if body.is_empty() { Drain::default() } else { parse(&body)? };
    api.ask(|reply| Command::Drain { resume, reply }).await?;
    Ok((StatusCode::ACCEPTED, Json(Drain { resume })).into_response())
}

async fn set_backend(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
    Extension(by): Extension<Option<Peer>>,
    body: Bytes,
) -> Answer {
    let Path((service, backend)) =
        path.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    let change: BackendChange = parse(&body)?;
    let BackendChange { admin, weight, reset_weight } = change;
    if admin.is_none() && weight.is_none() && !reset_weight {
        let message = "nothing to change: give `admin`, `weight` or `reset_weight`";
        return Err(Refusal(StatusCode::BAD_REQUEST, message.to_owned()));
    }
    if reset_weight && weight.is_some() {
        let message = "give either `weight` or `reset_weight`";
        return Err(Refusal(StatusCode::BAD_REQUEST, message.to_owned()));
    }
    if weight.is_some_and(|weight| weight > MAX_WEIGHT) {
        let message = format!("the weight must be from 0 to {MAX_WEIGHT}");
        return Err(Refusal(StatusCode::BAD_REQUEST, message));
    }
    let ask = |reply| Command::SetBackend { service, backend, change, by, reply };
    let not_kept = api.ask(ask).await?;
    Ok(Json(BackendChanged { change, not_kept }).into_response())
}

async fn unknown_route() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "there is no such path; the API begins at /v1/".to_owned())
}

async fn wrong_method() -> Refusal {
    let message = "this path has another method: GET to read, POST to change";
    Refusal(StatusCode::METHOD_NOT_ALLOWED, message.to_owned())
}

/// Reads the body, for all routes alike, so that a slow or endless one is refused everywhere.
async fn read_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let refusal = match timeout(READ_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(error)) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            let message = format!("the body is larger than {} KiB", MAX_BODY / 1024);
            Refusal(StatusCode::PAYLOAD_TOO_LARGE, message)
        }
        Ok(Err(error)) => Refusal(StatusCode::BAD_REQUEST, format!("reading the body: {error}")),
        Err(_) => {
            let message = format!("no whole request within {} s", READ_TIMEOUT.as_secs());
            Refusal(StatusCode::REQUEST_TIMEOUT, message)
        }
    };
    refusal.into_response()
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // Serde takes an array for a structure, by the order of its fields.
    if body.trim_ascii_start().first() != Some(&b'{') {
        let message = "not a valid body: it must be a JSON object";
        return Err(Refusal(StatusCode::BAD_REQUEST, message.to_owned()));
    }
    serde_json::from_slice(body)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("not a valid body: {error}")))
}

impl Api {
    /// Metrics are of `status` alone; what measures more replaces them.
    pub fn new(status: StatusReader, commands: Commands, events: Events) -> Self {
        let followers = Arc::new(Semaphore::new(events::MAX_FOLLOWERS));
        let metrics = Metrics::new(status.clone(), Live::default(), Latencies::default());
        let (turns, live) = (flows::Turns::default(), live::Live::new(live::MAX_VIEWERS));
        Self { status, commands, events, metrics, followers, turns, live }
    }

    /// For clients by TCP: however many of them follow, those of the socket are not kept from it.
    pub(super) fn by_tcp(&self) -> Self {
        let followers = Arc::new(Semaphore::new(events::MAX_FOLLOWERS));
        Self { followers, live: live::Live::new(live::MAX_VIEWERS_BY_TCP), ..self.clone() }
    }

    async fn send(&self, command: Command) -> Result<(), Refusal> {
        let sent = self.commands.send_timeout(command, ACCEPT_TIMEOUT).await;
        sent.map_err(|error| {
            let message = match error {
                tokio::sync::mpsc::error::SendTimeoutError::Timeout(_) => {
                    "the controller is busy; try again"
                }
                tokio::sync::mpsc::error::SendTimeoutError::Closed(_) => "the controller is ending",
            };
            Refusal(StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
        })
    }

    /// Asks the controller and waits for its answer.
    pub(super) async fn query<T>(
        &self,
        query: impl FnOnce(Reply<T>) -> Query,
    ) -> Result<T, Refusal> {
        self.ask(|reply| Command::Query(query(reply))).await
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        match timeout(REPLY_TIMEOUT, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(refused))) => Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, refused)),
            Ok(Err(_)) => {
                let message = "the controller is ending; nobody knows whether it was done";
                Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, message.to_owned()))
            }
            Err(_) => {
                let message = format!("no answer within {} s", REPLY_TIMEOUT.as_secs());
                Err(Refusal(StatusCode::GATEWAY_TIMEOUT, message))
            }
        }
    }
}
