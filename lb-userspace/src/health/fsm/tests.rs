use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Outcome::{Failure, Success};
use super::*;
use crate::config::Probe;
use crate::health::testing::origin;

const TIMINGS: Timings = Timings {
    interval: Duration::from_secs(1),
    fast_interval: Duration::from_millis(250),
    rise: 2,
    fall: 3,
};

/// Every phase with every event: what is asked of the driver, and whether a deadline is set after it.
#[test]
fn every_phase_answers_every_event() {
    let early = Duration::ZERO;
    let late = Duration::from_secs(2);
    let cases = [
        // waiting?, event, after, probe started?, deadline set?
        (true, Event::Deadline, early, false, true),
        (true, Event::Deadline, late, true, false),
        (true, Event::Doubt, early, false, true),
        (true, Event::Doubt, late, true, false),
        (true, Event::Finished(Success), late, false, true),
        (true, Event::Finished(Failure), late, false, true),
        (false, Event::Deadline, late, false, false),
        (false, Event::Doubt, late, false, false),
        (false, Event::Finished(Success), early, false, true),
        (false, Event::Finished(Success), late, true, false),
        (false, Event::Finished(Failure), early, false, true),
        (false, Event::Finished(Failure), late, true, false),
    ];
    for (waiting, event, after, probe, deadline) in cases {
        let now = origin();
        let mut fsm = probing(Health::Up, now);
        if waiting {
            fsm.handle(Event::Finished(Success), now);
        }
        let actions = fsm.handle(event, now + after);
        let case = format!("{waiting} {event:?} {after:?}");
        assert_eq!(actions.probe, probe, "{case}");
        assert_eq!(fsm.deadline().is_some(), deadline, "{case}");
        assert_eq!(actions.transition, None, "{case}");
    }
}

/// Every state with every run of outcomes that decides, and with one less.
#[test]
fn every_state_counts_every_outcome() {
    let cases = [
        (Health::Unknown, Success, 1, Health::Up),
        (Health::Unknown, Failure, 2, Health::Unknown),
        (Health::Unknown, Failure, 3, Health::Down),
        (Health::Up, Success, 9, Health::Up),
        (Health::Up, Failure, 2, Health::Up),
        (Health::Up, Failure, 3, Health::Down),
        (Health::Down, Success, 1, Health::Down),
        (Health::Down, Success, 2, Health::Up),
        (Health::Down, Failure, 9, Health::Down),
    ];
    for (initial, outcome, times, expected) in cases {
        let mut bench = Bench::new(initial);
        let transitions: Vec<_> =
            (0..times).filter_map(|_| bench.probe(outcome).transition).collect();
        let case = format!("{initial} {outcome:?}x{times}");
        assert_eq!(bench.fsm.health(), expected, "{case}");
        let changed = (initial != expected).then_some(Transition { from: initial, to: expected });
        assert_eq!(transitions, Vec::from_iter(changed), "{case}");
    }
}

#[test]
fn a_success_forgets_failures_and_a_failure_forgets_successes() {
    let mut bench = Bench::new(Health::Up);
    for outcome in [Failure, Failure, Success, Failure, Failure] {
        assert_eq!(bench.probe(outcome).transition, None);
    }
    assert_eq!(bench.probe(Failure).transition.unwrap().to, Health::Down);
    for outcome in [Success, Failure, Success] {
        assert_eq!(bench.probe(outcome).transition, None);
    }
    assert_eq!(bench.probe(Success).transition.unwrap().to, Health::Up);
}

#[test]
fn only_outcomes_that_agree_with_the_state_are_decisive() {
    let mut bench = Bench::new(Health::Up);
    let decisive: Vec<_> = [Success, Failure, Failure, Failure, Failure, Success, Success]
        .into_iter()
        .map(|outcome| bench.probe(outcome).decisive)
        .collect();
    assert_eq!(decisive, [true, false, false, true, true, false, true]);
}

#[test]
fn the_first_probe_is_immediate() {
    let now = origin();
    for initial in [Health::Unknown, Health::Up, Health::Down] {
        let mut fsm = Fsm::new(TIMINGS, initial, 7, now);
        assert_eq!(fsm.deadline(), Some(now));
        assert!(fsm.handle(Event::Deadline, now).probe);
    }
}

#[test]
fn the_fast_interval_holds_while_a_change_is_being_counted() {
    let mut bench = Bench::new(Health::Up);
    let periods: Vec<_> = [Success, Failure, Failure, Failure, Success, Success]
        .into_iter()
        .map(|outcome| {
            bench.probe(outcome);
            bench.fsm.deadline().unwrap() - bench.fsm.started
        })
        .collect();
    let fast = |period: &Duration| *period <= TIMINGS.fast_interval * 11 / 10;
    let which: Vec<_> = periods.iter().map(fast).collect();
    assert_eq!(which, [false, true, true, false, true, false], "{periods:?}");
}

#[test]
fn a_doubt_brings_the_next_probe_forward_but_not_beyond_the_fast_interval() {
    let now = origin();
    let mut fsm = probing(Health::Up, now);
    fsm.handle(Event::Finished(Success), now);
    assert!(!fsm.handle(Event::Doubt, now).probe);
    assert_eq!(fsm.deadline(), Some(now + TIMINGS.fast_interval));
    assert!(fsm.handle(Event::Doubt, now + TIMINGS.fast_interval).probe);
}

#[test]
fn a_doubt_during_a_probe_asks_for_another_soon() {
    let now = origin();
    let mut fsm = probing(Health::Up, now);
    fsm.handle(Event::Doubt, now);
    fsm.handle(Event::Finished(Success), now);
    assert!(fsm.deadline().unwrap() <= now + TIMINGS.fast_interval * 11 / 10);
}

#[test]
fn a_changed_check_keeps_the_state_and_forgets_the_count() {
    let mut bench = Bench::new(Health::Up);
    bench.probe(Failure);
    bench.probe(Failure);
    bench.fsm.reconfigure(Timings { fall: 2, ..TIMINGS }, bench.now);
    assert_eq!(bench.fsm.health(), Health::Up);
    assert_eq!(bench.fsm.deadline(), Some(bench.now));
    assert_eq!(bench.probe(Failure).transition, None);
    assert_eq!(bench.probe(Failure).transition.unwrap().to, Health::Down);
}

#[test]
fn an_abandoned_probe_does_not_count() {
    let now = origin();
    let mut fsm = probing(Health::Unknown, now);
    fsm.reconfigure(TIMINGS, now);
    assert_eq!(fsm.handle(Event::Finished(Success), now), Actions::default());
    assert_eq!(fsm.health(), Health::Unknown);
}

#[test]
fn zero_intervals_do_not_spin() {
    let timings = Timings { interval: Duration::ZERO, fast_interval: Duration::ZERO, ..TIMINGS };
    let now = origin();
    let mut fsm = Fsm::new(timings, Health::Up, 0, now);
    assert!(fsm.handle(Event::Deadline, now).probe);
    assert!(!fsm.handle(Event::Finished(Failure), now).probe);
    assert_eq!(fsm.deadline(), Some(now + MIN_PERIOD));
}

/// Up, interval 1 s, timeout 1 s, fast interval 250 ms, fall 3: 1.1 s until the first probe, three
/// timeouts back to back.
#[test]
fn a_black_hole_is_removed_in_the_time_that_check_prints() {
    let check = HealthCheck {
        probe: Probe::Tcp,
        interval: TIMINGS.interval,
        fast_interval: TIMINGS.fast_interval,
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        rise: TIMINGS.rise,
        fall: TIMINGS.fall,
    };
    assert_eq!(worst_case_removal(&check), Duration::from_millis(4100));

    let start = origin();
    for seed in 0..100 {
        let mut fsm = Fsm::new(Timings::from(&check), Health::Up, seed, start);
        let mut now = start;
        fsm.handle(Event::Deadline, now);
        let mut actions = fsm.handle(Event::Finished(Success), now);
        while actions.transition.is_none() {
            if let Some(deadline) = fsm.deadline() {
                now = deadline;
                fsm.handle(Event::Deadline, now);
            }
            now += check.timeout;
            actions = fsm.handle(Event::Finished(Failure), now);
        }
        assert!(now - start <= worst_case_removal(&check), "seed {seed}: {:?}", now - start);
    }
}

/// The ten lines that the machine must agree with, outcomes only.
struct Model {
    health: Health,
    last: Vec<Outcome>,
}

impl Model {
    fn probe(&mut self, outcome: Outcome, timings: Timings) {
        self.last.push(outcome);
        let ends_with = |outcome, n: u32| {
            let run = self.last.iter().rev().take_while(|o| **o == outcome).count();
            run >= n as usize
        };
        self.health = match self.health {
            Health::Unknown if outcome == Success => Health::Up,
            Health::Unknown | Health::Up if ends_with(Failure, timings.fall) => Health::Down,
            Health::Down if ends_with(Success, timings.rise) => Health::Up,
            Health::Unknown | Health::Up | Health::Down => self.health,
        };
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Pass(u16),
    Deadline,
    Doubt,
    Finish(Outcome),
    Reconfigure,
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![Just(Success), Just(Failure)];
    prop_oneof![
        4 => (0..2000u16).prop_map(Op::Pass),
        4 => Just(Op::Deadline),
        1 => Just(Op::Doubt),
        6 => outcome.prop_map(Op::Finish),
        1 => Just(Op::Reconfigure),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)]
}

proptest! {
    #[test]
    fn agrees_with_the_model(
        initial in health(), seed: u64, rise in 1..5u32, fall in 1..5u32,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let timings = Timings { rise, fall, ..TIMINGS };
        let mut now = origin();
        let mut fsm = Fsm::new(timings, initial, seed, now);
        let mut model = Model { health: initial, last: Vec::new() };
        let mut probing = false;
        let mut started = None;
        for op in ops {
            let before = fsm.health();
            let actions = match op {
                Op::Pass(millis) => {
                    now += Duration::from_millis(millis.into());
                    continue;
                }
                Op::Deadline => fsm.handle(Event::Deadline, now),
                Op::Doubt => fsm.handle(Event::Doubt, now),
                Op::Finish(outcome) => {
                    if std::mem::take(&mut probing) {
                        model.probe(outcome, timings);
                    }
                    fsm.handle(Event::Finished(outcome), now)
                }
                Op::Reconfigure => {
                    model.last.clear();
                    fsm.reconfigure(timings, now);
                    (probing, started) = (false, None);
                    Actions::default()
                }
            };
            prop_assert_eq!(fsm.health(), model.health);
            let changed = Transition { from: before, to: model.health };
            prop_assert_eq!(actions.transition, (before != model.health).then_some(changed));
            prop_assert!(!(actions.probe && probing), "two probes at once");
            if actions.probe {
                let least = TIMINGS.fast_interval * 9 / 10;
                prop_assert!(started.is_none_or(|started| now - started >= least), "too soon");
                started = Some(now);
            }
            probing |= actions.probe;
            prop_assert_eq!(fsm.deadline().is_none(), probing);
            let latest = now + TIMINGS.interval * 11 / 10;
            prop_assert!(fsm.deadline().is_none_or(|deadline| deadline <= latest));
        }
    }

    #[test]
    fn periods_stay_within_a_tenth(seed: u64) {
        let now = origin();
        let mut fsm = Fsm::new(TIMINGS, Health::Up, seed, now);
        for _ in 0..50 {
            let period = fsm.period(false);
            prop_assert!(period >= TIMINGS.interval * 9 / 10 && period <= TIMINGS.interval * 11 / 10);
        }
    }
}

/// A machine and a clock that jumps to its deadlines.
struct Bench {
    fsm: Fsm,
    now: Instant,
}

impl Bench {
    fn new(initial: Health) -> Self {
        let now = origin();
        Self { fsm: Fsm::new(TIMINGS, initial, 7, now), now }
    }

    fn probe(&mut self, outcome: Outcome) -> Actions {
        self.now = self.fsm.deadline().unwrap();
        assert!(self.fsm.handle(Event::Deadline, self.now).probe);
        self.fsm.handle(Event::Finished(outcome), self.now)
    }
}

fn probing(initial: Health, now: Instant) -> Fsm {
    let mut fsm = Fsm::new(TIMINGS, initial, 7, now);
    assert!(fsm.handle(Event::Deadline, now).probe);
    fsm
}
