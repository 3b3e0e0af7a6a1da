//! The half of a session that replicates this node's flows. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::buckets::{Buckets, Digest};
use super::super::packet::{Ack, Changes, MAX_CHANGES, Message};
use super::super::record::{Change, FlowId, FlowRecord};
use super::{
    Action, BATCH, Job, LAST_WORDS, LOW_QUEUED, Lane, MAX_QUEUED, ROUND, Reason, View, Vips,
};

/// Messages that may be without an acknowledgement: a second of the fullest there can be.
const MAX_UNACKNOWLEDGED: usize = 4096;
/// A comparison costs a look at all flows: what it takes is at most this part of the time.
const REST: u32 = 10;

#[derive(Debug)]
pub(super) struct Sending {
    started: Instant,
    /// Changes that wait for others, and since when.
    batch: Vec<Change>,
    since: Option<Instant>,
    /// Number of the next change.
    next: u64,
    /// For each message on the way the number after its last change, and when it was sent.
    on_the_way: VecDeque<(u64, Instant)>,
    lag: Duration,
    queued: usize,
    /// The peer is slow: changes are not sent.
    is_behind: bool,
    /// VIPs that this node served, and until when what it still sees of their flows is told.
    left: Option<(Vips, Instant)>,
    work: Work,
    round: u32,
    /// Changes were not sent, which the next round has to tell.
    owes_resync: bool,
    /// When the next round starts; `None`: no VIP is served.
    round_at: Option<Instant>,
    round_started: Instant,
    sent: u64,
    held_by_peer: u64,
    resyncs: u64,
}

/// What is done for the peer beside sending changes.
#[derive(Debug, PartialEq, Eq)]
enum Work {
    Idle,
    Digesting { is_resync: bool },
    Answering { buckets: Box<Buckets> },
}

impl Sending {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            batch: Vec::new(),
            since: None,
            next: 0,
            on_the_way: VecDeque::new(),
            lag: Duration::ZERO,
            queued: 0,
            is_behind: false,
            left: None,
            work: Work::Idle,
            round: 0,
            owes_resync: true,
            round_at: None,
            round_started: now,
            sent: 0,
            held_by_peer: 0,
            resyncs: 0,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let round = self.round_at.filter(|_| self.may_start());
        self.since.map(|since| since + BATCH).into_iter().chain(round).min()
    }

    pub(super) fn show(&self, view: &mut View, now: Instant) {
        let waits = self.on_the_way.front().map(|(_, sent)| now.saturating_duration_since(*sent));
        view.lag = waits.map_or(self.lag, |waits| waits.max(self.lag));
        view.sent = self.sent;
        view.held_by_peer = self.held_by_peer;
        view.resyncs = self.resyncs;
    }

    /// Other VIPs are served: their flows are sent from here on.
    pub(super) fn serve(&mut self, own: &Vips, now: Instant, todo: &mut Vec<Action>) {
        send(Message::Serving(own.clone()), todo);
        self.leave_off(todo);
        self.owes_resync = true;
        self.round_at = (!own.is_empty()).then_some(now);
        self.start_round(own, now, todo);
    }

    /// These VIPs are served here no more.
    pub(super) fn leave(&mut self, vips: Vips, now: Instant) {
        self.left = (!vips.is_empty()).then_some((vips, now + LAST_WORDS));
    }

    pub(super) fn changed(
        &mut self,
        own: &Vips,
        changes: &[Change],
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        self.left.take_if(|(_, until)| now >= *until);
        let left = self.left.as_ref().map(|(vips, _)| vips.clone()).unwrap_or_default();
        let is_told = |change: &&Change| {
            let vip = id_of(change).vip.ip();
            own.contains(&vip) || left.contains(&vip)
        };
        for change in changes.iter().filter(is_told) {
            if self.is_behind {
                self.owes_resync = true;
                return;
            }
            self.batch.push(*change);
            self.since.get_or_insert(now);
            if self.batch.len() >= MAX_CHANGES {
                self.flush(now, todo);
            }
        }
    }

    /// Sends what waits for others; or nothing any more, if the peer is slow.
    pub(super) fn flush(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.since = None;
        let changes = std::mem::take(&mut self.batch);
        if changes.is_empty() {
            return;
        }
        if self.queued > MAX_QUEUED {
            self.is_behind = true;
            self.owes_resync = true;
            self.leave_off(todo);
            return;
        }
        let (first, count) = (self.next, changes.len() as u64);
        self.next += count;
        self.sent += count;
        let sent = now.saturating_duration_since(self.started).as_nanos();
        let sent = u64::try_from(sent).unwrap_or(u64::MAX);
        self.on_the_way.push_back((self.next, now));
        send(Message::Changes(Changes { first, sent, changes }), todo);
        if self.on_the_way.len() > MAX_UNACKNOWLEDGED {
            todo.push(Action::Close(Reason::Stuck));
        }
    }

    pub(super) fn acknowledged(&mut self, ack: &Ack, now: Instant, todo: &mut Vec<Action>) {
        if ack.next > self.next {
            todo.push(Action::Close(Reason::Unexpected));
            return;
        }
        self.held_by_peer = ack.held;
        while let Some((next, sent)) = self.on_the_way.front()
            && *next <= ack.next
        {
            self.lag = now.saturating_duration_since(*sent);
            self.on_the_way.pop_front();
        }
    }

    pub(super) fn lost(&mut self, own: &Vips, now: Instant, todo: &mut Vec<Action>) {
        self.resyncs += 1;
        self.owes_resync = true;
        self.round_at = self.round_at.map(|at| at.min(now));
        self.start_round(own, now, todo);
    }

    /// `bytes` wait for the connection.
    pub(super) fn queued(
        &mut self,
        own: &Vips,
        bytes: usize,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        self.queued = bytes;
        if self.is_behind && bytes == 0 {
            self.is_behind = false;
            self.lost(own, now, todo);
        }
    }

    pub(super) fn timer(&mut self, own: &Vips, now: Instant, todo: &mut Vec<Action>) {
        if self.since.is_some_and(|since| now >= since + BATCH) {
            self.flush(now, todo);
        }
        if self.round_at.is_some_and(|at| now >= at) {
            self.start_round(own, now, todo);
        }
    }

    fn may_start(&self) -> bool {
        self.work == Work::Idle && !self.is_behind && self.queued <= LOW_QUEUED
    }

    fn start_round(&mut self, own: &Vips, now: Instant, todo: &mut Vec<Action>) {
        if self.round_at.is_none_or(|at| at > now) || !self.may_start() {
            return;
        }
        self.round = self.round.wrapping_add(1);
        self.round_started = now;
        self.round_at = Some(now + ROUND);
        let is_resync = std::mem::take(&mut self.owes_resync);
        self.work = Work::Digesting { is_resync };
        todo.push(Action::Start(Lane::Sending, Job::Digest { vips: own.clone() }));
    }

    pub(super) fn digested(
        &mut self,
        digest: Box<Digest>,
        flows: u64,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        let Work::Digesting { is_resync } = self.work else { return };
        self.work = Work::Idle;
        let took = now.saturating_duration_since(self.round_started);
        self.round_at = self.round_at.map(|at| at.max(now + took * REST));
        // What was seen on the way is told before.
        self.flush(now, todo);
        if self.is_behind {
            return;
        }
        send(Message::Digest { round: self.round, is_resync, flows, digest }, todo);
    }

    pub(super) fn requested(
        &mut self,
        own: &Vips,
        (round, buckets): (u32, Box<Buckets>),
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        if buckets.is_empty() {
            self.owes_resync = true;
            self.round_at = self.round_at.map(|at| at.min(now));
            self.start_round(own, now, todo);
            return;
        }
        // Of an earlier round, or in the midst of something: the next round tells what differs.
        if round != self.round || self.work != Work::Idle || self.is_behind {
            return;
        }
        let job = Job::Records { vips: own.clone(), buckets: buckets.clone() };
        self.work = Work::Answering { buckets };
        todo.push(Action::Start(Lane::Sending, job));
    }

    pub(super) fn found(
        &mut self,
        records: Vec<FlowRecord>,
        done: bool,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        let Work::Answering { buckets } = &self.work else { return };
        let buckets = buckets.clone();
        // A record must not overtake a change that was seen before it was read.
        self.flush(now, todo);
        if self.is_behind {
            return;
        }
        self.sent += records.len() as u64;
        let round = self.round;
        for part in records.chunks(MAX_CHANGES) {
            send(Message::Records { round, records: part.to_vec() }, todo);
        }
        if done {
            self.work = Work::Idle;
            send(Message::End { round, buckets }, todo);
        }
    }

    fn leave_off(&mut self, todo: &mut Vec<Action>) {
        if std::mem::replace(&mut self.work, Work::Idle) != Work::Idle {
            todo.push(Action::Stop(Lane::Sending));
        }
    }
}

fn send(message: Message, todo: &mut Vec<Action>) {
    todo.push(Action::Send(message));
}

const fn id_of(change: &Change) -> &FlowId {
    match change {
        Change::Put(record) => &record.id,
        Change::Removed(id) => id,
    }
}
