//! When a name is looked up, and what of the answers is kept. Pure.
//!
//! ```text
//!                  Deadline / lookup
//!     ┌─────────┐ ──────────────────► ┌────────┐
//!  ──►│ Waiting │                     │ Asking │
//!     └─────────┘ ◄────────────────── └────────┘
//!                  Answered: until half of the TTL is over
//!                  Failed:   a second, then twice as long each time
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Failure, usable};

/// What a TTL counts for at least and at most.
pub const SHORTEST_TTL: Duration = Duration::from_secs(1);
pub const LONGEST_TTL: Duration = Duration::from_secs(300);

/// Between lookups that fail.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Thousandths that are taken off each wait at most, so that nodes do not ask in step.
const JITTER: u64 = 100;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Deadline,
    /// The lookup brought these, valid for that long.
    Answered(Vec<IpAddr>, Duration),
    Failed(Failure),
}

/// What to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Look the name up, and say what came of it.
    pub lookup: bool,
    /// The addresses are others than before.
    pub addresses: bool,
    /// The lookups began to fail, fail otherwise or no longer fail.
    pub failure: bool,
    /// Addresses of the answer that are not used.
    pub refused: Vec<IpAddr>,
}

/// One name in one family.
#[derive(Clone, Debug)]
pub struct Fsm {
    phase: Phase,
    addresses: Vec<IpAddr>,
    failure: Option<Failure>,
    /// Lookups in a row that failed.
    failures: u32,
    random: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Instant },
    Asking,
}

impl Fsm {
    /// Asks at once. `addresses` are those of an earlier run, if any; `seed` should differ between names
    /// and nodes.
    pub fn new(addresses: Vec<IpAddr>, seed: u64, now: Instant) -> Self {
        let (addresses, _) = usable(addresses);
        let phase = Phase::Waiting { until: now };
        Self { phase, addresses, failure: None, failures: 0, random: seed }
    }

    /// In ascending order; those of the last answer that had any.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// When to call [`Self::handle`] with [`Event::Deadline`]; none while a lookup is under way.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Asking => None,
        }
    }

    /// Takes the next event. One that does not fit the phase is ignored.
    pub fn handle(&mut self, event: Event, now: Instant) -> Actions {
        match (self.phase, event) {
            (Phase::Waiting { until }, Event::Deadline) if now >= until => {
                self.phase = Phase::Asking;
                Actions { lookup: true, ..Actions::default() }
            }
            (Phase::Waiting { .. }, Event::Deadline | Event::Answered(..) | Event::Failed(_))
            | (Phase::Asking, Event::Deadline) => Actions::default(),
            (Phase::Asking, Event::Answered(addresses, ttl)) => {
                let (usable, refused) = usable(addresses);
                if usable.is_empty() {
                    return Actions { refused, ..self.failed(Failure::NoAddress, now) };
                }
                Actions { refused, ..self.answered(usable, ttl, now) }
            }
            (Phase::Asking, Event::Failed(failure)) => self.failed(failure, now),
        }
    }

    fn answered(&mut self, addresses: Vec<IpAddr>, ttl: Duration, now: Instant) -> Actions {
        self.failures = 0;
        let half = ttl.clamp(SHORTEST_TTL, LONGEST_TTL) / 2;
        self.wait(half.max(SHORTEST_TTL), now);
        let differs = self.addresses != addresses;
        self.addresses = addresses;
        let failure = self.failure.take().is_some();
        Actions { addresses: differs, failure, ..Actions::default() }
    }

    /// What was known is kept.
    fn failed(&mut self, failure: Failure, now: Instant) -> Actions {
        let doubled = FIRST_RETRY.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.wait(doubled.min(LONGEST_RETRY), now);
        let differs = self.failure.as_ref() != Some(&failure);
        self.failure = Some(failure);
        Actions { failure: differs, ..Actions::default() }
    }

    fn wait(&mut self, period: Duration, now: Instant) {
        // splitmix64: any seed will do, zero included.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandths = u32::try_from(1000 - (z ^ (z >> 31)) % (JITTER + 1)).unwrap_or(1000);
        self.phase = Phase::Waiting { until: now + period * thousandths / 1000 };
    }
}

#[cfg(test)]
mod tests;
