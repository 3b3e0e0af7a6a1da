//! The half of a session that carries out here what the peer replicates. Pure.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::super::buckets::{Buckets, Digest, bucket_of, hash_of};
use super::super::packet::{Ack, Changes, Message};
use super::super::record::{Change, FlowRecord};
use super::{Action, Job, LAST_WORDS, Lane, Reason, View, Vips};

/// Buckets that are asked for in a round, unless it is one of everything: with many changes under way most buckets
/// differ at any moment.
const PART: usize = 128;
/// An answer that does not go on for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Receiving {
    peer: Vips,
    capacity: usize,
    work: Work,
    /// Everything that differed was asked for since the peer serves these VIPs.
    is_synced: bool,
    /// VIPs that this node has just taken over, and until when that is so.
    taken_over: Option<(Vips, Instant)>,
    /// Where the next part of the buckets starts.
    start: usize,
    last_progress: Instant,
    received: u64,
    held: u64,
    compared: Option<(Instant, usize)>,
    ignored: u64,
    discarded: u64,
}

/// What becomes of a digest of the peer's.
#[derive(Debug)]
enum Work {
    Idle,
    Comparing {
        round: u32,
        all: bool,
        theirs: Box<Digest>,
        /// Flows that it is of.
        count: u64,
    },
    /// The peer sends what differs.
    Filling(Filling),
    /// What is here and was not sent is looked for.
    Pruning(Filling),
}

#[derive(Debug)]
struct Filling {
    round: u32,
    buckets: Box<Buckets>,
    all: bool,
    /// There was nothing here before, so that nothing can be too much.
    is_first: bool,
    /// Flows that the peer has.
    count: u64,
    /// Of these buckets, by their hashes.
    seen: HashSet<u64>,
}

impl Receiving {
    pub(super) fn new(capacity: usize, now: Instant) -> Self {
        Self {
            peer: Vips::new(),
            capacity,
            work: Work::Idle,
            is_synced: false,
            taken_over: None,
            start: 0,
            last_progress: now,
            received: 0,
            held: 0,
            compared: None,
            ignored: 0,
            discarded: 0,
        }
    }

    pub(super) const fn peer_serves(&self) -> &Vips {
        &self.peer
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        matches!(self.work, Work::Filling(_)).then(|| self.last_progress + PATIENCE)
    }

    pub(super) fn show(&self, view: &mut View) {
        view.is_synced = self.is_synced;
        view.received = self.received;
        view.held = self.held;
        view.compared = self.compared;
        view.ignored = self.ignored;
        view.discarded = self.discarded;
    }

    /// This node serves other VIPs from here on.
    pub(super) fn serve(&mut self, old: &Vips, new: &Vips, now: Instant, todo: &mut Vec<Action>) {
        let taken: Vips =
            new.difference(old).filter(|vip| self.peer.contains(vip)).copied().collect();
        if !taken.is_empty() {
            self.taken_over = Some((taken, now + LAST_WORDS));
        }
        self.leave_off(todo);
        if !self.peer.is_disjoint(old) && self.peer.is_disjoint(new) {
            // What it said while both served was not compared.
            self.is_synced = false;
            let buckets = Box::default();
            todo.push(Action::Send(Message::Request { round: 0, buckets }));
        }
    }

    /// The peer serves other VIPs: what is here of them is compared once its digest comes.
    pub(super) fn peer_serving(
        &mut self,
        own: &Vips,
        vips: Vips,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        self.leave_off(todo);
        self.last_progress = now;
        // There is nothing to wait for from who serves nothing.
        self.is_synced = vips.is_subset(own);
        self.peer = vips;
    }

    pub(super) fn changes(
        &mut self,
        own: &Vips,
        Changes { first, sent, changes }: Changes,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        let next = first.saturating_add(changes.len() as u64);
        let mut applied = Vec::with_capacity(changes.len());
        for change in changes {
            let vip = match &change {
                Change::Put(record) => record.id.vip.ip(),
                Change::Removed(id) => id.vip.ip(),
            };
            if self.peer.contains(&vip) && !own.contains(&vip) {
                self.note_seen(&change);
                applied.push(change);
            } else if self.is_just_taken_over(vip, now) {
                applied.push(change);
            } else {
                self.ignored += 1;
            }
        }
        self.received += applied.len() as u64;
        if !applied.is_empty() {
            todo.push(Action::Apply(applied));
        }
        todo.push(Action::Send(Message::Ack(Ack { next, sent, held: self.held })));
        self.check_capacity(todo);
    }

    pub(super) fn digest(
        &mut self,
        own: &Vips,
        (round, is_resync): (u32, bool),
        (theirs, count): (Box<Digest>, u64),
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        // While both serve a VIP neither follows the other.
        if self.peer.is_empty() || !self.peer.is_disjoint(own) {
            return;
        }
        let all = is_resync || !self.is_synced;
        if !matches!(self.work, Work::Idle) && !is_resync {
            return;
        }
        self.last_progress = now;
        self.work = Work::Comparing { round, all, theirs, count };
        todo.push(Action::Start(Lane::Receiving, Job::Digest { vips: self.peer.clone() }));
    }

    /// The digest of what is here of the peer's flows.
    pub(super) fn compared(
        &mut self,
        ours: &Digest,
        flows: u64,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        let Work::Comparing { round, all, theirs, count } = &self.work else { return };
        let (round, all, count) = (*round, *all, *count);
        let differing = ours.differing(theirs);
        self.held = flows;
        self.last_progress = now;
        self.compared = Some((now, differing.len()));
        if differing.is_empty() {
            self.work = Work::Idle;
            self.is_synced = true;
            return;
        }
        let buckets = if all { differing } else { differing.some(self.start, PART) };
        self.start = buckets.iter().last().map_or(0, |last| last + 1);
        let buckets = Box::new(buckets);
        todo.push(Action::Send(Message::Request { round, buckets: buckets.clone() }));
        let (is_first, seen) = (flows == 0, HashSet::new());
        self.work = Work::Filling(Filling { round, buckets, all, is_first, count, seen });
    }

    pub(super) fn records(
        &mut self,
        own: &Vips,
        round: u32,
        records: Vec<FlowRecord>,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        match &mut self.work {
            Work::Filling(filling) if filling.round == round => {
                filling.seen.extend(records.iter().map(|record| hash_of(&record.id)));
            }
            // Of a round that this node has left.
            Work::Idle | Work::Comparing { .. } | Work::Filling(_) | Work::Pruning(_) => return,
        }
        self.last_progress = now;
        let is_theirs = |record: &FlowRecord| {
            let vip = record.id.vip.ip();
            self.peer.contains(&vip) && !own.contains(&vip)
        };
        let puts: Vec<Change> = records.into_iter().filter(is_theirs).map(Change::Put).collect();
        self.received += puts.len() as u64;
        if !puts.is_empty() {
            todo.push(Action::Apply(puts));
        }
        self.check_capacity(todo);
    }

    pub(super) fn end(
        &mut self,
        round: u32,
        buckets: &Buckets,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        self.work = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Filling(filling) if filling.round == round && *filling.buckets == *buckets => {
                if filling.is_first {
                    self.filled(&filling);
                    return;
                }
                let (vips, buckets) = (self.peer.clone(), filling.buckets.clone());
                todo.push(Action::Start(Lane::Receiving, Job::Records { vips, buckets }));
                self.last_progress = now;
                Work::Pruning(filling)
            }
            other @ (Work::Idle | Work::Comparing { .. } | Work::Filling(_) | Work::Pruning(_)) => {
                other
            }
        };
    }

    /// Flows that are here, in the buckets that the peer has sent: those it has not sent are too many.
    pub(super) fn excess(
        &mut self,
        records: Vec<FlowRecord>,
        done: bool,
        now: Instant,
        todo: &mut Vec<Action>,
    ) {
        let Work::Pruning(filling) = &self.work else { return };
        self.last_progress = now;
        let is_unknown = |record: &FlowRecord| !filling.seen.contains(&hash_of(&record.id));
        let discarded: Vec<FlowRecord> = records.into_iter().filter(is_unknown).collect();
        self.discarded += discarded.len() as u64;
        if !discarded.is_empty() {
            todo.push(Action::Discard(discarded));
        }
        if done && let Work::Pruning(filling) = std::mem::replace(&mut self.work, Work::Idle) {
            self.filled(&filling);
        }
    }

    /// What differed is as the peer has it.
    const fn filled(&mut self, filling: &Filling) {
        self.is_synced |= filling.all;
        if filling.all {
            self.held = filling.count;
        }
    }

    pub(super) fn timer(&mut self, now: Instant, todo: &mut Vec<Action>) {
        if self.deadline().is_some_and(|at| now >= at) {
            self.leave_off(todo);
        }
    }

    /// What is changed while a round is under way is not too many.
    fn note_seen(&mut self, change: &Change) {
        let (Work::Filling(filling) | Work::Pruning(filling)) = &mut self.work else { return };
        if let Change::Put(record) = change
            && filling.buckets.contains(bucket_of(&record.id))
        {
            filling.seen.insert(hash_of(&record.id));
        }
    }

    fn is_just_taken_over(&self, vip: std::net::IpAddr, now: Instant) -> bool {
        self.taken_over.as_ref().is_some_and(|(vips, until)| now < *until && vips.contains(&vip))
    }

    fn check_capacity(&self, todo: &mut Vec<Action>) {
        let (Work::Filling(filling) | Work::Pruning(filling)) = &self.work else { return };
        if filling.seen.len() > self.capacity {
            todo.push(Action::Close(Reason::TooMany));
        }
    }

    fn leave_off(&mut self, todo: &mut Vec<Action>) {
        if !matches!(std::mem::replace(&mut self.work, Work::Idle), Work::Idle) {
            todo.push(Action::Stop(Lane::Receiving));
        }
    }
}
