use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::removal::{Terms, worst_case};
use super::*;
use crate::config::{Fall, HealthCheck, Probe, Request};
use crate::health::testing::origin;
use Health::{Degraded, Down, Draining, Unknown, Unverified, Up};
use Verdict::{Failed, NotReady, Ready};

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
        bench.fsm.is_announced()
    };
    assert!(!announced(refused, 2));
    assert!(!announced(Ready, 2));
    assert!(announced(NotReady, 4));
    assert!(announced(refused, 9));
    bench.now += PACE.damping;
    let mut announced = |verdict, times| {
        bench.probes(verdict, times);
        bench.fsm.is_announced()
    };
    assert!(!announced(Ready, 100));
    assert!(!announced(refused, 2));
    assert!(Bench::new(Draining).fsm.is_announced(), "as adopted");
}

/// 1 s up, 1 s down for ten minutes (E35): the second loss is the last change there is.
#[test]
fn a_flapping_backend_is_held() {
    let mut bench = Bench::new(Up);
    let start = bench.now;
    let mut changes = Vec::new();
    while bench.now < start + Duration::from_secs(600) {
        let is_up = ((bench.now - start).as_millis() / 1000).is_multiple_of(2);
        let verdict = if is_up { Ready } else { Failed(Class::Refused) };
        if let Some(Transition { to, .. }) = bench.probe(verdict).transition {
            changes.push((to, bench.now - start));
        }
    }
    let states: Vec<_> = changes.iter().map(|(to, _)| *to).collect();
    assert_eq!(states, [Down, Up, Down], "{changes:?}");
}

/// It is held once it flaps, and is used again when it was well for as long as it is held.
#[test]
fn a_held_backend_comes_back_when_it_stays_well() {
    let mut bench = Bench::new(Up);
    let go_down = |bench: &mut Bench| bench.probes(Failed(Class::Refused), 2);
    let comes_back = |bench: &mut Bench| {
        bench.probe(Ready);
        let start = bench.now;
        while bench.fsm.health() == Down {
            let Actions { tell, transition, .. } = bench.probe(Ready);
            let held = transition.is_none();
            assert_eq!((bench.fsm.is_held(), matches!(tell, Tell::Held(_))), (held, held));
        }
        bench.now - start
    };
    go_down(&mut bench);
    assert!(comes_back(&mut bench) < Duration::from_secs(1));
    for expected in [10, 20, 40] {
        go_down(&mut bench);
        let (took, hold) = (comes_back(&mut bench), Duration::from_secs(expected));
        assert!(took >= hold && took < hold + PACE.fast_interval * 2, "{took:?} {hold:?}");
    }
    bench.now += Duration::from_secs(40);
    go_down(&mut bench);
    assert!(comes_back(&mut bench) < Duration::from_secs(1), "it stayed long enough");
}

#[test]
fn a_return_starts_slowly_and_a_first_start_does_not() {
    let pace = Pace { slow_start: Duration::from_secs(4), ..PACE };
    let mut bench = Bench { fsm: Fsm::new(pace, Unknown, 7, origin()), now: origin() };
    bench.now = bench.fsm.deadline().unwrap();
    bench.probe(Ready);
    assert_eq!(bench.fsm.share(bench.now), 100);
    bench.probes(Failed(Class::Refused), 2);
    bench.probes(Ready, 2);
    let shares: Vec<_> =
        (0..5).map(|seconds| bench.fsm.share(bench.now + Duration::from_secs(seconds))).collect();
    assert_eq!(shares, [25, 50, 75, 100, 100]);
}

/// Just after a probe that it answered the backend is lost in one of four ways; every seed.
#[test]
fn a_lost_backend_is_out_in_the_time_that_check_prints() {
    let check = HealthCheck {
        probe: Probe::Http { request: Request::new("/readyz") },
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        pace: Pace::default(),
    };
    let worst = worst_case(&check);
    let (timeout, at_once) = (check.timeout, Duration::ZERO);
    let cases = [
        (worst.refused, Failed(Class::Refused), at_once, 1300),
        (worst.black_hole, Failed(Class::Timeout), check.connect_timeout, 2600),
        (worst.hung, Failed(Class::Timeout), timeout, 4100),
        (worst.not_ready.unwrap(), NotReady, at_once, 1600),
    ];
    for (terms, verdict, takes, milliseconds) in cases {
        assert_eq!(terms.total(), Duration::from_millis(milliseconds), "{verdict:?}");
        let longest = (0..200).map(|seed| removal(&check, seed, verdict, takes)).max().unwrap();
        assert!(longest <= terms.total(), "{verdict:?}: {longest:?}");
        let slack = Duration::from_millis(20);
        assert!(longest + slack >= terms.total(), "{verdict:?}: {longest:?} is not the worst");
    }
    assert_eq!(Terms { first: timeout, more: 0, between: timeout, last: at_once }.total(), timeout);
}

fn removal(check: &HealthCheck, seed: u64, verdict: Verdict, takes: Duration) -> Duration {
    let start = origin();
    let mut fsm = Fsm::new(check.pace, Up, seed, start);
    let mut now = start;
    fsm.handle(Event::Deadline, now);
    let mut actions = fsm.handle(Event::Finished(Ready), now);
    while actions.transition.is_none() {
        if let Some(deadline) = fsm.deadline() {
            now = deadline;
            fsm.handle(Event::Deadline, now);
        }
        now += takes;
        actions = fsm.handle(Event::Finished(verdict), now);
    }
    now - start
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
