//! Two machines and what is between them: a link that is slow, breaks, or takes nothing for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::*;
use crate::sync::buckets::bucket_of;
use crate::sync::record::FlowId;

pub(super) const VIP: &str = "10.0.0.100";

/// A node: its flows, and its end of the connection.
pub(super) struct Node {
    pub(super) flows: BTreeMap<FlowId, FlowRecord>,
    /// Those whose segments came by here since it serves: the peer's word on them is not taken.
    pub(super) seen: BTreeSet<FlowId>,
    pub(super) serves: Vips,
    pub(super) session: Option<Session>,
    pub(super) jobs: BTreeMap<Lane, (Job, Vec<FlowRecord>)>,
    pub(super) outbox: VecDeque<Message>,
    pub(super) discarded: Vec<FlowId>,
    pub(super) closed: Option<Reason>,
}

pub(super) struct Pair {
    pub(super) nodes: [Node; 2],
    pub(super) now: Instant,
    /// The link takes nothing from this node.
    pub(super) stuck: [bool; 2],
    /// How long the link takes.
    pub(super) delay: Duration,
    pub(super) arriving: VecDeque<(Instant, usize, Message)>,
}

pub(super) const fn id_of(change: &Change) -> &FlowId {
    match change {
        Change::Put(record) => &record.id,
        Change::Removed(id) => id,
    }
}

pub(super) fn apply(flows: &mut BTreeMap<FlowId, FlowRecord>, change: &Change) {
    match change {
        Change::Put(record) => drop(flows.insert(record.id, *record)),
        Change::Removed(id) => drop(flows.remove(id)),
    }
}

#[expect(clippy::disallowed_methods, reason = "tests: any moment to start from")]
pub(super) fn start() -> Instant {
    Instant::now()
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            flows: BTreeMap::new(),
            seen: BTreeSet::new(),
            serves: Vips::new(),
            session: None,
            jobs: BTreeMap::new(),
            outbox: VecDeque::new(),
            discarded: Vec::new(),
            closed: None,
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.outbox.iter().map(|message| message.emit().len()).sum()
    }

    pub(super) fn feed(&mut self, event: Event<'_>, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let actions = session.handle(event, now);
        self.perform(actions);
    }

    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(message) => self.outbox.push_back(message),
                Action::Start(lane, job) => {
                    let all = self.flows.values().copied().collect();
                    self.jobs.insert(lane, (job, all));
                }
                Action::Stop(lane) => drop(self.jobs.remove(&lane)),
                Action::Apply(changes) => {
                    let news = changes.iter().filter(|change| !self.seen.contains(id_of(change)));
                    news.for_each(|change| apply(&mut self.flows, change));
                }
                Action::Discard(records) => {
                    for FlowRecord { id, .. } in records {
                        self.flows.remove(&id);
                        self.discarded.push(id);
                    }
                }
                Action::Close(reason) => {
                    self.closed = Some(reason);
                    self.disconnect();
                }
            }
        }
    }

    /// What happens to a flow here.
    pub(super) fn see(&mut self, change: &Change) {
        apply(&mut self.flows, change);
        if self.serves.contains(&id_of(change).vip.ip()) {
            self.seen.insert(*id_of(change));
        }
    }

    /// A slice of seven flows of each lane.
    pub(super) fn work(&mut self, now: Instant) {
        for lane in [Lane::Sending, Lane::Receiving] {
            if lane == Lane::Sending && self.queued() > LOW_QUEUED {
                continue;
            }
            let Some((job, mut left)) = self.jobs.remove(&lane) else { continue };
            let rest = left.split_off(left.len().min(7));
            match &job {
                // As a whole: what slices of it would see is tried by the records.
                Job::Digest { vips } => {
                    let mut digest = Box::<Digest>::default();
                    let is_of = |record: &&FlowRecord| vips.contains(&record.id.vip.ip());
                    let flows = self.flows.values().filter(is_of);
                    let count = flows.inspect(|record| digest.toggle(record)).count() as u64;
                    self.feed(Event::Digested { lane, digest, flows: count }, now);
                }
                Job::Records { vips, buckets } => {
                    let records = left
                        .iter()
                        .filter_map(|record| self.flows.get(&record.id).copied())
                        .filter(|it| vips.contains(&it.id.vip.ip()))
                        .filter(|it| buckets.contains(bucket_of(&it.id)))
                        .collect();
                    let done = rest.is_empty();
                    if !done {
                        self.jobs.insert(lane, (job.clone(), rest));
                    }
                    self.feed(Event::Found { lane, records, done }, now);
                }
            }
        }
    }

    pub(super) fn connect(&mut self, now: Instant) {
        let (session, actions) = Session::new(&self.serves, 1_000_000, now);
        self.session = Some(session);
        self.closed = None;
        self.perform(actions);
    }

    pub(super) fn disconnect(&mut self) {
        self.session = None;
        self.jobs.clear();
        self.outbox.clear();
    }

    pub(super) fn synced(&self, now: Instant) -> bool {
        self.session.as_ref().is_some_and(|session| session.view(now).is_synced)
    }
}

impl Pair {
    pub(super) fn new() -> Self {
        let delay = Duration::from_millis(1);
        let nodes = [Node::new(), Node::new()];
        Self { nodes, now: start(), stuck: [false; 2], delay, arriving: VecDeque::new() }
    }

    pub(super) fn connect(&mut self) {
        self.arriving.clear();
        for node in &mut self.nodes {
            node.disconnect();
            node.connect(self.now);
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.arriving.clear();
        self.nodes.iter_mut().for_each(Node::disconnect);
    }

    pub(super) fn serve(&mut self, node: usize, serves: bool) {
        let vips: Vips = if serves { [VIP.parse().unwrap()].into() } else { Vips::new() };
        self.nodes[node].serves.clone_from(&vips);
        self.nodes[node].seen.clear();
        self.nodes[node].feed(Event::Serving(&vips), self.now);
    }

    /// A flow of the node that serves begins, goes another way, or ends.
    pub(super) fn change(&mut self, node: usize, change: &Change) {
        self.nodes[node].see(change);
        self.nodes[node].feed(Event::Changed(&[*change]), self.now);
    }

    /// One that the session is not told of.
    pub(super) fn lose(&mut self, node: usize, change: &Change) {
        self.nodes[node].see(change);
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += Duration::from_millis(1);
            for index in 0..2 {
                let node = &mut self.nodes[index];
                node.work(self.now);
                if node
                    .session
                    .as_ref()
                    .and_then(Session::deadline)
                    .is_some_and(|at| at <= self.now)
                {
                    node.feed(Event::Timer, self.now);
                }
                if !self.stuck[index] {
                    let due = self.now + self.delay;
                    let sent = node.outbox.drain(..).map(|message| (due, 1 - index, message));
                    self.arriving.extend(sent);
                }
                let queued = node.queued();
                node.feed(Event::Queued(queued), self.now);
            }
            while let Some((due, to, _)) = self.arriving.front()
                && *due <= self.now
            {
                let to = *to;
                let Some((_, _, message)) = self.arriving.pop_front() else { break };
                let bytes = message.emit();
                let message = Message::parse(&bytes).unwrap().unwrap();
                self.nodes[to].feed(Event::Received(message), self.now);
            }
            if self.nodes.iter().any(|node| node.session.is_none()) {
                self.arriving.clear();
            }
        }
    }

    pub(super) fn equal(&self) -> bool {
        self.nodes[0].flows == self.nodes[1].flows
    }
}
