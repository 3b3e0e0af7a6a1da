use std::net::IpAddr;
use std::time::Duration;

use super::super::packet::{Advert, Auth, ChecksumForm};
use super::super::{Settings, Version};
use super::*;
use crate::config::Family;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn settings(vrid: u8) -> Settings {
    Settings {
        version: Version::V3,
        family: Family::V4,
        vrid,
        priority: 128,
        advert_interval: Duration::from_secs(1),
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
        vips: [].into(),
        unicast_peers: [].into(),
        password: None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

/// Two members and what they said they became.
struct Pair {
    members: [Instance; 2],
    changes: Vec<(usize, State)>,
    adverts: Vec<(usize, u8)>,
}

impl Pair {
    fn started() -> Self {
        let member = |vrid| Instance::new(&settings(vrid), Nanos(0));
        let mut pair =
            Self { members: [member(1), member(2)], changes: Vec::new(), adverts: Vec::new() };
        for index in 0..2 {
            pair.feed(index, Event::Link { up: true }, 0);
            pair.feed(index, Event::Address { own: Some("10.0.0.1".parse().unwrap()) }, 0);
            pair.feed(index, Event::Receiving, 0);
            pair.feed(index, Event::Start { previous: None }, 0);
        }
        pair.changes.clear();
        pair
    }

    fn active() -> Self {
        let mut pair = Self::started();
        pair.feed(0, Event::Timer, 3500);
        pair.feed(1, Event::Timer, 3500);
        assert_eq!(pair.states(), [State::Active; 2]);
        pair.changes.clear();
        pair.adverts.clear();
        pair
    }

    fn feed(&mut self, index: usize, event: Event<'_>, millis: u64) {
        let (changes, adverts) = (&mut self.changes, &mut self.adverts);
        feed(&mut self.members, index, event, ms(millis), &mut |member, action| {
            if let Action::Notify(transition) = action {
                changes.push((member, transition.to));
            }
            if let Action::SendAdvert { priority } = action {
                adverts.push((member, priority));
            }
        });
    }

    fn hear(&mut self, index: usize, priority: u8, millis: u64) {
        let advert = Advert {
            version: Version::V3,
            vrid: 1,
            priority,
            interval: Duration::from_secs(1),
            addresses: [PEER].into_iter().collect(),
            auth: Auth::None,
            checksum: ChecksumForm::PseudoHeader,
        };
        let event = Event::Received { advert: &advert, source: PEER, at: ms(millis) };
        self.feed(index, event, millis);
    }

    fn states(&self) -> [State; 2] {
        [self.members[0].state(), self.members[1].state()]
    }
}

const fn ms(millis: u64) -> Nanos {
    Nanos(millis * 1_000_000)
}

#[test]
fn all_become_active_when_all_wish() {
    let mut pair = Pair::started();
    pair.feed(0, Event::Timer, 3500);
    assert_eq!(pair.states(), [State::Backup; 2], "the other one still waits");
    pair.feed(1, Event::Timer, 3600);
    assert_eq!(pair.changes, [(0, State::Active), (1, State::Active)]);
}

/// One family's packets do not arrive: no flapping.
#[test]
fn one_that_hears_the_active_keeps_the_other_from_it() {
    let mut pair = Pair::started();
    for second in 1..60 {
        pair.hear(0, 200, second * 1000);
        pair.feed(0, Event::Timer, second * 1000 + 500);
        pair.feed(1, Event::Timer, second * 1000 + 500);
    }
    assert_eq!(pair.changes, []);
    pair.feed(0, Event::Timer, 70_000);
    assert_eq!(pair.states(), [State::Active; 2], "now the Active node is dead");
}

#[test]
fn a_wish_can_be_void() {
    let mut pair = Pair::started();
    pair.feed(0, Event::Timer, 3500);
    pair.hear(0, 200, 3550);
    pair.feed(1, Event::Timer, 3600);
    assert_eq!(pair.changes, []);
}

#[test]
fn all_give_way_together() {
    let mut pair = Pair::active();
    pair.hear(1, 200, 4000);
    assert_eq!(pair.changes, [(1, State::Backup), (0, State::Backup)]);
    assert_eq!(pair.adverts, [(1, 128), (0, 0)], "the other says so with priority 0");
}

/// E28.
#[test]
fn a_fault_of_one_is_the_fault_of_all_while_it_lasts() {
    let mut pair = Pair::active();
    pair.feed(1, Event::Address { own: None }, 4000);
    assert_eq!(pair.changes, [(1, State::Fault), (0, State::Fault)]);
    assert_eq!(pair.adverts, [(0, 0)], "the one that still can gives up");
    pair.changes.clear();
    pair.feed(1, Event::Address { own: Some("10.0.0.1".parse().unwrap()) }, 9000);
    assert_eq!(pair.changes, [(1, State::Backup), (0, State::Backup)]);
}

/// Neither may wait for the other one's recovery.
#[test]
fn faults_of_both_end_when_both_end() {
    let mut pair = Pair::active();
    pair.feed(0, Event::Link { up: false }, 4000);
    pair.feed(1, Event::Link { up: false }, 4000);
    assert_eq!(pair.states(), [State::Fault; 2]);
    pair.feed(0, Event::Link { up: true }, 5000);
    assert_eq!(pair.states(), [State::Fault; 2]);
    pair.feed(1, Event::Link { up: true }, 6000);
    assert_eq!(pair.states(), [State::Backup; 2]);
}

#[test]
fn stopping_one_leaves_the_other_alone() {
    let mut pair = Pair::active();
    pair.feed(0, Event::Shutdown, 4000);
    assert_eq!(pair.states(), [State::Init, State::Active]);
}

#[test]
fn an_instance_alone_follows_nobody() {
    let mut alone = [Instance::new(&Settings { grouped: false, ..settings(1) }, Nanos(0))];
    let mut said = 0;
    let mut tell = |event, now| feed(&mut alone, 0, event, now, &mut |_, _| said += 1);
    tell(Event::Link { up: true }, Nanos(0));
    tell(Event::Address { own: Some(PEER) }, Nanos(0));
    tell(Event::Start { previous: None }, Nanos(0));
    tell(Event::Timer, ms(3500));
    assert_eq!(alone[0].state(), State::Active);
    assert!(said >= 5, "{said}");
}

#[test]
fn a_group_has_the_lowest_adjustment() {
    assert_eq!(adjustment([0, -20, 5]), -20);
    assert_eq!(adjustment([]), 0);
}
