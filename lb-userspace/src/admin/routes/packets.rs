//! `GET /v1/packets`: a line of JSON for each packet that the datapath meets, until enough was seen. `GET
//! /v1/capture`: the same packets as a capture file. I/O.
//!
//! It shows what others send: over the Unix socket only. When the client goes, hyper drops the body, and the
//! controller finds within a second that nobody reads.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as UrlQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, sleep_until};

use crate::admin::api::{Answer, Api, Refusal};
use crate::admin::connection::Endless;
use crate::admin::model::packet::{Line, MAX_SNAP, Missing, PacketQuery, Wish};
use crate::admin::query::Query;
use crate::control::packets::{Capture, Context, HEADERS, describe};
use crate::datapath::now;
use crate::datapath::packets::{Packets, Seen};

/// Between two looks at what is missing.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Something is sent so often, so that who has gone is noticed.
const HEARTBEATS: u32 = 15;

pub(in crate::admin) async fn packets(
    State(api): State<Api>,
    Extension(endless): Extension<Endless>,
    query: Result<UrlQuery<PacketQuery>, QueryRejection>,
) -> Answer {
    let wish = wish(query)?;
    if wish.snap.is_some() {
        return Err(bad("snap is for /v1/capture".to_owned()));
    }
    let watch = Watch::begin(&api, &wish, HEADERS).await?;
    endless.set();
    Ok(answer("application/x-ndjson", Body::from_stream(stream::unfold(watch, next))))
}

pub(in crate::admin) async fn capture(
    State(api): State<Api>,
    Extension(endless): Extension<Endless>,
    query: Result<UrlQuery<PacketQuery>, QueryRejection>,
) -> Answer {
    let wish = wish(query)?;
    let snap = wish.snap.unwrap_or(MAX_SNAP);
    let watch = Watch::begin(&api, &wish, snap).await?;
    let file = Capture::new(&watch.context, snap)
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    endless.set();
    let body = Body::from_stream(stream::unfold((file, watch, true), more));
    Ok(answer("application/vnd.tcpdump.pcap", body))
}

fn wish(query: Result<UrlQuery<PacketQuery>, QueryRejection>) -> Result<Wish, Refusal> {
    let UrlQuery(query) = query.map_err(|error| bad(error.body_text()))?;
    query.wish().map_err(bad)
}

const fn bad(error: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, error)
}

fn answer(kind: &'static str, body: Body) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// A capture file, what is to be in it, and whether nothing of it has been sent.
type Growing = (Capture, Watch, bool);

/// The next piece of the file: its head at once, so that who asked knows that it has begun.
async fn more(
    (mut file, mut watch, is_new): Growing,
) -> Option<(Result<Bytes, Infallible>, Growing)> {
    if is_new {
        return Some((Ok(file.take().into()), (file, watch, false)));
    }
    let Turn { seen, missing } = watch.turn().await?;
    let mut added = seen.iter().try_for_each(|seen| file.add(seen, &watch.context));
    if added.is_ok() && (missing.is_some() || seen.is_empty()) {
        // Also as a heartbeat.
        added = file.missing(watch.missing, wall());
    }
    if let Err(error) = added {
        log::warn!("capturing packets: {error}");
        return None;
    }
    Some((Ok(file.take().into()), (file, watch, false)))
}

#[expect(clippy::disallowed_methods, reason = "a driver: stamps what a capture says")]
fn wall() -> SystemTime {
    SystemTime::now()
}

/// The next piece of the body.
async fn next(mut watch: Watch) -> Option<(Result<Bytes, Infallible>, Watch)> {
    let Turn { seen, missing } = watch.turn().await?;
    let mut text = String::new();
    let packets = seen.iter().map(|it| describe(&it.record, &it.came, &it.left, &watch.context));
    let packets = packets.map(|packet| Line::Packet(Box::new(packet)));
    for line in packets.chain(missing.map(Line::Missing)) {
        // Numbers, strings and lists of them: nothing that JSON could not say.
        text += &serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
    }
    if text.is_empty() {
        // A heartbeat.
        text.push('\n');
    }
    Some((Ok(text.into()), watch))
}

/// Packets until enough was seen.
pub(super) struct Watch {
    packets: Box<dyn Packets>,
    pub(super) context: Context,
    /// How many are still to be told; `None`: it does not matter.
    left: Option<u64>,
    deadline: Instant,
    look_at: Instant,
    looks: u32,
    missing: Missing,
    has_ended: bool,
}

/// What a turn brought. Neither: nothing has happened for a while.
pub(super) struct Turn {
    pub(super) seen: Vec<Seen>,
    /// If it is more than at the last turn.
    pub(super) missing: Option<Missing>,
}

impl Watch {
    /// Of each frame `snap` bytes are told at most.
    pub(super) async fn begin(api: &Api, wish: &Wish, snap: u32) -> Result<Self, Refusal> {
        let wanted = wish.clone();
        let view = api.query(|reply| Query::Follow { wish: wanted, snap, reply }).await?;
        let begun = Instant::now();
        Ok(Self {
            packets: view.packets,
            context: Context {
                directory: view.directory,
                interfaces: view.interfaces,
                epoch: now::epoch(),
            },
            left: wish.count,
            deadline: begun + wish.duration,
            look_at: begun + LOOK_INTERVAL,
            looks: 0,
            missing: Missing::default(),
            has_ended: false,
        })
    }

    /// Waits for the next packets, or for something else to say. `None`: that was all.
    pub(super) async fn turn(&mut self) -> Option<Turn> {
        loop {
            if self.has_ended {
                return None;
            }
            let look_at = self.look_at.min(self.deadline);
            let mut seen = tokio::select! {
                seen = self.packets.next() => match seen {
                    Ok(seen) => seen,
                    Err(error) => {
                        log::warn!("following packets: {error}");
                        return None;
                    }
                },
                () = sleep_until(look_at) => vec![],
            };
            if let Some(left) = &mut self.left {
                seen.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= seen.len() as u64;
            }
            let now = Instant::now();
            self.has_ended = self.left == Some(0) || now >= self.deadline;
            let mut missing = None;
            if self.has_ended || now >= self.look_at {
                self.look_at = now + LOOK_INTERVAL;
                self.looks += 1;
                missing = self.missing();
            }
            if !seen.is_empty() || missing.is_some() || self.is_heartbeat_due() {
                self.looks = 0;
                return Some(Turn { seen, missing });
            }
        }
    }

    const fn is_heartbeat_due(&self) -> bool {
        self.looks >= HEARTBEATS
    }

    /// What is missing, if it is more than before.
    fn missing(&mut self) -> Option<Missing> {
        let tally = self.packets.tally().ok()?;
        let missing = Missing { suppressed: tally.suppressed, lost: tally.lost };
        if missing == self.missing {
            return None;
        }
        self.missing = missing;
        Some(missing)
    }
}
