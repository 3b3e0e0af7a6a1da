//! The nodes, the link between them, and the clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::event::Drained;
use super::super::packet::{self, ChecksumForm, MAX_LEN, MULTICAST_V4, MULTICAST_V6};
use super::super::timers::active_down_interval;
use super::super::{Action, Advert, Envelope, Event, Instance, Settings, State};
use super::check::{Above, silent_peer};
use super::*;
use crate::config::Family;

mod disturb;
mod plan;

pub(super) use plan::Plan;

/// One direction between two nodes.
#[derive(Clone, Copy)]
struct Path {
    /// Percent.
    loss: u64,
    duplicates: u64,
    delay: Duration,
    /// At most one in a row is lost.
    is_repaired: bool,
    lost_last: bool,
}

struct Node {
    settings: Settings,
    address: IpAddr,
    instance: Instance,
    is_running: bool,
    has_link: bool,
    /// Until then it does nothing, and packets queue up.
    stalled_until: Option<Nanos>,
    queue: Vec<(Nanos, usize, Vec<u8>)>,
    above: Above,
    /// When it last sent, and until when its kernel answers for the VIPs.
    sent: Nanos,
    answer_until: Nanos,
    /// When what reached it last from each node, in or out of order, was sent.
    heard_from: BTreeMap<usize, Nanos>,
    is_drain_pending: bool,
}

type Packet = Reverse<(Nanos, u64, usize, usize, Nanos, Vec<u8>)>;

pub(super) struct World {
    pub(super) now: Nanos,
    pub(super) random: Random,
    pub(super) steps: u64,
    pub(super) promotions: u64,
    pub(super) settled: Nanos,
    nodes: Vec<Node>,
    paths: BTreeMap<(usize, usize), Path>,
    packets: BinaryHeap<Packet>,
    sequence: u64,
}

impl World {
    pub(super) fn new(plan: Plan, mut random: Random) -> Self {
        // Neither the order of the nodes nor that of their addresses follows from the other.
        let turn = random.below(2) == 0;
        let address = |index: usize, family| {
            let host = u16::try_from(if turn { 20 + index } else { 20 - index }).unwrap();
            match family {
                Family::V4 => IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(host))),
                Family::V6 => IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host)),
            }
        };
        let start = Nanos(1_000_000_000_000);
        let nodes: Vec<Node> = plan
            .nodes
            .into_iter()
            .enumerate()
            .map(|(index, settings)| Node::new(settings, index, address, start))
            .collect();
        let indices = 0..nodes.len();
        let pairs = indices.clone().flat_map(|from| indices.clone().map(move |to| (from, to)));
        let mut world = Self {
            now: start,
            random,
            steps: 0,
            promotions: 0,
            settled: start,
            paths: pairs.filter(|(from, to)| from != to).map(|it| (it, Path::good())).collect(),
            nodes,
            packets: BinaryHeap::new(),
            sequence: 0,
        };
        for index in 0..world.nodes.len() {
            world.boot(index, false);
        }
        world
    }

    pub(super) fn longest_interval(&self) -> Duration {
        self.nodes.iter().map(|node| node.settings.advert_interval).max().unwrap()
    }

    /// Of the lowest priority there is.
    pub(super) fn longest_down_interval(&self) -> Duration {
        let intervals = self.nodes.iter().map(|node| node.settings.handover_interval());
        active_down_interval(self.nodes[0].settings.version, 1, intervals.max().unwrap(), 3)
    }

    pub(super) fn longest_delay(&self) -> Duration {
        self.longest_interval() * 2
    }

    pub(super) fn active(&self) -> Vec<usize> {
        let is_active = |index: &usize| {
            let node = &self.nodes[*index];
            node.is_running && node.instance.state() == State::Active
        };
        (0..self.nodes.len()).filter(is_active).collect()
    }

    /// A node is going to do something by itself.
    pub(super) fn is_something_pending(&self) -> bool {
        self.nodes.iter().any(|node| {
            let recovers =
                node.instance.state() == State::Fault && node.instance.deadline().is_some();
            node.is_running && (node.is_drain_pending || recovers)
        })
    }

    pub(super) fn preempts_everywhere(&self) -> bool {
        self.nodes.iter().all(|node| node.settings.preempt)
    }

    pub(super) fn priority_of(&self, index: usize) -> u8 {
        self.nodes[index].instance.priority()
    }

    pub(super) fn best_priority(&self) -> u8 {
        let running = self.nodes.iter().filter(|node| node.is_running);
        running.map(|node| node.instance.priority()).max().unwrap()
    }

    pub(super) fn describe(&self) -> String {
        self.nodes.iter().fold(String::new(), |mut text, node| {
            let _ = writeln!(
                text,
                "{} running {} {} priority {} due {:?} {:?}",
                node.address,
                node.is_running,
                node.instance.state(),
                node.instance.priority(),
                node.instance.deadline(),
                node.settings
            );
            text
        })
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        self.run_until(self.now.after(span));
    }

    pub(super) fn run_until(&mut self, end: Nanos) {
        while self.now < end {
            self.step(end);
        }
    }

    /// The next thing that happens, at `end` at the latest. Packets come before timers.
    pub(super) fn step(&mut self, end: Nanos) {
        self.steps += 1;
        let arrival = self.packets.peek().map(|Reverse(packet)| packet.0);
        let wake = (0..self.nodes.len())
            .filter_map(|index| Some((self.nodes[index].wake()?, index)))
            .min();
        let next = arrival.into_iter().chain(wake.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|next| *next < end) else {
            self.now = end;
            return;
        };
        self.now = self.now.max(next);
        if arrival.is_some_and(|at| at <= next) {
            if let Some(Reverse((at, _, from, to, sent, bytes))) = self.packets.pop() {
                self.arrive(at, from, to, sent, bytes);
            }
        } else if let Some((_, index)) = wake {
            self.wake(index);
        }
        for node in self.nodes.iter_mut().filter(|node| node.is_running) {
            if node.stalled_until.is_none() {
                node.above.check(&node.instance, node.address, self.now);
            }
        }
    }

    fn arrive(&mut self, at: Nanos, from: usize, to: usize, sent: Nanos, bytes: Vec<u8>) {
        let node = &mut self.nodes[to];
        if !node.is_running || !node.has_link {
            return;
        }
        node.heard_from.insert(from, sent);
        if node.stalled_until.is_some() {
            node.queue.push((at, from, bytes));
        } else {
            self.deliver(to, from, at, &bytes);
        }
    }

    fn wake(&mut self, index: usize) {
        if self.nodes[index].stalled_until.take().is_some() {
            for (at, from, bytes) in std::mem::take(&mut self.nodes[index].queue) {
                self.deliver(index, from, at, &bytes);
            }
            let up = self.nodes[index].has_link;
            self.feed(index, Event::Link { up });
        }
        self.feed(index, Event::Timer);
    }

    fn deliver(&mut self, to: usize, from: usize, at: Nanos, bytes: &[u8]) {
        let source = self.nodes[from].address;
        let node = &mut self.nodes[to];
        let envelope = Envelope { source, destination: multicast(source), ttl: 255 };
        let advert = packet::parse(bytes, &envelope, node.settings.version).unwrap();
        node.settings.admits(&advert, &envelope).unwrap();
        node.above.heard(&node.instance, node.address, &advert, source, at);
        self.feed(to, Event::Received { advert: &advert, source, at });
    }

    fn feed(&mut self, index: usize, event: Event<'_>) {
        let actions = self.nodes[index].instance.handle(event, self.now);
        for action in actions {
            self.perform(index, action);
        }
    }

    fn perform(&mut self, index: usize, action: Action) {
        let now = self.now;
        let node = &mut self.nodes[index];
        match action {
            Action::SendAdvert { priority } => {
                let interval = node.settings.advert_interval;
                self.send(index, priority, interval);
            }
            Action::SendLastAdvert { priority, interval } => self.send(index, priority, interval),
            Action::RenewLease(lease) => node.answer_until = lease.answer_until,
            Action::EndLease { .. } => node.answer_until = now,
            Action::Notify(transition) if transition.to == State::Active => {
                self.promotions += 1;
                if let Some(peer) = silent_peer(transition.reason) {
                    self.check_lease(index, peer);
                }
            }
            Action::Drained(drained) => {
                node.is_drain_pending = false;
                if drained == Drained::GaveUp {
                    self.settled = now;
                }
            }
            Action::Notify(transition) if transition.from == State::Fault => self.settled = now,
            Action::Notify(_)
            | Action::HoldVips
            | Action::ReleaseVips
            | Action::StartAnnouncing
            | Action::StopAnnouncing
            | Action::Wish
            | Action::Unwish
            | Action::Reaffirmed { .. }
            | Action::Alarm(_) => {}
        }
    }

    /// The third of the rules.
    fn check_lease(&self, index: usize, peer: IpAddr) {
        let from = self.nodes.iter().position(|node| node.address == peer).unwrap();
        let (node, peer) = (&self.nodes[index], &self.nodes[from]);
        if node.heard_from.get(&from) == Some(&peer.sent) && peer.is_silent() {
            let (now, until) = (self.now, peer.answer_until);
            assert!(until <= now, "taken over at {now:?}, but answered for until {until:?}");
        }
    }

    fn send(&mut self, from: usize, priority: u8, interval: Duration) {
        let now = self.now;
        let node = &mut self.nodes[from];
        node.sent = now;
        if !node.has_link {
            return;
        }
        let destination = multicast(node.address);
        let envelope = Envelope { source: node.address, destination, ttl: 255 };
        let advert = Advert { interval, ..node.settings.advert(priority) };
        let bytes = packet::build(&advert, &envelope, &mut [0; MAX_LEN]).to_vec();
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let Some(path) = self.paths.get_mut(&(from, to)) else { continue };
            let copies = 1 + u64::from(self.random.chance(path.duplicates));
            for _ in 0..copies {
                let may_lose = !(path.is_repaired && path.lost_last);
                path.lost_last = may_lose && self.random.chance(path.loss);
                if path.lost_last {
                    continue;
                }
                let thousandths = u32::try_from(1 + self.random.below(1000)).unwrap();
                let at = now.after(path.delay * thousandths / 1000);
                self.sequence += 1;
                self.packets.push(Reverse((at, self.sequence, from, to, now, bytes.clone())));
            }
        }
    }
}

fn multicast(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => MULTICAST_V4.into(),
        IpAddr::V6(_) => MULTICAST_V6.into(),
    }
}

impl Path {
    const fn good() -> Self {
        let delay = Duration::from_micros(50);
        Self { loss: 0, duplicates: 0, delay, is_repaired: false, lost_last: false }
    }
}

impl Node {
    fn new(
        settings: Settings,
        index: usize,
        address: impl Fn(usize, Family) -> IpAddr,
        now: Nanos,
    ) -> Self {
        Self {
            address: address(index, settings.family),
            instance: Instance::new(&settings, now),
            settings,
            is_running: false,
            has_link: true,
            stalled_until: None,
            queue: Vec::new(),
            above: Above::default(),
            sent: now,
            answer_until: now,
            heard_from: BTreeMap::new(),
            is_drain_pending: false,
        }
    }

    /// When it does something by itself.
    fn wake(&self) -> Option<Nanos> {
        if !self.is_running {
            return None;
        }
        self.stalled_until.or_else(|| self.instance.deadline())
    }

    fn is_silent(&self) -> bool {
        !self.is_running || self.stalled_until.is_some() || !self.has_link
    }
}
