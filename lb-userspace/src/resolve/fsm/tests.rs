use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Phase, known addresses, failure before; event → addresses, failure, and what is to be done.
#[test]
fn every_phase_answers_every_event() {
    let answered = |addresses: &[&str]| Event::Answered(ips(addresses), 60 * SECOND);
    let failed = || Event::Failed(Failure::Timeout);
    let none = Actions::default;
    let lookup = || Actions { lookup: true, ..none() };
    let addresses = || Actions { addresses: true, ..none() };
    let failure = || Actions { failure: true, ..none() };
    let both = || Actions { addresses: true, failure: true, ..none() };
    let a = &["10.0.0.1"][..];
    let b = &["10.0.0.2"][..];
    let timeout = Some(Failure::Timeout);
    let no_address = Some(Failure::NoAddress);
    let cases = [
        (false, a, None, Event::Deadline, a, None, lookup()),
        (false, a, None, answered(b), a, None, none()),
        (false, a, None, failed(), a, None, none()),
        (true, a, None, Event::Deadline, a, None, none()),
        (true, &[], None, answered(a), a, None, addresses()),
        (true, a, None, answered(a), a, None, none()),
        (true, a, None, answered(b), b, None, addresses()),
        (true, a, timeout.clone(), answered(a), a, None, failure()),
        (true, a, timeout.clone(), answered(b), b, None, both()),
        (true, &[], None, failed(), &[], timeout.clone(), failure()),
        (true, a, None, failed(), a, timeout.clone(), failure()),
        (true, a, timeout.clone(), failed(), a, timeout.clone(), none()),
        (
            true,
            a,
            timeout,
            Event::Failed(Failure::NoSuchName),
            a,
            Some(Failure::NoSuchName),
            failure(),
        ),
        (true, a, None, answered(&[]), a, no_address.clone(), failure()),
        (true, a, no_address.clone(), answered(&[]), a, no_address, none()),
    ];
    for (asking, known, before, event, after, fails, actions) in cases {
        let now = origin();
        let mut fsm = Fsm::new(ips(known), 1, now);
        fsm.failure = before;
        if asking {
            assert!(fsm.handle(Event::Deadline, now).lookup);
        }
        let case = format!("{asking} {known:?} {event:?}");
        assert_eq!(fsm.handle(event, now), actions, "{case}");
        assert_eq!(fsm.addresses(), ips(after), "{case}");
        assert_eq!(fsm.failure(), fails.as_ref(), "{case}");
    }
}

#[test]
fn addresses_that_cannot_be_used_are_told_apart() {
    let now = origin();
    let mut fsm = asking(now);
    let mixed = ips(&["127.0.0.1", "10.0.0.2", "10.0.0.1"]);
    let actions = fsm.handle(Event::Answered(mixed, SECOND), now);
    assert_eq!(actions.refused, ips(&["127.0.0.1"]));
    assert_eq!(fsm.addresses(), ips(&["10.0.0.1", "10.0.0.2"]));
    fsm.phase = Phase::Asking;
    let actions = fsm.handle(Event::Answered(ips(&["127.0.0.1"]), SECOND), now);
    assert_eq!((actions.failure, actions.refused.len()), (true, 1));
    assert_eq!(fsm.addresses().len(), 2);
}

/// Seconds of TTL → seconds until the next lookup, less at most a tenth.
#[test]
fn a_name_is_looked_up_again_when_half_of_its_time_is_over() {
    let cases = [(0, 1), (1, 1), (2, 1), (10, 5), (60, 30), (300, 150), (86_400, 150)];
    for (ttl, wait) in cases {
        let now = origin();
        let mut fsm = asking(now);
        fsm.handle(Event::Answered(ips(&["10.0.0.1"]), ttl * SECOND), now);
        assert_waits(&fsm, now, wait * SECOND);
    }
}

#[test]
fn failing_lookups_become_rare_and_a_success_forgets_them() {
    let mut now = origin();
    let mut fsm = asking(now);
    for wait in [1, 2, 4, 8, 16, 30, 30, 30] {
        fsm.handle(Event::Failed(Failure::Timeout), now);
        assert_waits(&fsm, now, wait * SECOND);
        now += wait * SECOND;
        assert!(fsm.handle(Event::Deadline, now).lookup);
    }
    fsm.handle(Event::Answered(ips(&["10.0.0.1"]), 2 * SECOND), now);
    now += SECOND;
    assert!(fsm.handle(Event::Deadline, now).lookup);
    fsm.handle(Event::Failed(Failure::Timeout), now);
    assert_waits(&fsm, now, SECOND);
}

#[test]
fn a_deadline_that_comes_early_is_ignored() {
    let now = origin();
    let mut fsm = asking(now);
    fsm.handle(Event::Answered(ips(&["10.0.0.1"]), 10 * SECOND), now);
    assert!(!fsm.handle(Event::Deadline, now + SECOND).lookup);
}

proptest! {
    /// Whatever DNS says: once there were addresses there always are, and the next lookup always comes.
    #[test]
    fn addresses_never_vanish(
        steps in prop::collection::vec((0_u8..4, 0_u8..40, 0_u64..1000), 0..200),
        seed: u64,
    ) {
        let mut now = origin();
        let mut fsm = Fsm::new(Vec::new(), seed, now);
        let mut had_any = false;
        for (kind, count, ttl) in steps {
            if let Some(deadline) = fsm.deadline() {
                prop_assert!(deadline <= now + LONGEST_TTL);
                now = now.max(deadline);
                prop_assert!(fsm.handle(Event::Deadline, now).lookup);
            }
            prop_assert_eq!(fsm.deadline(), None);
            let addresses = (0..count).map(|it| IpAddr::from([10, 0, 0, it])).collect();
            let event = match kind {
                0 => Event::Failed(Failure::Timeout),
                1 => Event::Failed(Failure::NoSuchName),
                _ => Event::Answered(addresses, Duration::from_secs(ttl)),
            };
            had_any |= kind > 1 && count > 0;
            fsm.handle(event, now);
            prop_assert_eq!(!fsm.addresses().is_empty(), had_any);
            prop_assert!(fsm.addresses().is_sorted());
        }
    }
}

fn asking(now: Instant) -> Fsm {
    let mut fsm = Fsm::new(Vec::new(), 7, now);
    assert!(fsm.handle(Event::Deadline, now).lookup);
    fsm
}

fn assert_waits(fsm: &Fsm, now: Instant, longest: Duration) {
    let wait = fsm.deadline().unwrap() - now;
    assert!(wait <= longest && wait >= longest * 9 / 10, "{wait:?} of {longest:?}");
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|it| it.parse().unwrap()).collect()
}

#[expect(clippy::disallowed_methods, reason = "machines are tested from wherever the clock stands")]
fn origin() -> Instant {
    Instant::now()
}
