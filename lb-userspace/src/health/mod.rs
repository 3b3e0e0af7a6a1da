//! Which backends are alive: probes, what they found, and what follows from it.
//!
//! ```text
//!              reconcile(targets)                    probe_now(key)
//!                     │                                    │
//! HealthMonitor ──────┴─ one task per backend ─────────────┘
//!  (driver)
//!            ┌─ settings (watch) ─┐   ┌─ doubt (Notify) ─┐
//!            ▼                    ▼   ▼                  │
//!   task: wait for settings, doubt, deadline or the end of the probe
//!            │  Event                       ▲ Finding
//!            ▼                              │
//!          fsm ── Actions.probe ──► probe/{tcp,http,https}   a new connection each time
//!            │
//!            └─ Transition ──► watch<HealthTable> ──► control, admin
//! ```
//!
//! A task owns its backend's machine and its probe, so that a backend that hangs delays no other. It
//! ends when its settings' sender is dropped. No task writes a map: control reads the table.
//! This file is pure; so is all but `driver` and `probe`, which do I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

mod damping;
pub mod driver;
pub mod finding;
pub mod fsm;
mod latency;
pub mod probe;
mod reason;
pub mod removal;
mod slow_start;

pub use driver::{HealthMonitor, Target};
pub use finding::{Class, Finding, Verdict};
pub use latency::Latencies;
pub use reason::{Reason, Stage};

/// What the probes say about a backend, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Not enough probes to tell. Gets no traffic.
    Unknown,
    Up,
    /// Alive, and hides its health from us. Used like one that is up.
    Unverified,
    /// Ready but for etcd. Used when nobody is better.
    Degraded,
    /// Not ready, but alive: no new connections, old ones stay.
    Draining,
    Down,
}

impl Health {
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Up, Self::Unverified, Self::Degraded, Self::Draining, Self::Down];

    /// Its name in `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Unverified => "unverified",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }

    /// Whether new connections may go there, if nobody is better.
    pub const fn is_used(self) -> bool {
        match self {
            Self::Up | Self::Unverified | Self::Degraded => true,
            Self::Unknown | Self::Draining | Self::Down => false,
        }
    }

    /// Whether new connections make no difference between the two.
    pub const fn is_as_good_as(self, other: Self) -> bool {
        match (self, other) {
            (Self::Up | Self::Unverified, Self::Up | Self::Unverified)
            | (Self::Degraded, Self::Degraded)
            | (Self::Draining, Self::Draining)
            | (Self::Down, Self::Down)
            | (Self::Unknown, Self::Unknown) => true,
            (
                Self::Up
                | Self::Unverified
                | Self::Degraded
                | Self::Draining
                | Self::Down
                | Self::Unknown,
                _,
            ) => false,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A backend as one service sees it. The endpoint is part of it: a backend that moves is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    pub service: String,
    pub backend: String,
    pub endpoint: SocketAddr,
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.service, self.backend, self.endpoint)
    }
}

/// What has been, as far as it counts for what will be. With its health it is all that a successor has to
/// know of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How long it must be well before it returns; zero: it does not flap.
    pub hold: Duration,
    /// Its last return, if a loss would follow it too soon.
    pub returned: Option<Instant>,
    /// When it came back, if it does not have all of its weight yet.
    pub back: Option<Instant>,
    /// It said that it was not ready before it went down.
    pub announced: bool,
}

/// The state of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub health: Health,
    /// What the last probe that agrees with `health` found; of an unknown backend, what the last one did.
    pub reason: Reason,
    /// When `health` last changed.
    pub since: SystemTime,
    /// What it gets of its weight, in percent: less than all of it after a return.
    pub share: u8,
    /// It is well, and kept from its return because it flaps.
    pub held: bool,
    pub past: Past,
}

impl Report {
    /// One of a backend that nothing particular is known of.
    pub fn new(health: Health, reason: Reason, since: SystemTime) -> Self {
        Self { health, reason, since, share: 100, held: false, past: Past::default() }
    }

    /// Whether established connections are lost. An apiserver that shuts down in order stops listening
    /// while it still ends what it has begun.
    pub fn is_hard(&self) -> bool {
        let is_ending = self.past.announced && self.reason == Reason::Refused;
        self.health == Health::Down && self.reason.is_hard() && !is_ending
    }
}

/// The state of every backend there is.
pub type HealthTable = BTreeMap<BackendKey, Report>;

#[cfg(test)]
mod scale;
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_announced_end_is_not_hard_while_its_host_refuses() {
        let unreachable = Reason::Unreachable(io::ErrorKind::HostUnreachable);
        let cases = [
            (Health::Down, Reason::Refused, false, true),
            (Health::Down, Reason::Refused, true, false),
            (Health::Down, unreachable, true, true),
            (Health::Down, Reason::Timeout(Stage::Connect), true, true),
            (Health::Down, Reason::Status(500), false, false),
            (Health::Draining, Reason::Refused, true, false),
        ];
        for (health, reason, announced, hard) in cases {
            let past = Past { announced, ..Past::default() };
            let report =
                Report { past, ..Report::new(health, reason.clone(), SystemTime::UNIX_EPOCH) };
            assert_eq!(report.is_hard(), hard, "{health} {reason:?} {announced}");
        }
    }
}
