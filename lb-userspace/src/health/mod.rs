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
//! This file is pure; so are `fsm` and `finding`. `driver` and `probe` do I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

pub mod driver;
pub mod finding;
pub mod fsm;
pub mod probe;

pub use driver::{HealthMonitor, Target};
pub use finding::{Class, Finding, Verdict};

/// What the probes say about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Not enough probes to tell. Gets no traffic.
    Unknown,
    Up,
    Down,
}

impl Health {
    /// Its name in `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
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
    /// The server's certificate does not do.
    Certificate(String),
    /// Another failure of the TLS handshake.
    Tls(String),
    /// The server closed or reset the connection before its answer was complete.
    Closed,
    /// The answer was not HTTP, or its head too large.
    BadResponse,
    /// The probe could not be made; the backend is not to blame.
    Local(String),
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
    fn texts_of_servers_are_bounded() {
        let text = Reason::bounded("é\n".repeat(1000));
        assert_eq!(text.chars().count(), Reason::MAX_TEXT);
        assert!(!text.contains('\n'));
    }
}
