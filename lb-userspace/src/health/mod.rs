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
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

mod damping;
pub mod driver;
pub mod finding;
pub mod fsm;
pub mod probe;
pub mod removal;
mod slow_start;

pub use driver::{HealthMonitor, Target};
pub use finding::{Class, Finding, Verdict};

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
    /// It said that it was not ready before it went down.
    pub announced: bool,
}

impl Report {
    /// One of a backend that nothing particular is known of.
    pub const fn new(health: Health, reason: Reason, since: SystemTime) -> Self {
        Self { health, reason, since, share: 100, held: false, announced: false }
    }

    /// Whether established connections are lost. An apiserver that shuts down in order stops listening
    /// while it still ends what it has begun.
    pub fn is_hard(&self) -> bool {
        let is_ending = self.announced && self.reason == Reason::Refused;
        self.health == Health::Down && self.reason.is_hard() && !is_ending
    }
}

/// The state of every backend there is.
pub type HealthTable = BTreeMap<BackendKey, Report>;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No probe has ended yet.
    NotProbed,
    /// The state is that of an earlier run of the controller; no probe has confirmed it yet.
    Adopted,
    /// A TCP connection was made.
    Connected,
    /// A complete HTTP answer with this status.
    Status(u16),
    /// This, but well when etcd does not count.
    WithoutEtcd(Box<Self>),
    /// This, but live.
    NotReady(Box<Self>),
    /// RST in answer to the SYN.
    Refused,
    /// Connecting failed otherwise: no route, ICMP error.
    Unreachable(io::ErrorKind),
    /// The probe's time was up.
    Timeout(Stage),
    /// The server's certificate does not do: the fault, then perhaps a comma and what only this server's
    /// says.
    Certificate(String),
    /// Another failure of the TLS handshake.
    Tls(String),
    /// The server closed or reset the connection before its answer was complete.
    Closed,
    /// The answer was not HTTP, or its head too large.
    BadResponse,
    /// The probe could not be made; the backend is not to blame.
    Local(String),
    /// It answered as expected, and is held for so long because it was lost soon after its last return.
    Held(Duration),
}

/// What a probe was doing when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the CA file, the client certificate or the token.
    Prepare,
    Connect,
    Handshake,
    Response,
}

impl Reason {
    const MAX_TEXT: usize = 120;

    /// Whether the server lives but does not let us see its health: anonymous requests are off.
    pub const fn is_unverified(&self) -> bool {
        matches!(self, Self::Status(401 | 403))
    }

    /// Whether established connections are lost as well: nothing listens, or nothing gets there.
    pub const fn is_hard(&self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable(_) | Self::Timeout(Stage::Connect))
    }

    pub const fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }

    /// What is wrong between the server's TLS and ours, without what differs from server to server.
    pub fn trust_fault(&self) -> Option<&str> {
        match self {
            Self::Certificate(what) => what.split(',').next(),
            Self::Tls(what) => Some(what),
            Self::NotProbed
            | Self::Adopted
            | Self::Connected
            | Self::Status(_)
            | Self::Refused
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::WithoutEtcd(_)
            | Self::NotReady(_)
            | Self::Closed
            | Self::BadResponse
            | Self::Local(_)
            | Self::Held(_) => None,
        }
    }

    /// A server chooses what some texts say; this bounds how much.
    pub(crate) fn bounded(text: impl fmt::Display) -> String {
        text.to_string().chars().filter(|c| !c.is_control()).take(Self::MAX_TEXT).collect()
    }
}

/// The `reason` of `status`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed => f.write_str("not probed yet"),
            Self::Adopted => f.write_str("adopted, not probed yet"),
            Self::Connected => f.write_str("connected"),
            Self::Status(status) if self.is_unverified() => {
                write!(f, "{status} (alive, unverified)")
            }
            Self::Status(status) => write!(f, "{status}"),
            Self::WithoutEtcd(reason) => write!(f, "{reason} (ready but for etcd)"),
            Self::NotReady(reason) => write!(f, "{reason} (not ready, but live)"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable(kind) => write!(f, "{kind}"),
            Self::Timeout(Stage::Prepare) => {
                f.write_str("timeout while reading the files of the check")
            }
            Self::Timeout(Stage::Connect) => f.write_str("timeout while connecting"),
            Self::Timeout(Stage::Handshake) => f.write_str("timeout in the TLS handshake"),
            Self::Timeout(Stage::Response) => f.write_str("timeout while waiting for the answer"),
            Self::Certificate(what) => write!(f, "certificate: {what}"),
            Self::Tls(what) => write!(f, "TLS: {what}"),
            Self::Closed => f.write_str("connection closed early"),
            Self::BadResponse => f.write_str("not a valid HTTP answer"),
            Self::Local(what) => write!(f, "cannot probe: {what}"),
            Self::Held(hold) => write!(
                f,
                "answers, but was lost soon after its last return: held until it was well for {} s",
                hold.as_secs_f64()
            ),
        }
    }
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_well_in_status() {
        let cases = [
            (Reason::Status(200), "200"),
            (Reason::Status(401), "401 (alive, unverified)"),
            (Reason::Status(500), "500"),
            (Reason::WithoutEtcd(Box::new(Reason::Status(500))), "500 (ready but for etcd)"),
            (Reason::NotReady(Box::new(Reason::Status(500))), "500 (not ready, but live)"),
            (Reason::Refused, "connection refused"),
            (Reason::Unreachable(io::ErrorKind::HostUnreachable), "host unreachable"),
            (Reason::Timeout(Stage::Connect), "timeout while connecting"),
            (Reason::Certificate("expired".to_owned()), "certificate: expired"),
        ];
        for (reason, text) in cases {
            assert_eq!(reason.to_string(), text);
        }
    }

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
            let report =
                Report { announced, ..Report::new(health, reason.clone(), SystemTime::UNIX_EPOCH) };
            assert_eq!(report.is_hard(), hard, "{health} {reason:?} {announced}");
        }
    }

    #[test]
    fn faults_of_trust_are_the_same_whatever_name_the_server_has() {
        let fault = |name: &str| {
            let text = format!("not valid for kubernetes, but for {name}");
            Reason::Certificate(text).trust_fault().map(str::to_owned)
        };
        assert_eq!(fault("cp1, cp1.example"), fault("cp2"));
        assert_eq!(fault("cp1").as_deref(), Some("not valid for kubernetes"));
        assert_eq!(Reason::Closed.trust_fault(), None);
    }

    #[test]
    fn texts_of_servers_are_bounded() {
        let text = Reason::bounded("é\n".repeat(1000));
        assert_eq!(text.chars().count(), Reason::MAX_TEXT);
        assert!(!text.contains('\n'));
    }
}
