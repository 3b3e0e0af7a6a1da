//! A peer as the thread for sync knows it: dialled, or connected. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::super::connection::{Outbox, Reading};
use super::super::fsm::{self, Action, Job, LOW_QUEUED, Lane, MAX_QUEUED, Reason, Session};
use super::super::key::Key;
use super::super::packet::{Bye, Message};
use super::super::record::{FlowId, FlowRecord};
use super::super::store::{Store, Walk};
use super::super::view::PeerView;
use super::super::warmth;
use super::clients;

/// Between attempts: the first, and the longest.
const AGAIN: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);

/// A node that is configured.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) live: Option<Live>,
    pub(super) dialing: Option<JoinHandle<()>>,
    pub(super) dial_at: Instant,
    pub(super) attempts: u32,
    /// How often nobody listened there since this node is cold.
    pub(super) tried: u32,
    pub(super) since: Instant,
    pub(super) error: Option<String>,
    pub(super) name: Option<String>,
}

/// A connection to it.
pub(super) struct Live {
    pub(super) id: u64,
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    pub(super) jobs: BTreeMap<Lane, Work>,
    pub(super) was_synced: bool,
    /// Flows that the controller is to end.
    pub(super) discarded: Vec<FlowId>,
    /// Clients of flows that the peer told of.
    pub(super) clients: BTreeSet<IpAddr>,
    /// It ends when this goes.
    pub(super) _reading: Reading,
}

/// A look at this node's flows that is under way.
pub(super) struct Work {
    job: Job,
    walk: Box<dyn Walk>,
    digest: Box<super::super::buckets::Digest>,
    flows: u64,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            live: None,
            dialing: None,
            dial_at: now,
            attempts: 0,
            tried: 0,
            since: now,
            error: None,
            name: None,
        }
    }

    /// There is no connection any more, or there was to be one.
    pub(super) fn lost(&mut self, reason: String, now: Instant) {
        if self.live.take().is_some() {
            self.since = now;
            self.attempts = 0;
        }
        let wait = AGAIN.saturating_mul(1 << self.attempts.min(8)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        self.dial_at = now + wait;
        self.error = Some(reason);
    }

    pub(super) fn view(&self, now: Instant) -> PeerView {
        PeerView {
            address: self.address,
            name: self.name.clone(),
            since: self.since,
            session: self.live.as_ref().map(|live| live.session.view(now)),
            error: self.error.clone(),
        }
    }

    /// For the question whether this node knows enough.
    pub(super) fn stands(&self, now: Instant) -> warmth::Peer {
        match &self.live {
            None => warmth::Peer::Away { tried: self.tried >= 2 },
            Some(live) => {
                let is_synced = live.session.view(now).is_synced;
                warmth::Peer::Connected { since: self.since, is_synced }
            }
        }
    }
}

impl Live {
    /// Does what the session wants. `Some`: its end.
    pub(super) fn perform(
        &mut self,
        actions: Vec<Action>,
        store: &mut dyn Store,
    ) -> anyhow::Result<Option<Reason>> {
        let mut end = None;
        for action in actions {
            match action {
                Action::Send(message) => self.outbox.send(&message),
                Action::Start(lane, job) => {
                    let (walk, digest) = (store.walk()?, Box::default());
                    self.jobs.insert(lane, Work { job, walk, digest, flows: 0 });
                }
                Action::Stop(lane) => drop(self.jobs.remove(&lane)),
                Action::Apply(changes) => {
                    store.apply(&changes)?;
                    self.clients.extend(changes.iter().filter_map(clients::of));
                }
                Action::Discard(records) => {
                    self.discarded.extend(records.iter().map(|record| record.id));
                }
                Action::Close(reason) => end = Some(reason),
            }
        }
        // It acknowledges and reads nothing, and goes on sending.
        let is_stuck = self.outbox.waiting() > 2 * MAX_QUEUED;
        Ok(end.or_else(|| is_stuck.then_some(Reason::Stuck)))
    }

    pub(super) fn feed(
        &mut self,
        event: fsm::Event<'_>,
        store: &mut dyn Store,
        now: Instant,
    ) -> anyhow::Result<Option<Reason>> {
        let actions = self.session.handle(event, now);
        self.perform(actions, store)
    }

    /// Whether there is a slice to look at.
    pub(super) fn has_work(&self) -> bool {
        self.jobs.keys().any(|lane| self.may_work(*lane))
    }

    /// What is read for a peer that is slow would only wait.
    fn may_work(&self, lane: Lane) -> bool {
        match lane {
            Lane::Sending => self.outbox.waiting() <= LOW_QUEUED,
            Lane::Receiving => true,
        }
    }

    /// Looks at a slice in each lane.
    pub(super) fn work(
        &mut self,
        store: &mut dyn Store,
        now: Instant,
    ) -> anyhow::Result<Option<Reason>> {
        for lane in [Lane::Sending, Lane::Receiving] {
            if !self.may_work(lane) {
                continue;
            }
            let Some(mut work) = self.jobs.remove(&lane) else { continue };
            let mut records = Vec::new();
            let done = work.slice(&mut records)?;
            let event = match (&work.job, done) {
                (Job::Digest { .. }, false) => {
                    self.jobs.insert(lane, work);
                    continue;
                }
                (Job::Digest { .. }, true) => {
                    fsm::Event::Digested { lane, digest: work.digest, flows: work.flows }
                }
                (Job::Records { .. }, done) => {
                    if lane == Lane::Receiving {
                        records.retain(|record| !record.is_over());
                    }
                    if !done {
                        self.jobs.insert(lane, work);
                    }
                    fsm::Event::Found { lane, records, done }
                }
            };
            if let Some(reason) = self.feed(event, store, now)? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    pub(super) fn goodbye(&self, bye: Bye) {
        self.outbox.send(&Message::Bye(bye));
    }
}

impl Work {
    /// Looks at the next slice; of a digest nothing is appended.
    fn slice(&mut self, records: &mut Vec<FlowRecord>) -> anyhow::Result<bool> {
        use super::super::buckets::bucket_of;
        use super::super::store::Detail;
        let Self { job, walk, digest, flows } = self;
        match job {
            Job::Records { vips, buckets } => walk.slice(
                Detail::Whole,
                &|id| vips.contains(&id.vip.ip()) && buckets.contains(bucket_of(id)),
                records,
            ),
            Job::Digest { vips } => {
                let done =
                    walk.slice(Detail::Outline, &|id| vips.contains(&id.vip.ip()), records)?;
                // What is about to go goes at another moment there.
                records.retain(|record| !record.is_over());
                *flows += records.len() as u64;
                records.drain(..).for_each(|record| digest.toggle(&record));
                Ok(done)
            }
        }
    }
}
