//! What holds of every sequence of events.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Pass(u16),
    Deadline,
    Doubt,
    Finish(Verdict),
    Reconfigure,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..2000u16).prop_map(Op::Pass),
        4 => Just(Op::Deadline),
        1 => Just(Op::Doubt),
        6 => verdict().prop_map(Op::Finish),
        1 => Just(Op::Reconfigure),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(&VERDICTS[..])
}

fn pace() -> impl Strategy<Value = Pace> {
    let fall = (1..5u32, 1..5u32, 1..5u32, 1..5u32, 1..5u32).prop_map(
        |(refused, timeout, status, certificate, protocol)| Fall {
            refused,
            timeout,
            status,
            certificate,
            protocol,
        },
    );
    (fall, 1..5u32, 0..20u64).prop_map(|(fall, rise, damping)| Pace {
        fall,
        rise,
        damping: Duration::from_secs(damping),
        ..PACE
    })
}

const fn largest(fall: Fall) -> u32 {
    let numbers = [fall.refused, fall.timeout, fall.status, fall.certificate, fall.protocol];
    let (mut largest, mut index) = (0, 0);
    while index < numbers.len() {
        if numbers[index] > largest {
            largest = numbers[index];
        }
        index += 1;
    }
    largest
}

proptest! {
    /// Any events in any order: one probe at a time, not too soon, not too late, and changes of state
    /// are announced and have their reason.
    #[test]
    fn probes_are_paced_and_changes_have_reasons(
        initial in prop::sample::select(&HEALTHS[..]), pace in pace(), seed: u64,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut now = origin();
        let mut fsm = Fsm::new(pace, initial, seed, now);
        let mut started = None;
        for op in ops {
            let before = fsm.health();
            let is_probing = fsm.deadline().is_none();
            let actions = match op {
                Op::Pass(millis) => {
                    now += Duration::from_millis(millis.into());
                    continue;
                }
                Op::Deadline => fsm.handle(Event::Deadline, now),
                Op::Doubt => fsm.handle(Event::Doubt, now),
                Op::Finish(verdict) => fsm.handle(Event::Finished(verdict), now),
                Op::Reconfigure => {
                    fsm.reconfigure(pace, now);
                    started = None;
                    Actions::default()
                }
            };
            let changed = Transition { from: before, to: fsm.health() };
            let expected = (before != fsm.health()).then_some(changed);
            prop_assert_eq!(actions.transition, expected);
            if actions.transition.is_some() {
                prop_assert_eq!(actions.tell, Tell::Reason);
                prop_assert!(fsm.health() != Unknown, "what is known is not forgotten");
            }
            let is_finding = is_probing && matches!(op, Op::Finish(_));
            prop_assert!(actions.transition.is_none() || is_finding, "only probes decide");
            prop_assert!(!(actions.probe && is_probing && !is_finding), "two probes at once");
            if actions.probe {
                let least = Duration::from_millis(200);
                prop_assert!(started.is_none_or(|started| now - started >= least), "too soon");
                started = Some(now);
            }
            let latest = now + pace.down_interval * 11 / 10;
            prop_assert!(fsm.deadline().is_none_or(|deadline| deadline <= latest));
            prop_assert!(!fsm.is_held() || fsm.health() != Up, "held, and used as the best");
        }
    }

    /// Any mixture of failures takes a backend down after the largest `fall` at the latest.
    #[test]
    fn a_dead_backend_does_not_stay(
        initial in prop::sample::select(&HEALTHS[..]), pace in pace(), seed: u64,
        before in prop::collection::vec(verdict(), 0..30),
        failures in prop::collection::vec(prop::sample::select(&VERDICTS[4..9]), 4..=4),
    ) {
        let mut bench = Bench { fsm: Fsm::new(pace, initial, seed, origin()), now: origin() };
        before.into_iter().for_each(|verdict| bench.probes(verdict, 1));
        for verdict in failures.into_iter().take(largest(pace.fall) as usize) {
            bench.probe(verdict);
        }
        prop_assert_eq!(bench.fsm.health(), Down);
    }

    /// Whatever came before, a backend that stays well is used once its hold is over.
    #[test]
    fn a_well_backend_is_used(
        initial in prop::sample::select(&HEALTHS[..]), pace in pace(), seed: u64,
        before in prop::collection::vec(verdict(), 0..100),
    ) {
        let mut bench = Bench { fsm: Fsm::new(pace, initial, seed, origin()), now: origin() };
        before.into_iter().for_each(|verdict| bench.probes(verdict, 1));
        let end = bench.now + pace.damping * 16 + pace.down_interval * (pace.rise + 2);
        while bench.now < end {
            bench.probe(Ready);
        }
        prop_assert_eq!(bench.fsm.health(), Up);
    }

    /// Two returns are as far from each other as the window is long, whatever the findings.
    #[test]
    fn there_is_one_return_in_a_window(
        pace in pace(), seed: u64,
        runs in prop::collection::vec((verdict(), 1..20usize), 1..60),
    ) {
        let mut bench = Bench { fsm: Fsm::new(pace, Up, seed, origin()), now: origin() };
        let mut returned: Option<Instant> = None;
        for (verdict, times) in runs {
            for _ in 0..times {
                let Some(Transition { from, to }) = bench.probe(verdict).transition else {
                    continue;
                };
                if from > Unverified && to <= Unverified {
                    let gap = returned.map_or(pace.damping, |at| bench.now - at);
                    prop_assert!(gap >= pace.damping, "{gap:?}");
                    returned = Some(bench.now);
                }
            }
        }
    }

    #[test]
    fn periods_stay_within_a_tenth(seed: u64) {
        let now = origin();
        let mut fsm = Fsm::new(PACE, Up, seed, now);
        for _ in 0..50 {
            let period = fsm.period(false);
            prop_assert!(period >= PACE.interval * 9 / 10 && period <= PACE.interval * 11 / 10);
        }
    }
}
