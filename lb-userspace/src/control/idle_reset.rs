//! Which idle clients of backends that were given up are told so, and when. Pure.
//!
//! ```text
//!             Stale           all slices are searched
//!   Resting ─────────► Searching ─────────► Telling ──┐ Deadline: the next ones,
//!      ▲                   │ nobody           │  ▲    │ at RATE, in random order
//!      └───────────────────┴──────────────────┘  └────┘
//!                             all are told
//! ```
//!
//! A client that sends something is answered by the datapath; one that waits is told by the controller:
//! slowly, and in no order, so that they do not all connect anew at once. Whom a round does not reach
//! is found again: every pass of the sweep says which backends have such flows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lb_common::backend::BackendId;

/// Clients that are told in a second.
pub const RATE: u32 = 2000;
/// Flows of one round; of IPv6 8,192 × 136 bytes.
pub const ROUND: usize = 8192;
/// Told at once, at most: what a busy controller may have to make up for.
const BURST: u32 = 100;
/// Between two slices of a search, and between two lots of clients.
const SEARCH_INTERVAL: Duration = Duration::from_millis(2);
pub(super) const TELL_INTERVAL: Duration = Duration::from_millis(10);

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<F> {
    /// These backends have flows of an older epoch.
    Stale(BTreeSet<BackendId>),
    /// What a slice had; `complete`: it was the last one.
    Found {
        flows: Vec<F>,
        complete: bool,
    },
    Deadline,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<F> {
    /// Look for flows of the [`IdleReset::targets`] in the next slice, and answer with `Found`.
    Search,
    Tell(Vec<F>),
}

#[derive(Clone, Debug)]
enum State<F> {
    Resting,
    Searching { found: Vec<F>, next: Instant },
    Telling { queue: Vec<F>, last: Instant },
}

/// The machine. `F` is a flow.
#[derive(Clone, Debug)]
pub struct IdleReset<F> {
    state: State<F>,
    /// Whose flows this round is for.
    targets: BTreeSet<BackendId>,
    /// And the next one.
    next: BTreeSet<BackendId>,
    random: u64,
}

impl<F> IdleReset<F> {
    /// Any seed will do.
    pub const fn new(seed: u64) -> Self {
        Self {
            state: State::Resting,
            targets: BTreeSet::new(),
            next: BTreeSet::new(),
            random: seed,
        }
    }

    /// Whose flows are searched for.
    pub const fn targets(&self) -> &BTreeSet<BackendId> {
        &self.targets
    }

    /// When to call with [`Event::Deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Resting => None,
            State::Searching { next, .. } => Some(*next),
            State::Telling { last, .. } => Some(*last + TELL_INTERVAL),
        }
    }

    pub fn handle(&mut self, event: Event<F>, now: Instant) -> Option<Action<F>> {
        match (&mut self.state, event) {
            (State::Resting, Event::Stale(backends)) => {
                self.next.extend(backends);
                self.begin(now);
                None
            }
            // The sweep comes by the flows of a round until they are told.
            (State::Searching { .. } | State::Telling { .. }, Event::Stale(backends)) => {
                self.next.extend(backends.difference(&self.targets));
                None
            }
            (State::Searching { next, .. }, Event::Deadline) if now >= *next => {
                *next = now + SEARCH_INTERVAL;
                Some(Action::Search)
            }
            (State::Searching { found, .. }, Event::Found { flows, complete }) => {
                let room = ROUND - found.len();
                if flows.len() > room {
                    self.next.extend(&self.targets);
                }
                found.extend(flows.into_iter().take(room));
                if complete {
                    let queue = std::mem::take(found);
                    self.tell(queue, now);
                }
                None
            }
            (State::Telling { queue, last }, Event::Deadline) => {
                let due = due(last, now);
                let flows: Vec<F> = queue.drain(queue.len().saturating_sub(due)..).collect();
                if queue.is_empty() {
                    self.begin(now);
                }
                (!flows.is_empty()).then_some(Action::Tell(flows))
            }
            (State::Resting | State::Searching { .. }, Event::Deadline)
            | (State::Resting | State::Telling { .. }, Event::Found { .. }) => None,
        }
    }

    /// Begins the next round, if there is one.
    fn begin(&mut self, now: Instant) {
        self.targets = std::mem::take(&mut self.next);
        self.state = if self.targets.is_empty() {
            State::Resting
        } else {
            State::Searching { found: Vec::new(), next: now }
        };
    }

    fn tell(&mut self, mut queue: Vec<F>, now: Instant) {
        if queue.is_empty() {
            return self.begin(now);
        }
        // Fisher and Yates.
        for last in (1..queue.len()).rev() {
            queue.swap(last, self.below(last + 1));
        }
        self.state = State::Telling { queue, last: now };
    }

    /// A number from 0 to `limit`, exclusive; as even as this purpose needs.
    fn below(&mut self, limit: usize) -> usize {
        // splitmix64, as in `health::fsm`.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).unwrap_or(0)
    }
}

/// How many clients may be told since `last`, which goes on by as much.
pub(super) fn due(last: &mut Instant, now: Instant) -> usize {
    let each = Duration::from_secs(1) / RATE;
    let elapsed = now.saturating_duration_since(*last);
    let due = u32::try_from(elapsed.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
    *last = if due > BURST { now } else { *last + each * due };
    due.min(BURST) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        machine: IdleReset<u32>,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let now = Instant::now();
            Self { machine: IdleReset::new(1), now }
        }

        fn stale(&mut self, backends: &[BackendId]) {
            let stale = Event::Stale(backends.iter().copied().collect());
            assert_eq!(self.machine.handle(stale, self.now), None);
        }

        /// Lets the machine search once, and find these.
        fn find(&mut self, flows: impl IntoIterator<Item = u32>, complete: bool) {
            self.now = self.machine.deadline().unwrap();
            assert_eq!(self.machine.handle(Event::Deadline, self.now), Some(Action::Search));
            let found = Event::Found { flows: flows.into_iter().collect(), complete };
            assert_eq!(self.machine.handle(found, self.now), None);
        }

        /// Who is told until the machine searches again or rests.
        fn told(&mut self) -> Vec<u32> {
            let mut told = Vec::new();
            while let State::Telling { .. } = self.machine.state {
                self.now = self.machine.deadline().unwrap();
                if let Some(Action::Tell(flows)) = self.machine.handle(Event::Deadline, self.now) {
                    told.extend(flows);
                }
            }
            told
        }
    }

    #[test]
    fn a_thousand_clients_are_told_in_half_a_second_in_random_order() {
        let mut case = Case::new();
        case.stale(&[7]);
        assert_eq!(case.machine.targets(), &BTreeSet::from([7]));
        let start = case.now;
        case.find(0..400, false);
        case.find(400..1000, true);
        let mut told = case.told();
        let took = case.now - start;
        assert!(took > Duration::from_millis(450) && took < Duration::from_millis(550), "{took:?}");
        assert!(!told.is_sorted());
        told.sort_unstable();
        assert_eq!(told, (0..1000).collect::<Vec<_>>());
        assert_eq!(case.machine.deadline(), None);
    }

    #[test]
    fn a_late_call_makes_up_for_a_little_only() {
        let mut case = Case::new();
        case.stale(&[7]);
        case.find(0..1000, true);
        case.now += Duration::from_secs(1);
        let Some(Action::Tell(flows)) = case.machine.handle(Event::Deadline, case.now) else {
            panic!("nobody was told");
        };
        assert_eq!(flows.len(), BURST as usize);
        // At once again: it is too early for anybody.
        assert_eq!(case.machine.handle(Event::Deadline, case.now), None);
    }

    #[test]
    fn what_does_not_fit_into_a_round_is_searched_for_again() {
        let mut case = Case::new();
        case.stale(&[7]);
        case.find(0..10_000, false);
        case.find(10_000..20_000, true);
        assert_eq!(case.told().len(), ROUND);
        case.find(0..100, true);
        assert_eq!(case.told().len(), 100);
        assert_eq!(case.machine.deadline(), None);
    }

    #[test]
    fn backends_given_up_meanwhile_are_next() {
        let mut case = Case::new();
        case.stale(&[7]);
        case.find(0..10, true);
        // The sweep still sees flows of the first.
        case.stale(&[7, 8]);
        assert_eq!(case.told().len(), 10);
        assert_eq!(case.machine.targets(), &BTreeSet::from([8]));
        case.find([], true);
        assert_eq!(case.machine.deadline(), None);
    }

    #[test]
    fn calls_that_nobody_asked_for_do_nothing() {
        let mut case = Case::new();
        assert_eq!(case.machine.handle(Event::Deadline, case.now), None);
        let found = Event::Found { flows: vec![1], complete: true };
        assert_eq!(case.machine.handle(found, case.now), None);
        assert_eq!(case.machine.deadline(), None);
        case.stale(&[]);
        assert_eq!(case.machine.deadline(), None);
    }
}
