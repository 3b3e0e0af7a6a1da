//! `GET /v1/live?once=true`: the status whenever there is another, and what happened last, as server-sent events for the page.
//! However many look on, it is written once. I/O.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::admin::StatusReader;
use crate::admin::api::{Answer, Api, Refusal};
use crate::admin::connection::Endless;
use crate::admin::model::Status;
use crate::events::Events;

/// Each keeps a connection, of which there are not many.
pub(in crate::admin) const MAX_VIEWERS: usize = 16;
pub(in crate::admin) const MAX_VIEWERS_BY_TCP: usize = 64;

/// Between two statuses: what changes many times a second is shown as it is after that.
const SPACING: Duration = Duration::from_millis(400);
/// Something is sent so often, so that who has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Those that happened last.
const EVENTS: usize = 50;

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::admin) struct Question {
    /// What there is, and no more.
    once: bool,
}

/// Who may change something over the connection that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Changes {
    /// It is the socket.
    Allowed,
    /// Who has the token.
    Token,
    /// Nobody: there is no token.
    Never,
}

/// What all viewers share.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Live {
    written: Arc<Mutex<Option<Arc<Written>>>>,
    places: Arc<Semaphore>,
}

/// A status and the last events, as they are sent.
#[derive(Debug)]
struct Written {
    /// What it was made of, and when.
    status: Arc<Status>,
    last_event: u64,
    at: Instant,
    status_text: Bytes,
    events_text: Bytes,
}

impl Live {
    /// For so many at once.
    pub(in crate::admin) fn new(viewers: usize) -> Self {
        Self { written: Arc::default(), places: Arc::new(Semaphore::new(viewers)) }
    }

    /// As others have it already, or else written now.
    fn write(&self, status: &Arc<Status>, events: &Events) -> Arc<Written> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_event, now) = (events.last(), Instant::now());
        if let Some(written) = &*written {
            let is_same = Arc::ptr_eq(&written.status, status) && written.last_event == last_event;
            if is_same || now < written.at + SPACING / 2 {
                return Arc::clone(written);
            }
        }
        let known = written.take().filter(|it| it.last_event == last_event);
        let events_text = known.map_or_else(|| events_text(events), |it| it.events_text.clone());
        let new = Arc::new(Written {
            status: Arc::clone(status),
            last_event,
            at: now,
            status_text: text("status", &**status),
            events_text,
        });
        *written = Some(Arc::clone(&new));
        new
    }
}

fn events_text(events: &Events) -> Bytes {
    let batch = events.since(Some(events.before_last(EVENTS)), EVENTS);
    let events: Vec<_> = batch.events.iter().map(|event| &**event).collect();
    text("events", &events)
}

fn text(kind: &str, what: &impl serde::Serialize) -> Bytes {
    // Numbers, strings and lists of them: nothing that JSON could not say.
    let json = serde_json::to_string(what).unwrap_or_default();
    format!("event: {kind}\ndata: {json}\n\n").into()
}

pub(in crate::admin) async fn live(
    State(api): State<Api>,
    Extension(endless): Extension<Endless>,
    changes: Option<Extension<Changes>>,
    question: Result<Query<Question>, QueryRejection>,
) -> Answer {
    let bad = |error: QueryRejection| Refusal(StatusCode::BAD_REQUEST, error.body_text());
    let Query(Question { once }) = question.map_err(bad)?;
    let place = Arc::clone(&api.live.places).try_acquire_owned().map_err(|_| {
        let message = "too many look on already; close one of the pages";
        Refusal(StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
    })?;
    if !once {
        endless.set();
    }
    let changes = changes.map_or(Changes::Allowed, |Extension(changes)| changes);
    let viewer = Viewer {
        live: api.live,
        happened: api.events.watch(),
        events: api.events,
        status: api.status,
        hello: Some(changes),
        shown: None,
        once,
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(viewer, next));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Where somebody who looks on is. One that reads slowly misses some, and is none the worse for it.
struct Viewer {
    live: Live,
    status: StatusReader,
    events: Events,
    happened: watch::Receiver<u64>,
    /// Has not been greeted.
    hello: Option<Changes>,
    shown: Option<Arc<Written>>,
    once: bool,
    _place: OwnedSemaphorePermit,
}

/// The next piece of the body.
async fn next(mut viewer: Viewer) -> Option<(Result<Bytes, Infallible>, Viewer)> {
    if let Some(changes) = viewer.hello.take() {
        return Some((Ok(changes.hello()), viewer));
    }
    loop {
        if let Some(shown) = &viewer.shown {
            if viewer.once {
                return None;
            }
            let changed = async {
                tokio::select! {
                    changed = viewer.status.changed() => changed.is_ok(),
                    happened = viewer.happened.changed() => happened.is_ok(),
                }
            };
            match timeout(HEARTBEAT, changed).await {
                Ok(true) => sleep_until(shown.at + SPACING).await,
                Ok(false) => return None,
                Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), viewer)),
            }
        }
        viewer.happened.borrow_and_update();
        let status = Arc::clone(&viewer.status.borrow_and_update());
        let written = viewer.live.write(&status, &viewer.events);
        let before = viewer.shown.replace(Arc::clone(&written));
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &written)) {
            continue;
        }
        let has_events = before.is_none_or(|before| before.last_event != written.last_event);
        let piece = if has_events {
            [&*written.status_text, &*written.events_text].concat().into()
        } else {
            written.status_text.clone()
        };
        return Some((Ok(piece), viewer));
    }
}

impl Changes {
    fn hello(self) -> Bytes {
        let who = match self {
            Self::Allowed => "allowed",
            Self::Token => "token",
            Self::Never => "never",
        };
        format!("retry: 2000\nevent: hello\ndata: {{\"changes\":\"{who}\"}}\n\n").into()
    }
}
