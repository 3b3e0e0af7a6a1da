//! Advertising, giving way and insisting.

use super::*;

fn later(since: Nanos, millis: u64) -> Nanos {
    since.after(Duration::from_millis(millis))
}

#[test]
fn adverts_keep_their_schedule() {
    let (mut instance, since) = active(&settings());
    for n in 1..=5 {
        let due = later(since, n * 1000);
        assert_eq!(instance.deadline(), Some(due));
        // Each is late, and the next is not.
        let actions = instance.handle(Event::Timer, later(due, 7));
        assert_eq!(shown(&actions), "advert 128, lease");
    }
}

#[test]
fn a_lease_ends_before_any_peer_takes_over() {
    let (mut instance, since) = active(&settings());
    let now = later(since, 1000);
    let actions = instance.handle(Event::Timer, now);
    let expected = Lease { answer_until: later(now, 3000), forward_until: later(now, 5000) };
    assert_eq!(actions[1], Action::RenewLease(expected));
}

#[test]
fn giving_way_ends_the_lease_but_for_the_linger() {
    let (mut instance, since) = active(&settings());
    let now = later(since, 100);
    let actions = hear(&mut instance, 200, LOWER_PEER, now);
    assert!(actions.contains(&Action::EndLease { forward_until: later(now, 2000) }));
    assert_eq!(reason(&actions), Reason::Higher { peer: LOWER_PEER, priority: 200 });
    assert_eq!(instance.deadline(), Some(later(now, 3500)));
}

#[test]
fn the_last_word_can_be_switched_off() {
    let (mut instance, since) = active(&Settings { last_advert: false, ..settings() });
    let actions = hear(&mut instance, 200, LOWER_PEER, later(since, 100));
    assert_eq!(shown(&actions), "hush, end, release, active>backup Higher");
}

/// The preempt flag belongs to the higher router.
#[test]
fn a_node_without_preemption_gives_way_all_the_same() {
    let (mut instance, since) = active(&Settings { preempt: false, ..settings() });
    hear(&mut instance, 129, LOWER_PEER, later(since, 100));
    assert_eq!(instance.state(), State::Backup);
}

#[test]
fn one_that_was_relieved_may_have_the_last_word() {
    let mut instance = backup(&settings());
    hear(&mut instance, 100, LOWER_PEER, ms(3000));
    instance.handle(Event::Timer, ms(3500));
    let actions = hear(&mut instance, 100, LOWER_PEER, ms(3501));
    assert_eq!(shown(&actions), "", "expected; answered with the next advertisement");
    assert_eq!(instance.deadline(), Some(ms(3625)), "which is soon");
    let actions = hear(&mut instance, 100, LOWER_PEER, ms(4600));
    assert!(shown(&actions).starts_with("alarm TwoActives, reaffirmed 1"), "{actions:?}");
}

/// G8 and the answer of RFC 9568 6.4.3, but a flood is not answered with a flood.
#[test]
fn a_conflict_is_insisted_on_at_a_bounded_rate() {
    let (mut instance, since) = active(&settings());
    let (mut adverts, mut announced, mut reaffirmed) = (0, 0, 0);
    for n in 1..=10_000 {
        let now = later(since, n);
        let mut actions = hear(&mut instance, 5, LOWER_PEER, now);
        if instance.deadline().is_some_and(|due| due <= now) {
            actions.extend(instance.handle(Event::Timer, now));
        }
        let count = |word| shown(&actions).matches(word).count();
        adverts += count("advert");
        announced += count("announce");
        reaffirmed += count("reaffirmed");
    }
    assert!((70..=90).contains(&adverts), "{adverts} in 10 s: eight in an interval");
    assert!((9..=11).contains(&announced), "{announced} in 10 s: one in an interval");
    assert_eq!(reaffirmed, 1, "one conflict");
}

/// After a partition the other node's group gives way because of one member: the others only say priority 0.
#[test]
fn where_the_vips_are_is_announced_when_another_gives_them_up() {
    let (mut instance, since) = active(&settings());
    let actions = hear(&mut instance, 0, LOWER_PEER, later(since, 4000));
    assert_eq!(shown(&actions), "advert 128, lease, announce");
}

/// RFC 9568 6.4.3 answers priority 0 at once; whoever can send one can send thousands.
#[test]
fn priority_0_is_answered_at_a_bounded_rate() {
    let (mut instance, since) = active(&settings());
    let first = hear(&mut instance, 0, LOWER_PEER, later(since, 500));
    assert_eq!(shown(&first), "advert 128, lease", "at once");
    let (mut adverts, mut announced) = (0, 0);
    for n in 501..=10_500 {
        let now = later(since, n);
        let mut actions = hear(&mut instance, 0, LOWER_PEER, now);
        if instance.deadline().is_some_and(|due| due <= now) {
            actions.extend(instance.handle(Event::Timer, now));
        }
        adverts += shown(&actions).matches("advert").count();
        announced += shown(&actions).matches("announce").count();
    }
    assert!((70..=90).contains(&adverts), "{adverts} in 10 s: eight in an interval");
    assert!((9..=11).contains(&announced), "{announced} in 10 s: one in an interval");
}

/// Of the queue of a node that was stopped, one packet is answered.
#[test]
fn a_stalled_node_with_preemption_insists_once() {
    let (mut instance, since) = active(&settings());
    let now = later(since, 9000);
    let advert = advert(100);
    let mut all = Vec::new();
    for n in 4..9 {
        let at = later(since, n * 1000);
        let event = Event::Received { advert: &advert, source: LOWER_PEER, at };
        all.extend(instance.handle(event, now));
    }
    all.extend(instance.handle(Event::Timer, now));
    let adverts = all.iter().filter(|it| matches!(it, Action::SendAdvert { .. })).count();
    assert_eq!((instance.state(), adverts), (State::Active, 1));
    assert!(all.contains(&Action::StartAnnouncing));
}

#[test]
fn a_stalled_node_without_preemption_or_with_flows_to_learn_accepts_its_successor() {
    for (preempt, yields_when_stalled) in [(false, false), (true, true)] {
        let settings = Settings { preempt, yields_when_stalled, ..settings() };
        let (mut instance, since) = active(&settings);
        let now = later(since, 9000);
        let advert = advert(100);
        let at = later(since, 8500);
        let event = Event::Received { advert: &advert, source: LOWER_PEER, at };
        let actions = instance.handle(event, now);
        assert_eq!(shown(&actions), "hush, end, release, active>backup Stalled");
        assert_eq!(instance.deadline(), Some(later(since, 8500 + 3500)));
    }
}

#[test]
fn a_late_advertisement_announces_again() {
    let (mut instance, since) = active(&settings());
    let actions = instance.handle(Event::Timer, later(since, 3000));
    assert_eq!(shown(&actions), "advert 128, lease", "no peer can have taken over");
    let actions = instance.handle(Event::Timer, later(since, 3000 + 3100));
    assert_eq!(shown(&actions), "advert 128, lease, alarm Late, announce");
    assert_eq!(instance.deadline(), Some(later(since, 3000 + 4100)), "one, no burst");
}

#[test]
fn owners_in_conflict_resolve_it_by_address() {
    let owner = Settings { priority: PRIORITY_OWNER, ..settings() };
    for (peer, state) in [(LOWER_PEER, State::Active), (HIGHER_PEER, State::Backup)] {
        let mut instance = ready(&owner);
        instance.handle(Event::Start { previous: None }, ms(0));
        let actions = hear(&mut instance, 255, peer, ms(500));
        assert!(shown(&actions).starts_with("alarm TwoOwners"), "{actions:?}");
        assert_eq!(instance.state(), state);
    }
}

#[test]
fn terms_count_promotions() {
    let (mut instance, since) = active(&settings());
    assert_eq!(instance.term(), 1);
    hear(&mut instance, 200, LOWER_PEER, later(since, 100));
    assert_eq!(instance.term(), 1);
    let due = instance.deadline().unwrap();
    let actions = instance.handle(Event::Timer, due);
    let notified = actions.iter().any(|it| matches!(it, Action::Notify(it) if it.term == 2));
    assert!(notified, "{actions:?}");
}

/// E20: mastership stays, and what is new is announced.
#[test]
fn a_reload_keeps_the_state() {
    let (mut instance, since) = active(&settings());
    let other: IpAddr = "10.0.0.101".parse().unwrap();
    let more = Settings { vips: [VIP, other].into(), ..settings() };
    let actions = instance.handle(Event::Reconfigure(&more), later(since, 300));
    assert_eq!(shown(&actions), "advert 128, lease, hold, announce");
    assert_eq!(instance.deadline(), Some(later(since, 1300)));
}

#[test]
fn faults_add_up() {
    let (mut instance, since) = active(&settings());
    let now = later(since, 100);
    let fault = |cause, present| Event::Fault { cause, present };
    instance.handle(fault(FaultCause::Tracked, true), now);
    assert!(instance.handle(fault(FaultCause::Group, true), now).is_empty());
    assert!(instance.handle(fault(FaultCause::Tracked, false), now).is_empty());
    assert_eq!(instance.state(), State::Fault);
    instance.handle(fault(FaultCause::Group, false), now);
    assert_eq!((instance.state(), instance.deadline()), (State::Backup, Some(later(now, 3500))));
}

/// E22: a link that goes and comes five times a second makes one change of state, not ten a second.
#[test]
fn a_flapping_link_is_believed_when_it_has_calmed_down() {
    let (mut instance, since) = active(&settings());
    let (mut now, mut told) = (later(since, 100), Vec::new());
    for _ in 0..50 {
        told.extend(instance.handle(Event::Link { up: false }, now));
        now = later(now, 100);
        told.extend(instance.handle(Event::Link { up: true }, now));
        told.extend(instance.handle(Event::Timer, now));
        now = later(now, 100);
    }
    let changes = told.iter().filter(|it| matches!(it, Action::Notify(_))).count();
    assert_eq!((instance.state(), changes), (State::Fault, 3), "the first time it was believed");
    let due = instance.deadline().unwrap();
    assert_eq!(due, later(now, 4000 - 100), "at most 4 s after it came for good");
    assert!(instance.handle(Event::Timer, Nanos(due.0 - 1)).is_empty());
    let actions = instance.handle(Event::Timer, due);
    assert_eq!(shown(&actions), "fault>backup Recovered");

    // Long after, a fault is the first again.
    let now = later(due, 10_000);
    instance.handle(Event::Link { up: false }, now);
    let actions = instance.handle(Event::Link { up: true }, later(now, 100));
    assert_eq!(shown(&actions), "fault>backup Recovered");
}
