//! What becomes of a backend over time: damping, slow start, removal.

use super::super::super::removal::{Terms, worst_case};
use super::*;
use crate::config::{HealthCheck, Probe, Request};

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
