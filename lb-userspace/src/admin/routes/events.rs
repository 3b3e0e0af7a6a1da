//! `GET /v1/events?since=N&last=N&follow=true`: what happened, a line of JSON for each event, or as
//! server-sent events for who accepts those. I/O.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::admin::api::{Answer, Api, Refusal};
use crate::admin::connection::Endless;
use crate::admin::model::{Event, What, rfc3339};
use crate::events::{Batch, Events};

/// Who follows keeps a connection, of which there are not many.
pub(in crate::admin) const MAX_FOLLOWERS: usize = 16;

/// Sent at once.
const CHUNK: usize = 256;

/// Something is sent so often, so that who has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Question {
    since: Option<u64>,
    last: Option<usize>,
    follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Lines,
    ServerSent,
}

pub(in crate::admin) async fn events(
    State(api): State<Api>,
    Extension(endless): Extension<Endless>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let question = parse(uri.query().unwrap_or_default(), &headers)
        .map_err(|message| Refusal(StatusCode::BAD_REQUEST, message))?;
    let permit = if question.follow {
        let permit = Arc::clone(&api.followers).try_acquire_owned().map_err(|_| {
            let message = format!("{MAX_FOLLOWERS} clients follow already; end one of them");
            Refusal(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        endless.set();
        Some(permit)
    } else {
        None
    };
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let is_sent = accepts.is_some_and(|accepts| accepts.contains("text/event-stream"));
    let form = if is_sent { Form::ServerSent } else { Form::Lines };
    let content_type = match form {
        Form::Lines => "application/x-ndjson",
        Form::ServerSent => "text/event-stream",
    };
    let body = Body::from_stream(stream::unfold(follow(api.events, question, form, permit), next));
    Ok(([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body)
        .into_response())
}

fn parse(query: &str, headers: &HeaderMap) -> Result<Question, String> {
    let mut question = Question::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{key} must be a whole number"))
        };
        match key {
            "since" => question.since = Some(number()?),
            "last" => question.last = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            "follow" => {
                question.follow =
                    value.parse().map_err(|_| "follow must be true or false".to_owned())?;
            }
            _ => return Err("known here: since, last, follow".to_owned()),
        }
    }
    // What browsers send when they connect again.
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    question.since = question.since.or_else(|| seen.and_then(|seen| seen.parse().ok()));
    // Zero comes before every event: all that are kept.
    question.since = question.since.filter(|since| *since > 0);
    Ok(question)
}

/// Where a follower is. Holds no events: one that reads slowly misses some, and is told so.
struct Follower {
    events: Events,
    watch: watch::Receiver<u64>,
    seen: Option<u64>,
    follow: bool,
    form: Form,
    _permit: Option<OwnedSemaphorePermit>,
}

fn follow(
    events: Events,
    Question { since, last, follow }: Question,
    form: Form,
    permit: Option<OwnedSemaphorePermit>,
) -> Follower {
    let seen = since.or_else(|| last.map(|count| events.before_last(count)));
    let watch = events.watch();
    Follower { events, watch, seen, follow, form, _permit: permit }
}

/// The next piece of the body.
async fn next(mut follower: Follower) -> Option<(Result<Bytes, Infallible>, Follower)> {
    loop {
        follower.watch.borrow_and_update();
        let batch = follower.events.since(follower.seen, CHUNK);
        if batch.missed.is_some() || !batch.events.is_empty() {
            let text = follower.form.write(&batch);
            // Of numbers that were never given, what comes next is what there will be.
            let last = batch.events.last().map(|event| event.sequence);
            follower.seen = last.or_else(|| Some(follower.events.last()));
            return Some((Ok(text.into()), follower));
        }
        if !follower.follow {
            return None;
        }
        match timeout(HEARTBEAT, follower.watch.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if follower.events.last() == follower.seen.unwrap_or_default() => {
                return None;
            }
            Ok(Err(_)) => follower.follow = false,
            Err(_) => return Some((Ok(follower.form.heartbeat()), follower)),
        }
    }
}

impl Form {
    fn write(self, Batch { missed, events }: &Batch) -> String {
        let mut text = String::new();
        if let Some((from, to)) = *missed {
            let what = What::Gap { from, to };
            let (time, message) = (now(), what.to_string());
            let gap = Event { sequence: to, time, message, what };
            self.add(&mut text, &gap);
        }
        for event in events {
            self.add(&mut text, event);
        }
        text
    }

    fn add(self, text: &mut String, event: &Event) {
        // Numbers, strings and lists of them: nothing that JSON could not say.
        let json = serde_json::to_string(event).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Lines => writeln!(text, "{json}"),
            Self::ServerSent => {
                let (id, kind) = (event.sequence, event.what.kind().as_str());
                writeln!(text, "id: {id}\nevent: {kind}\ndata: {json}\n")
            }
        };
    }

    const fn heartbeat(self) -> Bytes {
        match self {
            Self::Lines => Bytes::from_static(b"\n"),
            Self::ServerSent => Bytes::from_static(b":\n\n"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: stamps gaps")]
fn now() -> String {
    rfc3339(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_others_refused() {
        let none = HeaderMap::new();
        let all = Question { since: Some(7), last: Some(2), follow: true };
        assert_eq!(parse("since=7&last=2&follow=true", &none), Ok(all));
        assert_eq!(parse("follow", &none), Ok(Question { follow: true, ..Question::default() }));
        assert_eq!(parse("", &none), Ok(Question::default()));
        assert_eq!(parse("since=0", &none), Ok(Question::default()));
        for wrong in ["since=x", "since=-1", "last=", "follow=yes", "until=3"] {
            assert!(parse(wrong, &none).is_err(), "{wrong}");
        }
        let headers =
            HeaderMap::from_iter([("last-event-id".parse().unwrap(), "9".parse().unwrap())]);
        let again: Question = parse("", &headers).unwrap();
        assert_eq!(again.since, Some(9));
    }

    #[test]
    fn both_forms_carry_the_same() {
        let events = Events::default();
        events.push(What::Stop { handover: true });
        let batch = Batch { missed: Some((1, 2)), ..events.since(None, 9) };
        let lines = Form::Lines.write(&batch);
        let read: Vec<Event> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read[0].what, What::Gap { from: 1, to: 2 });
        assert_eq!(read[1], *batch.events[0]);
        let sent = Form::ServerSent.write(&batch);
        let head = format!("id: {}\nevent: stop\ndata: {{", events.last());
        assert!(sent.contains(&head) && sent.ends_with("}\n\n"), "{sent}");
    }
}
