//! Being relieved without a gap: C.5.

use super::*;

fn later(since: Nanos, millis: u64) -> Nanos {
    since.after(Duration::from_millis(millis))
}

/// 3 s and a skew of nearly 1 s with priority 1, and a second.
const BOUND: u64 = 4996;

#[test]
fn a_drain_ends_when_the_peer_is_active() {
    let (mut instance, since) = active(&settings());
    instance.handle(Event::Drain, since);
    assert_eq!(instance.priority(), 1);
    let actions = instance.handle(Event::Timer, later(since, 1000));
    assert_eq!(shown(&actions), "advert 1, lease", "still serving");
    let actions = hear(&mut instance, 100, LOWER_PEER, later(since, 1500));
    assert_eq!(
        shown(&actions),
        "advert 1, hush, end, release, active>backup Higher, drained TakenOver"
    );
    hear(&mut instance, 2, LOWER_PEER, later(since, 2500));
    let deadline = instance.deadline().unwrap();
    assert!(deadline > later(since, 2500 + 3990), "it stays away: {deadline:?}");
}

#[test]
fn a_drain_that_nobody_answers_ends_with_priority_0() {
    let mut instance = backup(&settings());
    hear(&mut instance, 200, HIGHER_PEER, ms(1000));
    hear(&mut instance, 0, HIGHER_PEER, ms(2000));
    instance.handle(Event::Timer, ms(2500));
    instance.handle(Event::Drain, ms(3000));
    for second in 4..=7 {
        let actions = instance.handle(Event::Timer, ms(second * 1000));
        assert_eq!(shown(&actions), "advert 1, lease");
    }
    assert!(instance.deadline().unwrap() > ms(3000 + BOUND - 1));
    let actions = instance.handle(Event::Timer, ms(3000 + BOUND + 1));
    assert_eq!(
        shown(&actions),
        "advert 0, hush, end, release, active>backup DrainExpired, drained GaveUp"
    );
    // Nobody is there after all.
    let due = instance.deadline().unwrap();
    let actions = instance.handle(Event::Timer, due);
    assert!(shown(&actions).starts_with("advert 1, lease, hold"), "{actions:?}");
}

#[test]
fn a_node_that_never_heard_a_peer_keeps_the_vips() {
    let (mut instance, since) = active(&settings());
    instance.handle(Event::Drain, since);
    let actions = instance.handle(Event::Timer, later(since, BOUND + 1));
    assert_eq!(shown(&actions), "drained NobodyThere");
    assert_eq!(instance.state(), State::Active);
    let actions = instance.handle(Event::Timer, later(since, BOUND + 2));
    assert_eq!(shown(&actions), "advert 1, lease, alarm Late, announce");
    let actions = hear(&mut instance, 100, LOWER_PEER, later(since, BOUND + 500));
    assert!(shown(&actions).ends_with("drained TakenOver"), "{actions:?}");
}

#[test]
fn a_drain_can_be_taken_back() {
    let (mut instance, since) = active(&settings());
    instance.handle(Event::Drain, since);
    assert!(instance.handle(Event::Drain, since).is_empty(), "once");
    let actions = instance.handle(Event::Resume, later(since, 200));
    assert_eq!(shown(&actions), "advert 128, lease");
    let actions = instance.handle(Event::Timer, later(since, 9000));
    assert!(!shown(&actions).contains("drained"), "{actions:?}");
}

/// Whoever waits for the end of the drain hears of it.
#[test]
fn a_fault_ends_a_drain() {
    let (mut instance, since) = active(&settings());
    instance.handle(Event::Drain, since);
    let actions = instance.handle(Event::Link { up: false }, later(since, 100));
    assert_eq!(shown(&actions), "drained GaveUp, hush, end, release, active>fault Fault");
}

#[test]
fn stopping_while_draining_gives_up() {
    let (mut instance, since) = active(&settings());
    instance.handle(Event::Drain, since);
    let actions = instance.handle(Event::Shutdown, later(since, 100));
    assert_eq!(
        shown(&actions),
        "advert 0, drained GaveUp, hush, end, release, active>init Shutdown"
    );
}
