//! Waiting, and for how long.

use rstest::rstest;

use super::*;

#[test]
fn adverts_put_the_take_over_off() {
    let mut instance = backup(&settings());
    assert_eq!(instance.deadline(), Some(ms(3500)));
    hear(&mut instance, 200, HIGHER_PEER, ms(1000));
    assert_eq!(instance.deadline(), Some(ms(4500)));
    hear(&mut instance, 128, LOWER_PEER, ms(2000));
    assert_eq!(instance.deadline(), Some(ms(5500)), "equal priority never preempts");
    let actions = instance.handle(Event::Timer, ms(5500));
    let expected = Reason::PeerSilent { peer: LOWER_PEER, silent: Duration::from_millis(3500) };
    assert_eq!(reason(&actions), expected);
}

/// A late call counts from when packets arrived, not from when they were read.
#[test]
fn time_stamps_count_after_a_stall() {
    let mut instance = backup(&settings());
    let queued = advert(200);
    let event = Event::Received { advert: &queued, source: HIGHER_PEER, at: ms(3000) };
    assert!(instance.handle(event, ms(9000)).is_empty());
    assert_eq!(instance.deadline(), Some(ms(6500)), "in the past: the peer is dead");
    let event = Event::Received { advert: &queued, source: HIGHER_PEER, at: ms(8000) };
    assert!(instance.handle(event, ms(9000)).is_empty());
    assert!(instance.handle(Event::Timer, ms(9000)).is_empty());
    assert_eq!(instance.deadline(), Some(ms(11_500)));
}

#[test]
fn the_interval_is_the_active_ones() {
    let mut instance = backup(&settings());
    let slow = Advert { interval: Duration::from_secs(2), ..advert(200) };
    let event = Event::Received { advert: &slow, source: HIGHER_PEER, at: ms(1000) };
    assert_eq!(shown(&instance.handle(event, ms(1000))), "", "it may be about to hand over");
    assert_eq!(instance.deadline(), Some(ms(1000 + 7000)));
    let event = Event::Received { advert: &slow, source: HIGHER_PEER, at: ms(3000) };
    assert_eq!(shown(&instance.handle(event, ms(3000))), "alarm Interval");
    hear(&mut instance, 0, HIGHER_PEER, ms(4000));
    assert_eq!(instance.deadline(), Some(ms(4000 + 1000)), "and so is the skew");
    let actions = instance.handle(Event::Timer, ms(5000));
    assert_eq!(reason(&actions), Reason::PeerGaveUp { peer: HIGHER_PEER });
    assert_eq!(instance.deadline(), Some(ms(6000)), "our own adverts are at our interval");
}

/// With three nodes, one that loses a conflict may give up while the winner is Active.
#[test]
fn only_the_active_one_can_give_up() {
    let mut instance = backup(&settings());
    hear(&mut instance, 200, HIGHER_PEER, ms(1000));
    hear(&mut instance, 0, LOWER_PEER, ms(1500));
    assert_eq!(instance.deadline(), Some(ms(4500)));
    hear(&mut instance, 0, HIGHER_PEER, ms(2000));
    assert_eq!(instance.deadline(), Some(ms(2500)));
    hear(&mut instance, 200, HIGHER_PEER, ms(2100));
    hear(&mut instance, 0, LOWER_PEER, ms(5200));
    assert_eq!(instance.deadline(), Some(ms(5700)), "that one is silent for 3 s");
}

#[test]
fn a_lower_active_is_relieved_when_the_timer_ends() {
    let mut instance = backup(&settings());
    for second in 1..=3 {
        assert!(hear(&mut instance, 100, LOWER_PEER, ms(second * 1000)).is_empty());
    }
    assert_eq!(instance.deadline(), Some(ms(3500)));
    let actions = instance.handle(Event::Timer, ms(3500));
    assert_eq!(reason(&actions), Reason::Preempting { peer: LOWER_PEER, priority: 100 });
}

#[test]
fn without_preemption_a_lower_active_stays() {
    let mut instance = backup(&Settings { preempt: false, ..settings() });
    for second in 1..=9 {
        hear(&mut instance, 100, LOWER_PEER, ms(second * 1000));
        assert_eq!(instance.deadline(), Some(ms(second * 1000 + 3500)));
    }
}

fn delaying() -> Instance {
    backup(&Settings { preempt_delay: Duration::from_secs(5), ..settings() })
}

/// E17: from the first advertisement of the lower one on.
#[test]
fn a_lower_active_is_left_alone_for_the_delay() {
    let mut instance = delaying();
    for second in 1..=5 {
        hear(&mut instance, 100, LOWER_PEER, ms(second * 1000));
    }
    assert_eq!(instance.deadline(), Some(ms(6000)));
    assert!(instance.handle(Event::Timer, ms(5999)).is_empty());
    let actions = instance.handle(Event::Timer, ms(6000));
    assert_eq!(reason(&actions), Reason::Preempting { peer: LOWER_PEER, priority: 100 });
}

#[test]
fn a_higher_active_cancels_the_delay() {
    let mut instance = delaying();
    hear(&mut instance, 100, LOWER_PEER, ms(1000));
    hear(&mut instance, 250, LOWER_PEER, ms(2000));
    assert_eq!(instance.deadline(), Some(ms(5500)));
    hear(&mut instance, 100, LOWER_PEER, ms(3000));
    assert_eq!(instance.deadline(), Some(ms(6500)), "3 s and no advert: it counts as dead");
    hear(&mut instance, 100, LOWER_PEER, ms(4000));
    assert_eq!(instance.deadline(), Some(ms(7500)));
    hear(&mut instance, 100, LOWER_PEER, ms(5000));
    assert_eq!(instance.deadline(), Some(ms(8000)), "the delay counts from its first again");
}

#[test]
fn a_lower_active_that_dies_is_not_waited_for() {
    let mut instance = backup(&Settings { preempt_delay: Duration::from_secs(60), ..settings() });
    hear(&mut instance, 100, LOWER_PEER, ms(1000));
    assert_eq!(instance.deadline(), Some(ms(4500)));
    let actions = instance.handle(Event::Timer, ms(4500));
    let expected = Reason::PeerSilent { peer: LOWER_PEER, silent: Duration::from_millis(3500) };
    assert_eq!(reason(&actions), expected);
}

/// Its interval is what its silence is measured by, as a higher one's.
#[test]
fn a_slow_lower_active_is_not_dead_between_two_advertisements() {
    let mut instance = backup(&Settings { preempt_delay: Duration::from_secs(60), ..settings() });
    let slow = Advert { interval: Duration::from_secs(10), ..advert(100) };
    instance.handle(Event::Received { advert: &slow, source: LOWER_PEER, at: ms(1000) }, ms(1000));
    assert_eq!(instance.deadline(), Some(ms(36_000)));
}

/// Of a link that passes nothing yet, silence says nothing.
#[test]
fn a_link_without_any_frame_is_given_time() {
    let mut instance = backup(&settings());
    instance.handle(Event::Link { up: false }, ms(100));
    instance.handle(Event::Link { up: true }, ms(1000));
    assert_eq!(instance.deadline(), Some(ms(1000 + 3500 + 5000)), "bounded");
    instance.handle(Event::Receiving, ms(4000));
    assert_eq!(instance.deadline(), Some(ms(4000 + 3500)));
    instance.handle(Event::Receiving, ms(5000));
    assert_eq!(instance.deadline(), Some(ms(4000 + 3500)), "once");
}

#[test]
fn the_start_up_delay_is_mute() {
    let mut instance = ready(&Settings {
        startup_delay: Duration::from_secs(30),
        priority: PRIORITY_OWNER,
        ..settings()
    });
    instance.handle(Event::Start { previous: None }, ms(0));
    assert_eq!((instance.state(), instance.deadline()), (State::Backup, Some(ms(30_000))));
    assert!(instance.handle(Event::Timer, ms(29_999)).is_empty());
    assert_eq!(instance.handle(Event::Timer, ms(30_000)).len(), 5);
}

#[test]
fn another_priority_is_another_deadline() {
    let mut instance = backup(&settings());
    instance.handle(Event::Tracked { adjustment: -64 }, ms(100));
    assert_eq!((instance.priority(), instance.deadline()), (64, Some(ms(3750))));
    instance.handle(Event::Reconfigure(&Settings { priority: 254, ..settings() }), ms(200));
    assert_eq!((instance.priority(), instance.deadline()), (190, Some(Nanos(3_257_812_500))));
}

#[rstest]
#[case(128, 253, 254)]
#[case(128, -253, 1)]
#[case(1, -1, 1)]
#[case(254, 1, 254)]
#[case(255, -253, 255)]
fn priority_is_clamped(#[case] priority: u8, #[case] adjustment: i16, #[case] expected: u8) {
    let mut instance = backup(&Settings { priority: 1, ..settings() });
    instance.handle(Event::Reconfigure(&Settings { priority, ..settings() }), ms(0));
    instance.handle(Event::Tracked { adjustment }, ms(0));
    assert_eq!(instance.priority(), expected);
}

/// E25: nobody takes over a VRID that another cluster uses.
#[rstest]
#[case::lower(100)]
#[case::higher(200)]
#[case::giving_up(0)]
fn a_foreign_vrid_is_left_alone(#[case] priority: u8) {
    let other: IpAddr = "10.9.9.9".parse().unwrap();
    let foreign = Advert { addresses: [other].into_iter().collect(), ..advert(priority) };
    let mut instance = backup(&settings());
    let event = Event::Received { advert: &foreign, source: LOWER_PEER, at: ms(1000) };
    assert_eq!(shown(&instance.handle(event, ms(1000))), "alarm ForeignVrid");
    assert_eq!(instance.deadline(), Some(ms(4500)));

    let (mut instance, since) = active(&settings());
    let event = Event::Received { advert: &foreign, source: LOWER_PEER, at: since };
    assert_eq!(shown(&instance.handle(event, since)), "alarm ForeignVrid");
    assert_eq!(instance.state(), State::Active);
}

/// V12: warned of, never dropped.
#[test]
fn a_list_that_differs_in_part_counts() {
    let other: IpAddr = "10.9.9.9".parse().unwrap();
    let longer = Advert { addresses: [VIP, other].into_iter().collect(), ..advert(200) };
    let (mut instance, since) = active(&settings());
    let event = Event::Received { advert: &longer, source: LOWER_PEER, at: since };
    let actions = shown(&instance.handle(event, since));
    assert!(actions.starts_with("alarm AddressList, advert 128"), "{actions}");
    assert_eq!(instance.state(), State::Backup);
}

#[test]
fn a_group_is_asked_first() {
    let mut instance = backup(&Settings { grouped: true, ..settings() });
    assert_eq!(shown(&instance.handle(Event::Timer, ms(3500))), "wish");
    assert_eq!((instance.wishes(), instance.deadline()), (true, None));
    assert!(instance.handle(Event::Timer, ms(4000)).is_empty());
    assert_eq!(shown(&hear(&mut instance, 200, LOWER_PEER, ms(4000))), "unwish");
    assert_eq!(instance.deadline(), Some(ms(7500)));
    assert_eq!(shown(&instance.handle(Event::Timer, ms(7500))), "wish");
    let actions = instance.handle(Event::Promote, ms(8000));
    let expected = Reason::PeerSilent { peer: LOWER_PEER, silent: Duration::from_secs(4) };
    assert_eq!(reason(&actions), expected);
}
