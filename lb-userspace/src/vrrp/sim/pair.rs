//! A dual-stack pair of two nodes, whose families fail one at a time.

use std::net::{IpAddr, Ipv4Addr};

use super::super::packet::ChecksumForm;
use super::super::{Action, Event, Instance, Settings, State, group};
use super::*;
use crate::config::Family;

/// Two nodes with two instances each; a path for each instance and direction.
struct DualStack {
    now: Nanos,
    nodes: [[Instance; 2]; 2],
    /// `works[from][member]`.
    works: [[bool; 2]; 2],
    changes: u32,
    random: Random,
}

const INTERVAL: Duration = Duration::from_millis(100);

impl DualStack {
    fn new(seed: u64) -> Self {
        let member =
            |node: usize, vrid: u8| Instance::new(&settings([200, 100][node], vrid), Nanos(0));
        let mut pair = Self {
            now: Nanos(0),
            nodes: [0, 1].map(|node| [member(node, 1), member(node, 2)]),
            works: [[true; 2]; 2],
            changes: 0,
            random: Random::new(seed),
        };
        for node in 0..2 {
            for member in 0..2 {
                pair.feed(node, member, Event::Link { up: true });
                pair.feed(node, member, Event::Address { own: Some(address(node)) });
                pair.feed(node, member, Event::Receiving);
                pair.feed(node, member, Event::Start { previous: None });
            }
        }
        pair
    }

    /// What is sent arrives at once, or not at all.
    fn feed(&mut self, node: usize, member: usize, event: Event<'_>) {
        let mut todo = Vec::new();
        group::feed(&mut self.nodes[node], member, event, self.now, &mut |index, action| {
            todo.push((index, action));
        });
        for (index, action) in todo {
            if let Action::Notify(transition) = action {
                self.changes += u32::from(transition.to == State::Active);
            }
            if let Action::SendAdvert { priority } = action
                && self.works[node][index]
            {
                let advert = self.nodes[node][index].settings().advert(priority);
                let (source, at) = (address(node), self.now);
                self.feed(1 - node, index, Event::Received { advert: &advert, source, at });
            }
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let timers = (0..4).filter_map(|n| Some((self.nodes[n / 2][n % 2].deadline()?, n)));
            let Some((due, n)) = timers.min().filter(|(due, _)| *due < end) else { break };
            self.now = self.now.max(due);
            self.feed(n / 2, n % 2, Event::Timer);
        }
        self.now = end;
    }

    fn states(&self) -> [[State; 2]; 2] {
        [0, 1].map(|node| [0, 1].map(|member| self.nodes[node][member].state()))
    }
}

const fn address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, if node == 0 { 1 } else { 2 }))
}

fn settings(priority: u8, vrid: u8) -> Settings {
    Settings {
        version: Version::V3,
        family: Family::V4,
        vrid,
        priority,
        advert_interval: INTERVAL,
        down_timer_adverts: 3,
        preempt: true,
        yields_when_stalled: false,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        receive_gate: Duration::ZERO,
        recovery_hold: Duration::ZERO,
        last_advert: true,
        linger: Duration::ZERO,
        restart_grace: Duration::ZERO,
        grouped: true,
        vips: [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100))].into(),
        unicast_peers: [].into(),
        password: None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

const ACTIVE: [State; 2] = [State::Active; 2];
const BACKUP: [State; 2] = [State::Backup; 2];

#[test]
fn the_higher_node_has_both_families() {
    let mut pair = DualStack::new(1);
    pair.run_for(INTERVAL * 10);
    assert_eq!(pair.states(), [ACTIVE, BACKUP]);
}

/// E28: the packets of one family stop; the other shows that the node lives.
#[test]
fn half_of_a_path_moves_nothing() {
    for member in 0..2 {
        let mut pair = DualStack::new(1);
        pair.run_for(INTERVAL * 10);
        let changes = pair.changes;
        pair.works = [0, 1].map(|_| [0, 1].map(|it| it != member));
        pair.run_for(INTERVAL * 1000);
        assert_eq!((pair.states(), pair.changes), ([ACTIVE, BACKUP], changes));
    }
}

/// E28: one family fails on the Active node.
#[test]
fn a_fault_of_half_moves_both_once() {
    for member in 0..2 {
        let mut pair = DualStack::new(1);
        pair.run_for(INTERVAL * 10);
        let changes = pair.changes;
        pair.feed(0, member, Event::Link { up: false });
        pair.run_for(INTERVAL * 8);
        assert_eq!(pair.states(), [[State::Fault; 2], ACTIVE]);
        pair.run_for(INTERVAL * 1000);
        assert_eq!(pair.changes, changes + 2, "no flapping");
        pair.feed(0, member, Event::Link { up: true });
        pair.feed(0, member, Event::Receiving);
        pair.run_for(INTERVAL * 8);
        assert_eq!(pair.states(), [ACTIVE, BACKUP]);
    }
}

#[test]
fn both_families_settle_on_one_node_after_every_disturbance() {
    let mut changes = 0;
    for seed in 1..=500 {
        let mut pair = DualStack::new(seed);
        for _ in 0..pair.random.below(20) {
            let (node, member) = (pair.random.below(2), pair.random.below(2));
            let (node, member) = (usize::from(node == 1), usize::from(member == 1));
            let up = pair.random.chance(50);
            match pair.random.below(4) {
                0 => pair.feed(node, member, Event::Link { up }),
                1 => pair.works[node][member] = up,
                2 => (0..2).for_each(|member| {
                    pair.feed(node, member, if up { Event::Resume } else { Event::Drain });
                }),
                _ => {}
            }
            let parts = u32::try_from(pair.random.below(5000)).unwrap();
            pair.run_for(INTERVAL * parts / 1000);
        }
        pair.works = [[true; 2]; 2];
        for (node, member) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            pair.feed(node, member, Event::Link { up: true });
            pair.feed(node, member, Event::Receiving);
            pair.feed(node, member, Event::Resume);
        }
        pair.run_for(INTERVAL * 8);
        assert_eq!(pair.states(), [ACTIVE, BACKUP], "seed {seed}");
        changes += pair.changes;
    }
    assert!(changes > 1000, "{changes}");
}
