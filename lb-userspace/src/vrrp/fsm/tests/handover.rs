//! Leaving the VIPs to a successor: `restart_grace`.

use super::*;

fn later(since: Nanos, millis: u64) -> Nanos {
    since.after(Duration::from_millis(millis))
}

/// 10 s are three times 3.34 s, which peers wait at least; and a lease is no longer than that.
#[test]
fn peers_are_told_to_wait_and_the_lease_lasts_no_longer() {
    let (mut instance, since) = active(&settings());
    let now = later(since, 300);
    let actions = instance.handle(Event::HandOver, now);
    let interval = Duration::from_millis(3340);
    assert_eq!(actions[0], Action::SendLastAdvert { priority: 128, interval });
    let lease = Lease { answer_until: later(now, 10_020), forward_until: later(now, 12_020) };
    assert_eq!(actions[1], Action::RenewLease(lease));

    // The most eager of peers, which hears it at once.
    let mut peer = backup(&Settings { priority: 254, preempt: false, ..settings() });
    let last = Advert { interval, ..advert(128) };
    peer.handle(Event::Received { advert: &last, source: LOWER_PEER, at: now }, now);
    let due = peer.deadline().unwrap();
    assert!(due > lease.answer_until, "{due:?} with a lease until {:?}", lease.answer_until);
    let actions = peer.handle(Event::Timer, due);
    assert!(matches!(reason(&actions), Reason::PeerSilent { .. }), "nobody came: {actions:?}");
}

#[test]
fn a_successor_goes_on_and_peers_learn_the_usual_interval_again() {
    let interval = Duration::from_millis(3340);
    let mut peer = backup(&settings());
    let last = Advert { interval, ..advert(200) };
    let at = ms(1000);
    let actions = peer.handle(Event::Received { advert: &last, source: HIGHER_PEER, at }, at);
    assert_eq!(shown(&actions), "", "once is no alarm");
    assert_eq!(peer.deadline(), Some(ms(1000 + 3340 * 7 / 2)));
    let actions = hear(&mut peer, 200, HIGHER_PEER, ms(6000));
    assert_eq!(shown(&actions), "");
    assert_eq!(peer.deadline(), Some(ms(9500)));

    let mut successor = ready(&settings());
    let previous = Some(Previous { term: 4, until: Some(ms(11_020)) });
    let actions = successor.handle(Event::Start { previous }, ms(6000));
    assert_eq!(shown(&actions), "advert 128, lease, hold, announce, init>active Adopted");
    assert_eq!(successor.term(), 4);
}

/// Peers drop what has another interval.
#[test]
fn version_2_has_no_more_time_than_before() {
    let old = Settings { version: Version::V2, restart_grace: Duration::ZERO, ..settings() };
    let (mut instance, since) = active(&old);
    let actions = instance.handle(Event::HandOver, since);
    assert_eq!(shown(&actions), "last 128 1s, lease");
    let lease = Lease { answer_until: later(since, 3000), forward_until: later(since, 5000) };
    assert_eq!(actions[1], Action::RenewLease(lease));
}

/// The peer is about to take over.
#[test]
fn a_node_that_drains_does_not_ask_for_time() {
    let (mut instance, since) = active(&settings());
    instance.handle(Event::Drain, since);
    assert_eq!(shown(&instance.handle(Event::HandOver, later(since, 100))), "");
}
