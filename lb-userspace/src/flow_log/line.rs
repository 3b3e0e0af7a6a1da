//! A line of the log. Pure.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::Why;
use crate::admin::model::rfc3339;
use crate::sync::record::FlowId;

/// What is said of a connection; `None` is null: it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `start` or `end`.
    pub event: &'static str,
    /// RFC 3339, when the event was read: within some ten milliseconds.
    pub time: String,
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub backend: Option<SocketAddr>,
    /// Where its requests come from, for the backend.
    pub source: Option<SocketAddr>,
    pub mode: Option<&'static str>,
    #[serde(flatten)]
    pub end: Option<End>,
}

/// What an end has besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    pub reason: Why,
    /// When it was established; null: before the log began, or that event was lost.
    pub start: Option<String>,
    pub duration_ms: Option<u64>,
    /// What the client sent since, by sequence numbers and so modulo 4 GiB; null: its start or its last
    /// numbers are not known.
    pub client_bytes: Option<u32>,
    /// What the backend sent; likewise, and null in `dsr`.
    pub backend_bytes: Option<u32>,
}

impl Line {
    pub(super) fn of(event: &'static str, id: FlowId, at: SystemTime) -> Self {
        let FlowId { client, vip } = id;
        Self {
            event,
            time: rfc3339(at),
            client,
            vip,
            backend: None,
            source: None,
            mode: None,
            end: None,
        }
    }

    /// With the newline.
    pub(super) fn json(&self) -> String {
        // Strings and numbers: there is nothing that JSON could not say.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// Says that so many events are missing.
pub(super) fn lost(count: u64, at: SystemTime) -> String {
    let line = serde_json::json!({ "event": "lost", "time": rfc3339(at), "count": count });
    format!("{line}\n")
}
