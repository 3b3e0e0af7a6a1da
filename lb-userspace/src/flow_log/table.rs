//! Which connections are open, and what is said when they begin and end. Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::SystemTime;

use lb_common::conntrack::flag;
use serde::Serialize;

use super::line::{End, Line};
use crate::admin::model::rfc3339;
use crate::control::flows::mode;
use crate::sync::record::{FlowId, FlowRecord, Progress};

/// An event of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Put(FlowRecord),
    Removed(FlowId, Why),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Both sent their FIN, the client first.
    ClosedByClient,
    ClosedByBackend,
    ResetByClient,
    /// By the backend, or in its name.
    ResetByBackend,
    /// Nobody was seen for longer than its timeout.
    Idle,
    /// An operator removed it.
    Purged,
    /// Its backend was given up.
    GivenUp,
    /// The node that serves its VIP does not know it.
    Disowned,
    /// The client uses the addresses and ports for a new one.
    Replaced,
}

/// A connection that is known.
#[derive(Clone, Copy, Debug)]
struct Open {
    record: FlowRecord,
    /// `None`: it was there before.
    since: Option<SystemTime>,
    is_over: bool,
}

/// The connections that are known, so many at most.
#[derive(Debug)]
pub struct Table {
    open: HashMap<FlowId, Open>,
    capacity: usize,
    untold: u64,
}

impl Table {
    pub fn new(capacity: usize) -> Self {
        Self { open: HashMap::new(), capacity, untold: 0 }
    }

    /// The lines that an event leads to.
    pub fn note(&mut self, told: Told, at: SystemTime) -> Vec<Line> {
        match told {
            Told::Put(record) => self.put(record, at),
            Told::Removed(id, why) => {
                let known = self.open.remove(&id).filter(|known| !known.is_over);
                known.map(|known| end(&known, None, why, at)).into_iter().collect()
            }
        }
    }

    /// Connections that there was no room for, since this was last asked.
    pub fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    fn put(&mut self, record: FlowRecord, at: SystemTime) -> Vec<Line> {
        let known = self.open.get(&record.id).copied();
        match (known, record.is_over()) {
            // The second FIN after a RST, or a RST after both.
            (Some(known), true) if known.is_over => Vec::new(),
            (Some(known), true) => {
                self.keep(Open { is_over: true, ..known });
                vec![end(&known, Some(&record), reason(&record), at)]
            }
            (None, true) => {
                let known = Open { record, since: None, is_over: true };
                self.keep(known);
                vec![end(&known, Some(&record), reason(&record), at)]
            }
            // It began to close, or goes another way.
            (Some(known), false) if !known.is_over && is_same(&known.record, &record) => Vec::new(),
            (Some(known), false) => {
                let mut lines = Vec::new();
                if !known.is_over {
                    lines.push(end(&known, None, Why::Replaced, at));
                }
                lines.extend(self.begin(record, at));
                lines
            }
            (None, false) => self.begin(record, at).into_iter().collect(),
        }
    }

    fn begin(&mut self, record: FlowRecord, at: SystemTime) -> Option<Line> {
        let is_closing = closing(&record);
        let since = (!is_closing).then_some(at);
        self.keep(Open { record, since, is_over: false });
        // One that is half closed has begun before.
        (!is_closing).then(|| named(Line::of("start", record.id, at), &record))
    }

    fn keep(&mut self, open: Open) {
        if self.open.len() < self.capacity || self.open.contains_key(&open.record.id) {
            self.open.insert(open.record.id, open);
        } else {
            self.untold += 1;
        }
    }
}

fn is_same(one: &FlowRecord, other: &FlowRecord) -> bool {
    (one.source, one.backend) == (other.source, other.backend)
}

fn closing(record: &FlowRecord) -> bool {
    let replied = record.reply.map_or(0, |reply| reply.flags);
    (record.original.flags | replied) & (flag::FIN | flag::RST) != 0
}

fn reason(record: &FlowRecord) -> Why {
    let (original, reply) = (record.original.flags, record.reply.map_or(0, |reply| reply.flags));
    if original & flag::RST != 0 {
        Why::ResetByClient
    } else if reply & flag::RST != 0 {
        Why::ResetByBackend
    } else if reply & flag::FIN_FIRST != 0 {
        Why::ClosedByBackend
    } else {
        Why::ClosedByClient
    }
}

fn named(line: Line, record: &FlowRecord) -> Line {
    Line {
        backend: Some(record.backend),
        source: Some(record.source),
        mode: Some(mode(record.kind)),
        ..line
    }
}

/// `last`: as it was at its end.
fn end(known: &Open, last: Option<&FlowRecord>, why: Why, at: SystemTime) -> Line {
    let first = &known.record;
    let sent = |first: Option<Progress>, last: Option<Progress>| {
        known.since?;
        Some(sent(first?, last?))
    };
    let end = End {
        reason: why,
        start: known.since.map(rfc3339),
        duration_ms: known.since.map(|since| {
            let span = at.duration_since(since).unwrap_or_default();
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
        }),
        client_bytes: sent(Some(first.original), last.map(|last| last.original)),
        backend_bytes: sent(first.reply, last.and_then(|last| last.reply)),
    };
    Line { end: Some(end), ..named(Line::of("end", first.id, at), first) }
}

/// Sequence numbers count a FIN too.
const fn sent(first: Progress, last: Progress) -> u32 {
    if last.flags & flag::FIN != 0 {
        last.fin_end.wrapping_sub(first.seq_end).wrapping_sub(1)
    } else {
        last.seq_end.wrapping_sub(first.seq_end)
    }
}

/// A number of a flow that is the same each time.
pub(super) fn number(id: &FlowId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
