use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::Fall;
use crate::health::testing::origin;
use Health::{Degraded, Down, Draining, Unknown, Unverified, Up};
use Verdict::{Failed, NotReady, Ready};

mod long;
mod paced;
mod properties;

/// A number of its own for each class.
const PACE: Pace = Pace {
    interval: Duration::from_secs(1),
    fast_interval: Duration::from_millis(250),
    down_interval: Duration::from_secs(2),
    rise: 2,
    fall: Fall { refused: 2, timeout: 3, status: 4, certificate: 5, protocol: 6 },
    damping: Duration::from_secs(10),
    slow_start: Duration::ZERO,
    shutdown_delay: None,
};

const HEALTHS: [Health; 6] = [Unknown, Up, Unverified, Degraded, Draining, Down];

const VERDICTS: [Verdict; 10] = [
    Ready,
    Verdict::Unverified,
    Verdict::Degraded,
    NotReady,
    Failed(Class::Refused),
    Failed(Class::Timeout),
    Failed(Class::Status),
    Failed(Class::Certificate),
    Failed(Class::Protocol),
    Failed(Class::Local),
];

/// Every phase with every event: what is asked of the driver, and whether a deadline is set after it.
#[test]
fn every_phase_answers_every_event() {
    let early = Duration::ZERO;
    let late = Duration::from_secs(2);
    let mut cases = vec![
        // waiting?, event, after, probe started?, deadline set?
        (true, Event::Deadline, early, false, true),
        (true, Event::Deadline, late, true, false),
        (true, Event::Doubt, early, false, true),
        (true, Event::Doubt, late, true, false),
        (false, Event::Deadline, late, false, false),
        (false, Event::Doubt, late, false, false),
    ];
    for verdict in VERDICTS {
        cases.push((true, Event::Finished(verdict), late, false, true));
        cases.push((false, Event::Finished(verdict), early, false, true));
        cases.push((false, Event::Finished(verdict), late, true, false));
    }
    for (waiting, event, after, probe, deadline) in cases {
        let now = origin();
        let mut fsm = probing(Up, now);
        if waiting {
            fsm.handle(Event::Finished(Ready), now);
        }
        let actions = fsm.handle(event, now + after);
        let case = format!("{waiting} {event:?} {after:?}");
        assert_eq!(actions.probe, probe, "{case}");
        assert_eq!(fsm.deadline().is_some(), deadline, "{case}");
    }
}

/// Every state × every finding: how many of them in a row change it, and to what. 0: it stays for ever.
#[test]
fn every_state_counts_every_finding() {
    // In the order of `VERDICTS`.
    let after_failures = [(2, Down), (3, Down), (4, Down), (5, Down), (6, Down)];
    let cases = [
        (Unknown, [(1, Up), (1, Unverified), (1, Degraded), (1, Draining)], Some(after_failures)),
        (Up, [(0, Up), (1, Unverified), (4, Degraded), (4, Draining)], Some(after_failures)),
        (
            Unverified,
            [(1, Up), (0, Unverified), (4, Degraded), (4, Draining)],
            Some(after_failures),
        ),
        (Degraded, [(2, Up), (2, Unverified), (0, Degraded), (4, Draining)], Some(after_failures)),
        (Draining, [(2, Up), (2, Unverified), (2, Degraded), (0, Draining)], Some(after_failures)),
        (Down, [(2, Up), (2, Unverified), (2, Degraded), (2, Draining)], None),
    ];
    for (initial, answers, failures) in cases {
        let failures = failures.unwrap_or([(0, initial); 5]);
        let all = answers.into_iter().chain(failures).chain([(0, initial)]);
        for (verdict, (needed, to)) in VERDICTS.into_iter().zip(all) {
            let mut bench = Bench::new(initial);
            let transitions: Vec<_> =
                (1..=9).filter_map(|n| Some((n, bench.probe(verdict).transition?))).collect();
            let expected = (needed > 0).then_some((needed, Transition { from: initial, to }));
            assert_eq!(transitions, Vec::from_iter(expected), "{initial} {verdict:?}");
            assert_eq!(bench.fsm.health(), to, "{initial} {verdict:?}");
        }
    }
}

/// Findings from a state on → the state after each.
#[test]
fn findings_in_a_row_decide() {
    let (refused, timeout, local) =
        (Failed(Class::Refused), Failed(Class::Timeout), Failed(Class::Local));
    let status = Failed(Class::Status);
    let cases: [(Health, &[Verdict], &[Health]); 12] = [
        // One that agrees forgets those before.
        (Up, &[timeout, timeout, Ready, timeout, timeout, timeout], &[Up, Up, Up, Up, Up, Down]),
        (Down, &[Ready, refused, Ready, Ready], &[Down, Down, Down, Up]),
        // The class of the last one says how many.
        (Up, &[timeout, refused], &[Up, Down]),
        (Up, &[refused, timeout, timeout], &[Up, Up, Down]),
        (Up, &[refused, status, timeout], &[Up, Up, Down]),
        // A fall goes to what the last one says.
        (Up, &[NotReady, NotReady, NotReady, timeout], &[Up, Up, Up, Down]),
        (Up, &[refused, NotReady, NotReady, NotReady], &[Up, Up, Up, Draining]),
        // A rise goes to the worst.
        (Down, &[Verdict::Degraded, Ready, Ready, Ready], &[Down, Degraded, Degraded, Up]),
        (Down, &[NotReady, Ready], &[Down, Draining]),
        (Down, &[Verdict::Unverified, Ready, Ready], &[Down, Unverified, Up]),
        // The other direction forgets too.
        (Degraded, &[Ready, timeout, Ready, Ready], &[Degraded, Degraded, Degraded, Up]),
        // Trouble of ours neither counts nor forgets.
        (Up, &[refused, local, local, refused], &[Up, Up, Up, Down]),
    ];
    for (initial, verdicts, expected) in cases {
        let mut bench = Bench::new(initial);
        let states: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                bench.probe(*verdict);
                bench.fsm.health()
            })
            .collect();
        assert_eq!(states, expected, "{initial} {verdicts:?}");
    }
}

#[test]
fn only_findings_that_agree_with_the_state_are_told() {
    let timeout = Failed(Class::Timeout);
    let mut bench = Bench::new(Up);
    let told: Vec<_> = [Ready, timeout, timeout, timeout, timeout, Ready, Ready]
        .into_iter()
        .map(|verdict| bench.probe(verdict).tell == Tell::Reason)
        .collect();
    assert_eq!(told, [true, false, false, true, true, false, true]);

    // Of an unknown backend there is nothing better to tell, and our own trouble hides nothing worse.
    assert_eq!(Bench::new(Unknown).probe(timeout).tell, Tell::Reason);
    for health in HEALTHS {
        let told = Bench::new(health).probe(Failed(Class::Local)).tell;
        let expected = matches!(health, Draining | Down);
        assert_eq!(told == Tell::Nothing, expected, "{health}");
    }
}

#[test]
fn a_changed_check_keeps_the_state_and_forgets_the_count() {
    let status = Failed(Class::Status);
    let mut bench = Bench::new(Up);
    bench.probe(status);
    bench.probe(status);
    let fall = Fall { status: 2, ..PACE.fall };
    bench.fsm.reconfigure(Pace { fall, ..PACE }, bench.now);
    assert_eq!(bench.fsm.health(), Up);
    assert_eq!(bench.fsm.deadline(), Some(bench.now));
    assert_eq!(bench.probe(status).transition, None);
    assert_eq!(bench.probe(status).transition.unwrap().to, Down);
}

#[test]
fn an_abandoned_probe_does_not_count() {
    let now = origin();
    let mut fsm = probing(Unknown, now);
    fsm.reconfigure(PACE, now);
    assert_eq!(fsm.handle(Event::Finished(Ready), now), Actions::default());
    assert_eq!(fsm.health(), Unknown);
}

#[test]
fn zero_intervals_do_not_spin() {
    let zero = Duration::ZERO;
    let pace = Pace { interval: zero, fast_interval: zero, down_interval: zero, ..PACE };
    for verdict in VERDICTS {
        let now = origin();
        let mut fsm = Fsm::new(pace, Up, 0, now);
        assert!(fsm.handle(Event::Deadline, now).probe);
        assert!(!fsm.handle(Event::Finished(verdict), now).probe);
        assert_eq!(fsm.deadline(), Some(now + MIN_PERIOD), "{verdict:?}");
    }
}

/// It said that it would go: while it goes, its connections are its own to end.
#[test]
fn an_announcement_holds_until_the_backend_is_used_again() {
    let refused = Failed(Class::Refused);
    let mut bench = Bench::new(Up);
    let mut announced = |verdict, times| {
        bench.probes(verdict, times);
        bench.fsm.past(bench.now).announced
    };
    assert!(!announced(refused, 2));
    assert!(!announced(Ready, 2));
    assert!(announced(NotReady, 4));
    assert!(announced(refused, 9));
    bench.now += PACE.damping;
    let mut announced = |verdict, times| {
        bench.probes(verdict, times);
        bench.fsm.past(bench.now).announced
    };
    assert!(!announced(Ready, 100));
    assert!(!announced(refused, 2));
    assert!(Bench::new(Draining).fsm.past(origin()).announced, "as adopted");
}

/// A machine and a clock that jumps to its deadlines.
struct Bench {
    fsm: Fsm,
    now: Instant,
}

impl Bench {
    fn new(initial: Health) -> Self {
        let now = origin();
        Self { fsm: Fsm::new(PACE, initial, 7, now), now }
    }

    fn probes(&mut self, verdict: Verdict, times: usize) {
        for _ in 0..times {
            self.probe(verdict);
        }
    }

    fn probe(&mut self, verdict: Verdict) -> Actions {
        self.now = self.now.max(self.fsm.deadline().unwrap());
        assert!(self.fsm.handle(Event::Deadline, self.now).probe);
        self.fsm.handle(Event::Finished(verdict), self.now)
    }
}

fn probing(initial: Health, now: Instant) -> Fsm {
    let mut fsm = Fsm::new(PACE, initial, 7, now);
    assert!(fsm.handle(Event::Deadline, now).probe);
    fsm
}
