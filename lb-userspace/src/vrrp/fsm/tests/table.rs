//! Every event in every state: the state after it, and what is to be done.

use rstest::rstest;

use super::*;

const PROMOTION: &str = "advert 128, lease, hold, announce, backup>active";
const RELEASE: &str = "hush, end, release, active";

fn spelt_out(expected: &str) -> String {
    expected.replace("PROMOTION", PROMOTION).replace("RELEASE", RELEASE)
}

/// An instance in each state, and a time at which its timer is not due.
fn all() -> [(Instance, Nanos); 4] {
    let mut fault = backup(&settings());
    fault.handle(Event::Link { up: false }, ms(1));
    let (active, since) = active(&settings());
    let before_due = since.after(Duration::from_millis(500));
    [
        (ready(&settings()), ms(100)),
        (backup(&settings()), ms(100)),
        (active, before_due),
        (fault, ms(100)),
    ]
}

/// What `Init`, `Backup`, `Active` and `Fault` make of it.
#[rstest]
#[case::start(Event::Start { previous: None }, ["backup: init>backup Started", "backup: ", "active: ", "fault: "])]
#[case::timer(Event::Timer, ["init: ", "backup: ", "active: ", "fault: "])]
#[case::receiving(Event::Receiving, ["init: ", "backup: ", "active: ", "fault: "])]
#[case::link_up(Event::Link { up: true }, ["init: ", "backup: ", "active: ", "backup: fault>backup Recovered"])]
#[case::link_down(Event::Link { up: false }, [
    "init: ", "fault: backup>fault Fault", "fault: RELEASE>fault Fault", "fault: ",
])]
#[case::address(Event::Address { own: Some(HIGHER_PEER) }, ["init: ", "backup: ", "active: ", "fault: "])]
#[case::no_address(Event::Address { own: None }, [
    "init: ", "fault: backup>fault Fault", "fault: RELEASE>fault Fault", "fault: ",
])]
#[case::vips_vanish(Event::Fault { cause: FaultCause::Vips, present: true }, [
    "init: ", "fault: backup>fault Fault", "fault: advert 0, RELEASE>fault Fault", "fault: ",
])]
#[case::no_such_fault(
    Event::Fault { cause: FaultCause::Vips, present: false },
    ["init: ", "backup: ", "active: ", "fault: "]
)]
#[case::tracked(Event::Tracked { adjustment: -20 }, ["init: ", "backup: ", "active: ", "fault: "])]
#[case::promote(Event::Promote, [
    "init: ", "active: PROMOTION Group", "active: ", "fault: ",
])]
#[case::step_down(Event::StepDown, [
    "init: ", "backup: ", "backup: advert 0, RELEASE>backup Group", "fault: ",
])]
#[case::same_settings(Event::Reconfigure(&settings()), ["init: ", "backup: ", "active: ", "fault: "])]
#[case::other_settings(
    Event::Reconfigure(&Settings { priority: 5, ..settings() }),
    ["init: ", "backup: ", "active: advert 5, lease", "fault: "]
)]
#[case::drain(Event::Drain, [
    "init: drained NotActive", "backup: drained NotActive", "active: advert 1, lease",
    "fault: drained NotActive",
])]
#[case::resume(Event::Resume, ["init: ", "backup: ", "active: ", "fault: "])]
#[case::hand_over(Event::HandOver, ["init: ", "backup: ", "active: last 128 3.34s, lease", "fault: "])]
#[case::shutdown(Event::Shutdown, [
    "init: ", "init: backup>init Shutdown", "init: advert 0, RELEASE>init Shutdown",
    "init: fault>init Shutdown",
])]
#[case::discarded(
    Event::Discarded { discard: Discard::Checksum, source: HIGHER_PEER },
    ["init: ", "backup: ", "active: alarm RefusedActive", "fault: "]
)]
fn every_event(#[case] event: Event<'_>, #[case] expected: [&str; 4]) {
    for ((mut instance, now), expected) in all().into_iter().zip(expected) {
        let before = instance.state();
        let actions = instance.handle(event, now);
        let found = format!("{}: {}", instance.state(), shown(&actions));
        assert_eq!(found, spelt_out(expected), "from {before}");
        assert_eq!(
            instance.deadline().is_some(),
            matches!(instance.state(), State::Backup | State::Active),
            "a timer runs where there is something to wait for"
        );
    }
}

/// An advertisement with this priority from this peer.
#[rstest]
#[case::give_up(0, LOWER_PEER, ["backup: ", "active: advert 128, lease"])]
#[case::lower(127, HIGHER_PEER, [
    "backup: ", "active: alarm TwoActives, reaffirmed 1, advert 128, lease",
])]
#[case::equal_from_below(128, LOWER_PEER, [
    "backup: alarm EqualPriority", "active: alarm TwoActives, reaffirmed 1, advert 128, lease",
])]
#[case::equal_from_above(128, HIGHER_PEER, [
    "backup: alarm EqualPriority", "backup: advert 128, RELEASE>backup Higher",
])]
#[case::equal_from_itself(128, OWN, ["backup: alarm DuplicateNode", "active: alarm DuplicateNode"])]
#[case::higher(129, LOWER_PEER, ["backup: ", "backup: advert 128, RELEASE>backup Higher"])]
#[case::owner(255, LOWER_PEER, ["backup: ", "backup: advert 128, RELEASE>backup Higher"])]
fn advertisement(#[case] priority: u8, #[case] source: IpAddr, #[case] expected: [&str; 2]) {
    let [(mut init, _), (mut backup, now), (mut active, later), (mut fault, _)] = all();
    let found = |instance: &mut Instance, now| {
        let actions = hear(instance, priority, source, now);
        format!("{}: {}", instance.state(), shown(&actions))
    };
    assert_eq!(found(&mut backup, now), spelt_out(expected[0]));
    assert_eq!(found(&mut active, later), spelt_out(expected[1]));
    assert_eq!(init.takes(source), Err(Discard::NotRunning));
    assert_eq!(fault.takes(source), Err(Discard::NotRunning));
    let own = if source == OWN { Err(Discard::OwnSource) } else { Ok(()) };
    assert_eq!((backup.takes(source), active.takes(source)), (own, own), "V17");
    assert_eq!(found(&mut init, now), "init: ", "V18");
    assert_eq!(found(&mut fault, now), "fault: ", "V18");
}

#[rstest]
#[case::backup(1, "active: PROMOTION NobodyHeard")]
#[case::active(2, "active: advert 128, lease")]
fn timer_that_is_due(#[case] index: usize, #[case] expected: &str) {
    let (mut instance, _) = all()[index].clone();
    let due = instance.deadline().unwrap();
    assert!(instance.handle(Event::Timer, Nanos(due.0 - 1)).is_empty());
    let actions = instance.handle(Event::Timer, due);
    assert_eq!(format!("{}: {}", instance.state(), shown(&actions)), spelt_out(expected));
    assert!(instance.deadline().unwrap() > due);
}

#[test]
fn an_owner_is_active_at_once() {
    let mut instance = ready(&Settings { priority: PRIORITY_OWNER, ..settings() });
    instance.handle(Event::Tracked { adjustment: -100 }, ms(0));
    let actions = instance.handle(Event::Start { previous: None }, ms(0));
    assert_eq!(shown(&actions), "advert 255, lease, hold, announce, init>active Owner");
}

#[test]
fn without_link_or_address_a_start_is_a_fault() {
    let mut instance = Instance::new(&settings(), ms(0));
    let actions = instance.handle(Event::Start { previous: None }, ms(0));
    assert_eq!(shown(&actions), "init>fault Fault");
    assert!(instance.handle(Event::Link { up: true }, ms(0)).is_empty());
    assert_eq!(instance.faults().collect::<Vec<_>>(), [FaultCause::Address]);
    let actions = instance.handle(Event::Address { own: Some(OWN) }, ms(7000));
    assert_eq!(shown(&actions), "fault>backup Recovered");
    assert!(instance.deadline().unwrap() >= ms(7000 + 3500), "a full Active_Down_Interval");
}

/// C.5: the term goes on if nobody can have taken over.
#[rstest]
#[case::in_time(2999, "init>active Adopted", 7)]
#[case::too_late(3000, "init>backup Started", 7)]
fn a_restart_adopts_the_term(#[case] late: u64, #[case] expected: &str, #[case] term: u64) {
    let mut instance = ready(&settings());
    let previous = Some(Previous { term: 7, until: Some(ms(13_000)) });
    let actions = instance.handle(Event::Start { previous }, ms(10_000 + late));
    assert!(shown(&actions).ends_with(expected), "{actions:?}");
    assert_eq!(instance.term(), term);
}
