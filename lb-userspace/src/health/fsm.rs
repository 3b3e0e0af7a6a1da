//! When to probe a backend and what follows from the answers. Called by `driver`. Pure.
//!
//! ```text
//!            first success            `fall` failures
//!  Unknown ─────────────────► Up ─────────────────────► Down
//!     │                        ▲    `rise` successes     │ ▲
//!     │                        └─────────────────────────┘ │
//!     └────────────────────────────────────────────────────┘
//!                       `fall` failures
//! ```
//! Only answers in a row count: one that agrees with the state forgets those that did not.
//! `rise` is for backends seen down; one that was never down is used at its first success.

use std::time::{Duration, Instant};

use super::Health;
use crate::config::HealthCheck;

/// No probe starts sooner after the one before, whatever the configuration says: zero would spin.
const MIN_PERIOD: Duration = Duration::from_millis(10);

/// No period is longer, jitter apart: sums of periods and instants must not overflow.
const MAX_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Largest deviation of a period from the configured one, in thousandths.
const JITTER: u64 = 100;

/// When probes start and how many decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    pub interval: Duration,
    pub fast_interval: Duration,
    pub rise: u32,
    pub fall: u32,
}

impl From<&HealthCheck> for Timings {
    fn from(check: &HealthCheck) -> Self {
        Self {
            interval: check.interval,
            fast_interval: check.fast_interval,
            rise: check.rise,
            fall: check.fall,
        }
    }
}

/// What the machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The deadline may have passed. Harmless when it has not.
    Deadline,
    /// There is reason to doubt the state: probe as soon as the fast interval allows.
    Doubt,
    /// The probe ended.
    Finished(Outcome),
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
}

/// What the driver does after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Start a probe. None is under way.
    pub probe: bool,
    /// The outcome does not speak against the state after it: what the probe found is the reason for
    /// that state. Any outcome is, of a backend that stays unknown.
    pub decisive: bool,
    pub transition: Option<Transition>,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: Health,
    pub to: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next probe starts then.
    Waiting { until: Instant },
    /// `doubted`: since it started. It may have seen the backend before whatever raised the doubt.
    Probing { doubted: bool },
}

/// The state of one backend.
#[derive(Clone, Debug)]
pub struct Fsm {
    timings: Timings,
    health: Health,
    /// Outcomes in a row that speak against `health`; of an unknown backend, failures.
    streak: u32,
    phase: Phase,
    /// Start of the last probe. Periods run from start to start, so that the duration of a probe that
    /// times out does not add to them.
    started: Instant,
    random: u64,
}

impl Fsm {
    /// A machine that probes at once. `initial` is `Unknown`, or the state that an earlier run found;
    /// `seed` should differ between backends: it spreads their probes.
    pub fn new(timings: Timings, initial: Health, seed: u64, now: Instant) -> Self {
        Self {
            timings,
            health: initial,
            streak: 0,
            phase: Phase::Waiting { until: now },
            started: now,
            random: seed,
        }
    }

    pub const fn health(&self) -> Health {
        self.health
    }

    /// When to call [`Self::handle`] with [`Event::Deadline`]; none while a probe is under way.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Probing { .. } => None,
        }
    }

    /// Another check applies. The state stays and is probed at once; a probe under way must be
    /// abandoned, and the outcomes counted so far are forgotten: they were another check's.
    pub const fn reconfigure(&mut self, timings: Timings, now: Instant) {
        self.timings = timings;
        self.streak = 0;
        self.phase = Phase::Waiting { until: now };
    }

    /// Feeds an event; `now` never goes back.
    pub fn handle(&mut self, event: Event, now: Instant) -> Actions {
        match (self.phase, event) {
            (Phase::Waiting { until }, Event::Deadline) => self.wait(until, now),
            (Phase::Waiting { until }, Event::Doubt) => {
                // Clients can raise doubts, so they must not set the rate of the probes.
                let soonest =
                    self.started + self.timings.fast_interval.clamp(MIN_PERIOD, MAX_PERIOD);
                self.wait(until.min(soonest.max(now)), now)
            }
            // Of a probe that was abandoned.
            (Phase::Waiting { .. }, Event::Finished(_)) => Actions::default(),
            (Phase::Probing { .. }, Event::Deadline) => Actions::default(),
            (Phase::Probing { .. }, Event::Doubt) => {
                self.phase = Phase::Probing { doubted: true };
                Actions::default()
            }
            (Phase::Probing { doubted }, Event::Finished(outcome)) => {
                let (decisive, transition) = self.count(outcome);
                let period = self.period(doubted);
                let started = self.wait(self.started + period, now);
                Actions { decisive, transition, ..started }
            }
        }
    }

    /// Waits for `until`, or starts the probe if that has passed.
    fn wait(&mut self, until: Instant, now: Instant) -> Actions {
        if now < until {
            self.phase = Phase::Waiting { until };
            return Actions::default();
        }
        self.started = now;
        self.phase = Phase::Probing { doubted: false };
        Actions { probe: true, ..Actions::default() }
    }

    /// Counts an outcome; whether it agrees with the resulting state, and the change if there is one.
    fn count(&mut self, outcome: Outcome) -> (bool, Option<Transition>) {
        let (to, needed) = match (self.health, outcome) {
            (Health::Unknown, Outcome::Success) => (Health::Up, 1),
            (Health::Unknown | Health::Up, Outcome::Failure) => (Health::Down, self.timings.fall),
            (Health::Down, Outcome::Success) => (Health::Up, self.timings.rise),
            (Health::Up, Outcome::Success) | (Health::Down, Outcome::Failure) => {
                self.streak = 0;
                return (true, None);
            }
        };
        self.streak += 1;
        if self.streak < needed {
            return (self.health == Health::Unknown, None);
        }
        self.streak = 0;
        let transition = Transition { from: self.health, to };
        self.health = to;
        (true, Some(transition))
    }

    /// From the start of the last probe to that of the next.
    fn period(&mut self, doubted: bool) -> Duration {
        let Timings { interval, fast_interval, .. } = self.timings;
        let period =
            if doubted || self.streak > 0 { fast_interval.min(interval) } else { interval };
        (period.min(MAX_PERIOD) * self.jitter() / 1000).max(MIN_PERIOD)
    }

    /// Thousandths, from 900 to 1100.
    fn jitter(&mut self) -> u32 {
        // splitmix64: any seed will do, zero included.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let deviation = (z ^ (z >> 31)) % (2 * JITTER + 1);
        u32::try_from(1000 - JITTER + deviation).unwrap_or(1000)
    }
}

/// The longest that a backend which answers nothing at all stays up: it vanishes just after it has
/// answered a probe, and each of the next `fall` runs into its timeout.
pub fn worst_case_removal(check: &HealthCheck) -> Duration {
    let longest = |period: Duration| period.saturating_add(period / 10);
    let fast = longest(check.fast_interval.min(check.interval)).max(check.timeout);
    longest(check.interval)
        .max(check.timeout)
        .saturating_add(fast.saturating_mul(check.fall.saturating_sub(1)))
        .saturating_add(check.timeout)
}

#[cfg(test)]
mod tests;
