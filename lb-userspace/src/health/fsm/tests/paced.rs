//! When the next probe starts.

use super::*;

#[test]
fn the_first_probe_is_immediate() {
    let now = origin();
    for initial in HEALTHS {
        let mut fsm = Fsm::new(PACE, initial, 7, now);
        assert_eq!(fsm.deadline(), Some(now));
        assert!(fsm.handle(Event::Deadline, now).probe);
    }
}

#[test]
fn the_period_follows_what_is_known() {
    let (timeout, refused) = (Failed(Class::Timeout), Failed(Class::Refused));
    let mut bench = Bench::new(Up);
    let periods: Vec<_> = [Ready, timeout, timeout, timeout, Ready, Ready, refused, refused]
        .into_iter()
        .map(|verdict| {
            bench.probe(verdict);
            (bench.fsm.deadline().unwrap() - bench.fsm.started).as_millis()
        })
        .collect();
    let ranges = [
        900..=1100,
        250..=250,
        250..=250,
        1800..=2200,
        250..=250,
        900..=1100,
        200..=200,
        1800..=2200,
    ];
    for (period, range) in periods.iter().zip(&ranges) {
        assert!(range.contains(period), "{periods:?} {ranges:?}");
    }
}

#[test]
fn a_doubt_brings_the_next_probe_forward_but_not_beyond_the_fast_interval() {
    let now = origin();
    let mut fsm = probing(Up, now);
    fsm.handle(Event::Finished(Ready), now);
    assert!(!fsm.handle(Event::Doubt, now).probe);
    assert_eq!(fsm.deadline(), Some(now + PACE.fast_interval));
    assert!(fsm.handle(Event::Doubt, now + PACE.fast_interval).probe);
}

#[test]
fn a_doubt_during_a_probe_asks_for_another_soon() {
    let now = origin();
    let mut fsm = probing(Up, now);
    fsm.handle(Event::Doubt, now);
    fsm.handle(Event::Finished(Ready), now);
    assert_eq!(fsm.deadline(), Some(now + PACE.fast_interval));
}

/// A client was refused, then a probe is: the next one follows at once. Otherwise it waits a little.
#[test]
fn a_refusal_that_clients_met_too_is_confirmed_at_once() {
    for (is_doubted, expected) in [(true, 20), (false, 200)] {
        let mut bench = Bench::new(Up);
        bench.probe(Ready);
        let start = bench.now + PACE.fast_interval;
        if is_doubted {
            assert!(bench.fsm.handle(Event::Doubt, start).probe);
        } else {
            let deadline = bench.fsm.deadline().unwrap();
            assert!(bench.fsm.handle(Event::Deadline, deadline).probe);
        }
        let started = bench.fsm.started;
        bench.fsm.handle(Event::Finished(Failed(Class::Refused)), started);
        let expected = Duration::from_millis(expected);
        assert_eq!(bench.fsm.deadline(), Some(started + expected), "{is_doubted}");
    }
}

#[test]
fn doubts_alone_change_no_state() {
    for initial in HEALTHS {
        let mut now = origin();
        let mut fsm = Fsm::new(PACE, initial, 7, now);
        for _ in 0..100 {
            now += PACE.fast_interval;
            let actions = fsm.handle(Event::Doubt, now);
            assert_eq!((actions.transition, actions.tell), (None, Tell::Nothing));
        }
        assert_eq!(fsm.health(), initial);
    }
}
