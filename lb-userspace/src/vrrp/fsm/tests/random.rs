//! Any events in any order.

use proptest::prelude::*;

use super::*;

const SILENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
enum Given {
    Start(Option<u64>),
    Timer,
    Received { priority: u8, from_above: bool, age: u64, interval: u64, foreign: bool },
    Receiving,
    Link(bool),
    Address(bool),
    Tracked(i16),
    Fault(bool),
    Promote,
    StepDown,
    Reconfigure { priority: u8, preempt: bool, interval: u64, grouped: bool },
    Drain,
    Resume,
    HandOver,
    Shutdown,
}

fn any_event() -> impl Strategy<Value = Given> {
    let received = (any::<u8>(), any::<bool>(), 0..5000_u64, 1..4000_u64, any::<bool>()).prop_map(
        |(priority, from_above, age, interval, foreign)| Given::Received {
            priority,
            from_above,
            age,
            interval,
            foreign,
        },
    );
    let reconfigured = (1..=255_u8, any::<bool>(), 1..4000_u64, any::<bool>()).prop_map(
        |(priority, preempt, interval, grouped)| Given::Reconfigure {
            priority,
            preempt,
            interval,
            grouped,
        },
    );
    prop_oneof![
        1 => proptest::option::of(0..9000_u64).prop_map(Given::Start),
        8 => Just(Given::Timer),
        8 => received,
        1 => Just(Given::Receiving),
        3 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Given::Link),
        1 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Given::Address),
        1 => any::<i16>().prop_map(Given::Tracked),
        1 => prop_oneof![1 => Just(true), 2 => Just(false)].prop_map(Given::Fault),
        1 => Just(Given::Promote),
        1 => Just(Given::StepDown),
        1 => reconfigured,
        1 => Just(Given::Drain),
        1 => Just(Given::Resume),
        1 => Just(Given::HandOver),
        1 => Just(Given::Shutdown),
    ]
}

fn feed(instance: &mut Instance, given: &Given, now: Nanos) -> Actions {
    match *given {
        Given::Start(age) => {
            let until = age.map(|age| now.before(Duration::from_millis(age)).after(SILENCE));
            let previous = age.map(|term| Previous { term, until });
            instance.handle(Event::Start { previous }, now)
        }
        Given::Timer => instance.handle(Event::Timer, now),
        Given::Received { priority, from_above, age, interval, foreign } => {
            let vip = if foreign { OWN } else { VIP };
            let advert = Advert {
                interval: Duration::from_millis(interval),
                addresses: [vip].into_iter().collect(),
                ..advert(priority)
            };
            let source = if from_above { HIGHER_PEER } else { LOWER_PEER };
            let at = now.before(Duration::from_millis(age));
            instance.handle(Event::Received { advert: &advert, source, at }, now)
        }
        Given::Receiving => instance.handle(Event::Receiving, now),
        Given::Link(up) => instance.handle(Event::Link { up }, now),
        Given::Address(known) => instance.handle(Event::Address { own: known.then_some(OWN) }, now),
        Given::Tracked(adjustment) => instance.handle(Event::Tracked { adjustment }, now),
        Given::Fault(present) => {
            instance.handle(Event::Fault { cause: FaultCause::Vips, present }, now)
        }
        Given::Promote => instance.handle(Event::Promote, now),
        Given::StepDown => instance.handle(Event::StepDown, now),
        Given::Reconfigure { priority, preempt, interval, grouped } => {
            let advert_interval = Duration::from_millis(interval);
            let settings = Settings { priority, preempt, advert_interval, grouped, ..settings() };
            instance.handle(Event::Reconfigure(&settings), now)
        }
        Given::Drain => instance.handle(Event::Drain, now),
        Given::Resume => instance.handle(Event::Resume, now),
        Given::HandOver => instance.handle(Event::HandOver, now),
        Given::Shutdown => instance.handle(Event::Shutdown, now),
    }
}

proptest! {
    #[test]
    fn actions_agree_with_the_state(
        steps in proptest::collection::vec((any_event(), 0..3000_u64), 1..120),
    ) {
        let mut instance = ready(&settings());
        let (mut now, mut term) = (ms(100_000), 0);
        for (given, pause) in &steps {
            now = now.after(Duration::from_millis(*pause));
            let before = instance.state();
            let actions = feed(&mut instance, given, now);
            let after = instance.state();
            let count = |wanted: Action| actions.iter().filter(|it| **it == wanted).count();
            let entered = before != State::Active && after == State::Active;
            let left = before == State::Active && after != State::Active;

            prop_assert_eq!(count(Action::HoldVips) > 0, entered, "{:?}: {:?}", given, actions);
            prop_assert_eq!(count(Action::ReleaseVips), usize::from(left), "{:?}", actions);
            prop_assert_eq!(count(Action::StopAnnouncing), usize::from(left), "{:?}", actions);
            if left {
                prop_assert!(count(Action::StartAnnouncing) == 0, "{:?}", actions);
            }
            if before != State::Active && after != State::Active {
                let is_sent = actions.iter().any(|it| matches!(it, Action::SendAdvert { .. }));
                prop_assert!(!is_sent, "only the Active one speaks: {:?}", actions);
            }
            if after == State::Active {
                prop_assert!(count(Action::SendAdvert { priority: 0 }) == 0, "{:?}", actions);
                prop_assert!(instance.faults().next().is_none());
            }
            if actions.contains(&Action::HoldVips) {
                let is_first = matches!(actions[0], Action::SendAdvert { .. });
                prop_assert!(is_first, "the advertisement goes first: {:?}", actions);
            }
            let notified = actions.iter().any(|it| matches!(it, Action::Notify(_)));
            prop_assert_eq!(notified, before != after, "{:?}", actions);
            prop_assert!(instance.term() >= term);
            term = instance.term();
            let waits = match after {
                State::Init => false,
                State::Fault => instance.recover_at.is_some(),
                State::Backup => !instance.wishes(),
                State::Active => true,
            };
            prop_assert_eq!(instance.deadline().is_some(), waits);
        }
    }

    /// A driver that calls when it is told to neither spins nor sleeps for ever.
    #[test]
    fn a_timer_call_at_the_deadline_has_an_effect(
        steps in proptest::collection::vec((any_event(), 0..3000_u64), 1..60),
    ) {
        let mut instance = ready(&settings());
        let mut now = ms(100_000);
        for (given, pause) in &steps {
            now = now.after(Duration::from_millis(*pause));
            feed(&mut instance, given, now);
            if let Some(due) = instance.deadline() {
                now = now.max(due);
                let actions = instance.handle(Event::Timer, now);
                prop_assert!(!actions.is_empty(), "{:?} at {:?}", instance, now);
            }
        }
    }
}
