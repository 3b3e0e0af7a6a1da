//! How long a backend that is lost stays in use at worst: what `check` prints. Pure.

use std::time::Duration;

use super::fsm::{self, longest};
use crate::config::{HealthCheck, Probe};

/// The times of one check, by what happens to the backend just after it has answered a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its process ends, and its host refuses connections.
    pub refused: Terms,
    /// Its host vanishes: nothing is answered.
    pub black_hole: Terms,
    /// It takes connections, and answers nothing on them.
    pub hung: Terms,
    /// It says that it is not ready. A probe by connecting does not see that.
    pub not_ready: Option<Terms>,
}

/// What a time is the sum of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Until the next probe starts.
    pub first: Duration,
    /// How many more are needed, and how long each starts after the one before.
    pub more: u32,
    pub between: Duration,
    /// How long the last one takes.
    pub last: Duration,
}

impl Terms {
    pub fn total(self) -> Duration {
        let more = self.between.saturating_mul(self.more);
        self.first.saturating_add(more).saturating_add(self.last)
    }
}

/// Answers and refusals are taken to come at once.
pub fn worst_case(check: &HealthCheck) -> Removal {
    let pace = &check.pace;
    let first = longest(pace.interval).max(check.timeout);
    let fast = pace.fast_interval.min(pace.interval);
    let terms =
        |fall: u32, between, last| Terms { first, more: fall.saturating_sub(1), between, last };
    let timeout = |limit: Duration| terms(pace.fall.timeout, fast.max(limit), limit);
    let is_seen = match check.probe {
        Probe::Http { .. } | Probe::Https { .. } => true,
        Probe::Tcp => false,
    };
    Removal {
        refused: terms(pace.fall.refused, fsm::retry(pace), Duration::ZERO),
        black_hole: timeout(check.connect_timeout),
        hung: timeout(check.timeout),
        not_ready: is_seen.then(|| terms(pace.fall.status, fast, Duration::ZERO)),
    }
}
