//! The machine of a connection between two nodes that have proved themselves: what is sent, what is carried out
//! here, what is compared. Both do the same for each other: each replicates the flows of the VIPs that it
//! serves. The driver feeds it. Pure.
//!
//! ```text
//!  sending                                        receiving
//!  serving ───────────────────────────────────►   whose flows follow
//!  changes, within BATCH ─────────────────────►   carried out; ack
//!  digest, every ROUND ───────────────────────►   compared with what is here
//!     ◄──────────────────── request: these buckets differ
//!  records of them, then end ─────────────────►   carried out; what is in none of them is discarded
//! ```
//!
//! A snapshot is the first round: of what a node that joins has not, all buckets differ. A connection that is slow
//! gets no more changes until it has taken what waits for it, and then a round of everything. Changes and records
//! are in one stream, in the order in which they were read: what is carried out later is later.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::buckets::{Buckets, Digest};
use super::packet::{Bye, Hello, Message, OLDEST, VERSION};
use super::record::{Change, FlowRecord};
use receiving::Receiving;
use sending::Sending;

mod receiving;
mod sending;
#[cfg(test)]
mod tests;

/// The longest that a change waits for others to go with.
pub const BATCH: Duration = Duration::from_millis(10);
/// Between the starts of two comparisons.
pub const ROUND: Duration = Duration::from_secs(5);
/// Who has nothing to say says so.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Who says nothing for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(3);
/// For so long after a VIP has moved, what its old node says of its flows is news to the new one. It goes on
/// forwarding what neighbours send there meanwhile, for 2 s if nothing else is configured, so that connections open
/// and close there.
pub const LAST_WORDS: Duration = Duration::from_secs(3);
/// Beyond so many bytes that wait for a connection it is slow.
pub const MAX_QUEUED: usize = 8 << 20;
/// Records of a round are added up to so many bytes.
pub const LOW_QUEUED: usize = 256 << 10;

/// The VIPs that a node serves.
pub type Vips = BTreeSet<IpAddr>;

/// What happens.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Flows of this node changed, in this order.
    Changed(&'a [Change]),
    /// Changes were lost before anybody saw them.
    Lost,
    /// This node serves other VIPs.
    Serving(&'a Vips),
    Received(Message),
    /// What [`Action::Start`] asked for.
    Digested {
        lane: Lane,
        digest: Box<Digest>,
        flows: u64,
    },
    /// A slice of what [`Action::Start`] asked for; `done`: the last.
    Found {
        lane: Lane,
        records: Vec<FlowRecord>,
        done: bool,
    },
    /// So many bytes wait for the connection.
    Queued(usize),
    Timer,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Send(Message),
    /// Look at the flows of this node, in place of what this lane did before.
    Start(Lane, Job),
    Stop(Lane),
    /// Changes of flows that the peer serves, or served a moment ago: what has come by here since is known better
    /// here.
    Apply(Vec<Change>),
    /// Flows that the peer, which serves their VIP, does not have: they end here, and their clients are told.
    Discard(Vec<FlowRecord>),
    /// The connection is of no use.
    Close(Reason),
}

/// Of the two looks at this node's flows that a session may have under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// For the peer.
    Sending,
    /// For comparing with what the peer has.
    Receiving,
}

/// A look at all flows of this node, slice by slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Digest {
        vips: Vips,
    },
    /// Those of these VIPs in these buckets.
    Records {
        vips: Vips,
        buckets: Box<Buckets>,
    },
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was heard for [`SILENCE`].
    Silent,
    /// It acknowledges nothing.
    Stuck,
    /// What it says has no place here.
    Unexpected,
    /// It sends more flows than there can be.
    TooMany,
    Bye(Bye),
}

/// What is known of a connection, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Everything of the peer's is here.
    pub is_synced: bool,
    /// Changes and records sent, and carried out here.
    pub sent: u64,
    pub received: u64,
    /// Flows of the peer's that are here, by the last comparison, and of ours that are there.
    pub held: u64,
    pub held_by_peer: u64,
    /// How long the oldest change that is not acknowledged has waited, or the last one did.
    pub lag: Duration,
    /// When the last comparison ended, and how many buckets differed.
    pub compared: Option<(Instant, usize)>,
    /// How often changes were not sent because the peer was slow, or lost before.
    pub resyncs: u64,
    /// Changes that were not carried out: this node serves their VIP too, or the peer does not.
    pub ignored: u64,
    /// Flows that only this node had.
    pub discarded: u64,
}

/// A connection whose ends know each other.
#[derive(Debug)]
pub struct Session {
    own: Vips,
    sending: Sending,
    receiving: Receiving,
    heard: Instant,
    spoke: Instant,
    is_closed: bool,
}

impl Session {
    /// A new connection, and what is to be done first. No peer has more than `capacity` flows.
    pub fn new(own: &Vips, capacity: usize, now: Instant) -> (Self, Vec<Action>) {
        let mut session = Self {
            own: own.clone(),
            sending: Sending::new(now),
            receiving: Receiving::new(capacity, now),
            heard: now,
            spoke: now,
            is_closed: false,
        };
        let mut todo = Vec::new();
        session.sending.serve(&session.own, now, &mut todo);
        session.note_spoken(&todo, now);
        (session, todo)
    }

    /// Feeds an event.
    pub fn handle(&mut self, event: Event<'_>, now: Instant) -> Vec<Action> {
        let mut todo = Vec::new();
        if self.is_closed {
            return todo;
        }
        match event {
            Event::Changed(changes) => self.sending.changed(&self.own, changes, now, &mut todo),
            Event::Lost => self.sending.lost(&self.own, now, &mut todo),
            Event::Serving(vips) => self.serve(vips, now, &mut todo),
            Event::Received(message) => {
                self.heard = now;
                self.receive(message, now, &mut todo);
            }
            Event::Digested { lane: Lane::Sending, digest, flows } => {
                self.sending.digested(digest, flows, now, &mut todo);
            }
            Event::Digested { lane: Lane::Receiving, digest, flows } => {
                self.receiving.compared(&digest, flows, now, &mut todo);
            }
            Event::Found { lane: Lane::Sending, records, done } => {
                self.sending.found(records, done, now, &mut todo);
            }
            Event::Found { lane: Lane::Receiving, records, done } => {
                self.receiving.excess(records, done, now, &mut todo);
            }
            Event::Queued(bytes) => self.sending.queued(&self.own, bytes, now, &mut todo),
            Event::Timer => self.timer(now, &mut todo),
        }
        self.is_closed = todo.iter().any(|action| matches!(action, Action::Close(_)));
        self.note_spoken(&todo, now);
        todo
    }

    /// When to call [`Self::handle`] with [`Event::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        let silence = (self.heard + SILENCE).min(self.spoke + KEEP_ALIVE);
        let others = [self.sending.deadline(), self.receiving.deadline()];
        (!self.is_closed).then(|| others.into_iter().flatten().fold(silence, Instant::min))
    }

    pub fn view(&self, now: Instant) -> View {
        let mut view = View::default();
        self.sending.show(&mut view, now);
        self.receiving.show(&mut view);
        view
    }

    /// The VIPs that the peer serves.
    pub fn peer_serves(&self) -> &Vips {
        self.receiving.peer_serves()
    }

    fn serve(&mut self, vips: &Vips, now: Instant, todo: &mut Vec<Action>) {
        if *vips == self.own {
            return;
        }
        self.receiving.serve(&self.own, vips, now, todo);
        // What happened under the old set goes out under it.
        self.sending.flush(now, todo);
        self.sending.leave(self.own.difference(vips).copied().collect(), now);
        self.own.clone_from(vips);
        self.sending.serve(&self.own, now, todo);
    }

    fn receive(&mut self, message: Message, now: Instant, todo: &mut Vec<Action>) {
        match message {
            Message::Hello(_) => todo.push(Action::Close(Reason::Unexpected)),
            Message::Serving(vips) => self.receiving.peer_serving(&self.own, vips, now, todo),
            Message::Changes(changes) => self.receiving.changes(&self.own, changes, now, todo),
            Message::Ack(ack) => self.sending.acknowledged(&ack, now, todo),
            Message::Digest { round, is_resync, flows, digest } => {
                self.receiving.digest(&self.own, (round, is_resync), (digest, flows), now, todo);
            }
            Message::Request { round, buckets } => {
                self.sending.requested(&self.own, (round, buckets), now, todo);
            }
            Message::Records { round, records } => {
                self.receiving.records(&self.own, round, records, now, todo);
            }
            Message::End { round, buckets } => self.receiving.end(round, &buckets, now, todo),
            Message::KeepAlive => {}
            Message::Bye(bye) => todo.push(Action::Close(Reason::Bye(bye))),
        }
    }

    fn timer(&mut self, now: Instant, todo: &mut Vec<Action>) {
        if now >= self.heard + SILENCE {
            todo.push(Action::Close(Reason::Silent));
            return;
        }
        self.sending.timer(&self.own, now, todo);
        self.receiving.timer(now, todo);
        if now >= self.spoke + KEEP_ALIVE && !says_something(todo) {
            todo.push(Action::Send(Message::KeepAlive));
        }
    }

    fn note_spoken(&mut self, todo: &[Action], now: Instant) {
        if says_something(todo) {
            self.spoke = now;
        }
    }
}

fn says_something(todo: &[Action]) -> bool {
    todo.iter().any(|action| matches!(action, Action::Send(_)))
}

/// The version that two nodes speak; none: they have none in common.
pub fn agree(theirs: &Hello) -> Option<u8> {
    let newest = theirs.newest.min(VERSION);
    (newest >= theirs.oldest.max(OLDEST)).then_some(newest)
}
