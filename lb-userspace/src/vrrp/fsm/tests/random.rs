//! Any events in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
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
    Shutdown,
}

fn any_step() -> impl Strategy<Value = Step> {
    let received = (any::<u8>(), any::<bool>(), 0..5000_u64, 1..4000_u64, any::<bool>()).prop_map(
        |(priority, from_above, age, interval, foreign)| Step::Received {
            priority,
            from_above,
            age,
            interval,
            foreign,
        },
    );
    let reconfigured = (1..=255_u8, any::<bool>(), 1..4000_u64, any::<bool>()).prop_map(
        |(priority, preempt, interval, grouped)| Step::Reconfigure {
            priority,
            preempt,
            interval,
            grouped,
        },
    );
    prop_oneof![
        1 => proptest::option::of(0..9000_u64).prop_map(Step::Start),
        8 => Just(Step::Timer),
        8 => received,
        1 => Just(Step::Receiving),
        3 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Step::Link),
        1 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Step::Address),
        1 => any::<i16>().prop_map(Step::Tracked),
        1 => prop_oneof![1 => Just(true), 2 => Just(false)].prop_map(Step::Fault),
        1 => Just(Step::Promote),
        1 => Just(Step::StepDown),
        1 => reconfigured,
        1 => Just(Step::Drain),
        1 => Just(Step::Resume),
        1 => Just(Step::Shutdown),
    ]
}

fn feed(instance: &mut Instance, step: &Step, now: Nanos) -> Actions {
    match *step {
        Step::Start(age) => {
            let advertised = age.map(|age| now.before(Duration::from_millis(age)));
            let previous = age.map(|term| Previous { term, advertised });
            instance.handle(Event::Start { previous }, now)
        }
        Step::Timer => instance.handle(Event::Timer, now),
        Step::Received { priority, from_above, age, interval, foreign } => {
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
        Step::Receiving => instance.handle(Event::Receiving, now),
        Step::Link(up) => instance.handle(Event::Link { up }, now),
        Step::Address(known) => instance.handle(Event::Address { own: known.then_some(OWN) }, now),
        Step::Tracked(adjustment) => instance.handle(Event::Tracked { adjustment }, now),
        Step::Fault(present) => {
            instance.handle(Event::Fault { cause: FaultCause::Vips, present }, now)
        }
        Step::Promote => instance.handle(Event::Promote, now),
        Step::StepDown => instance.handle(Event::StepDown, now),
        Step::Reconfigure { priority, preempt, interval, grouped } => {
            let advert_interval = Duration::from_millis(interval);
            let settings = Settings { priority, preempt, advert_interval, grouped, ..settings() };
            instance.handle(Event::Reconfigure(&settings), now)
        }
        Step::Drain => instance.handle(Event::Drain, now),
        Step::Resume => instance.handle(Event::Resume, now),
        Step::Shutdown => instance.handle(Event::Shutdown, now),
    }
}

proptest! {
    #[test]
    fn actions_agree_with_the_state(
        steps in proptest::collection::vec((any_step(), 0..3000_u64), 1..120),
    ) {
        let mut instance = ready(&settings());
        let (mut now, mut term) = (ms(100_000), 0);
        for (step, pause) in &steps {
            now = now.after(Duration::from_millis(*pause));
            let before = instance.state();
            let actions = feed(&mut instance, step, now);
            let after = instance.state();
            let count = |wanted: Action| actions.iter().filter(|it| **it == wanted).count();
            let entered = before != State::Active && after == State::Active;
            let left = before == State::Active && after != State::Active;

            prop_assert_eq!(count(Action::HoldVips) > 0, entered, "{:?}: {:?}", step, actions);
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
                State::Init | State::Fault => false,
                State::Backup => !instance.wishes(),
                State::Active => true,
            };
            prop_assert_eq!(instance.deadline().is_some(), waits);
        }
    }

    /// A driver that calls when it is told to neither spins nor sleeps for ever.
    #[test]
    fn a_timer_call_at_the_deadline_has_an_effect(
        steps in proptest::collection::vec((any_step(), 0..3000_u64), 1..60),
    ) {
        let mut instance = ready(&settings());
        let mut now = ms(100_000);
        for (step, pause) in &steps {
            now = now.after(Duration::from_millis(*pause));
            feed(&mut instance, step, now);
            if let Some(due) = instance.deadline() {
                now = now.max(due);
                let actions = instance.handle(Event::Timer, now);
                prop_assert!(!actions.is_empty(), "{:?} at {:?}", instance, now);
            }
        }
    }
}
