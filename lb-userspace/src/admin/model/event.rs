//! What happened, as `events` and notifications tell it. Kinds and keys may be added. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Admin, Peer, State};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Each one's is larger than those before it, also those of a controller before this one.
    pub sequence: u64,
    /// RFC 3339.
    pub time: String,
    /// All of it in a sentence.
    pub message: String,
    #[serde(flatten)]
    pub what: What,
}

/// What happened; `kind` tells which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// The controller has started.
    Start {
        version: String,
        pid: u32,
        /// It goes on with what another one left.
        successor: bool,
    },
    /// The controller ends.
    Stop {
        /// The datapath goes on.
        handover: bool,
    },
    /// What traffic sees of a backend has changed.
    Backend { service: String, backend: String, from: State, to: State, reason: String },
    /// An operator said something of a backend.
    Admin {
        service: String,
        backend: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        admin: Option<Admin>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        /// The configured weight holds again.
        reset_weight: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Peer>,
    },
    /// The configuration was read again.
    Reload {
        /// Otherwise everything is as it was.
        applied: bool,
        trigger: Trigger,
        /// The first of them; empty: nothing changed.
        changes: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Peer>,
    },
    /// A service has no backend left that is up, or has one again.
    Panic {
        service: String,
        /// `IPv4` or `IPv6`.
        family: String,
        entered: bool,
    },
    /// An address came to this node, or left it.
    Vip { address: String, gained: bool },
    /// The XDP program was attached to an interface, or taken off it.
    Datapath {
        interface: String,
        attached: bool,
        /// `native` or `generic`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    /// A VRRP instance changed its state, or stayed active after a conflict.
    Vrrp {
        instance: String,
        from: String,
        to: String,
        /// How many times it has become active.
        #[serde(default)]
        term: u64,
        /// A peer was active too, and has to give way: the term goes on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reaffirmed: bool,
        reason: String,
    },
    /// A node that shares flows joined, or was lost; or one that may not was refused.
    Sync { peer: String, state: SyncState, reason: String },
    /// What DNS says of a name has changed, or it no longer says anything.
    Name {
        host: String,
        /// `IPv4` or `IPv6`.
        family: String,
        added: Vec<IpAddr>,
        removed: Vec<IpAddr>,
        /// Why the last lookup brought nothing, which removes no address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// Something needs an operator, or no longer does.
    Alarm {
        subject: String,
        reason: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resolved: bool,
    },
    /// Of the sequence numbers asked for, these are no longer kept, or not this controller's.
    Gap { from: u64, to: u64 },
}

/// What made the controller read its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Signal,
    Command,
    /// The file changed.
    File,
}

/// What became of a node that shares flows, or wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It has proved itself.
    Joined,
    /// All of its flows are here.
    Synced,
    Lost,
    Refused,
}

impl SyncState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Synced => "synced",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

/// What notifications are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Start,
    Stop,
    Backend,
    Admin,
    Reload,
    Panic,
    Vip,
    Datapath,
    Vrrp,
    Sync,
    Name,
    Alarm,
    Gap,
}

impl Kind {
    /// Those that can be asked for; a gap is told to whoever has one.
    pub const CHOICES: [Self; 12] = [
        Self::Start,
        Self::Stop,
        Self::Backend,
        Self::Admin,
        Self::Reload,
        Self::Panic,
        Self::Vip,
        Self::Datapath,
        Self::Vrrp,
        Self::Sync,
        Self::Name,
        Self::Alarm,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Backend => "backend",
            Self::Admin => "admin",
            Self::Reload => "reload",
            Self::Panic => "panic",
            Self::Vip => "vip",
            Self::Datapath => "datapath",
            Self::Vrrp => "vrrp",
            Self::Sync => "sync",
            Self::Name => "name",
            Self::Alarm => "alarm",
            Self::Gap => "gap",
        }
    }
}

impl What {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Start { .. } => Kind::Start,
            Self::Stop { .. } => Kind::Stop,
            Self::Backend { .. } => Kind::Backend,
            Self::Admin { .. } => Kind::Admin,
            Self::Reload { .. } => Kind::Reload,
            Self::Panic { .. } => Kind::Panic,
            Self::Vip { .. } => Kind::Vip,
            Self::Datapath { .. } => Kind::Datapath,
            Self::Vrrp { .. } => Kind::Vrrp,
            Self::Sync { .. } => Kind::Sync,
            Self::Name { .. } => Kind::Name,
            Self::Alarm { .. } => Kind::Alarm,
            Self::Gap { .. } => Kind::Gap,
        }
    }

    /// Service and backend that it is about, as far as it is.
    pub fn about(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Backend { service, backend, .. } | Self::Admin { service, backend, .. } => {
                (Some(service), Some(backend))
            }
            Self::Panic { service, .. } => (Some(service), None),
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::Reload { .. }
            | Self::Vip { .. }
            | Self::Datapath { .. }
            | Self::Vrrp { .. }
            | Self::Sync { .. }
            | Self::Name { .. }
            | Self::Alarm { .. }
            | Self::Gap { .. } => (None, None),
        }
    }
}

/// In a sentence.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { version, pid, successor } => {
                let after = if *successor { ", after another one" } else { "" };
                write!(f, "fairlead {version} has started as process {pid}{after}")
            }
            Self::Stop { handover: true } => f.write_str("ending; the datapath goes on"),
            Self::Stop { handover: false } => f.write_str("ending, and releasing everything"),
            Self::Backend { service, backend, from, to, reason } => {
                let (from, to) = (from.as_str(), to.as_str());
                write!(f, "{service}/{backend}: {from} -> {to}: {reason}")
            }
            Self::Admin { service, backend, admin, weight, reset_weight, by } => {
                write!(f, "{service}/{backend}: ")?;
                let words = [
                    admin.map(|admin| admin.as_str().to_owned()),
                    weight.map(|weight| format!("weight {weight}")),
                    reset_weight.then(|| "weight as configured".to_owned()),
                ];
                f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
                by_whom(f, *by)
            }
            Self::Reload { applied: true, changes, by, .. } => {
                f.write_str("reloaded: ")?;
                if changes.is_empty() {
                    f.write_str("nothing changed")?;
                }
                f.write_str(&changes.join("; "))?;
                by_whom(f, *by)
            }
            Self::Reload { applied: false, error, by, .. } => {
                write!(f, "not reloaded: {}", error.as_deref().unwrap_or("refused"))?;
                by_whom(f, *by)
            }
            Self::Panic { service, family, entered: true } => {
                write!(
                    f,
                    "{service}: no {family} backend is up; going on with those that last were"
                )
            }
            Self::Panic { service, family, entered: false } => {
                write!(f, "{service}: an {family} backend is up again")
            }
            Self::Vip { address, gained: true } => write!(f, "VIP {address} is here"),
            Self::Vip { address, gained: false } => write!(f, "VIP {address} is gone"),
            Self::Datapath { interface, attached: true, mode } => {
                write!(f, "{interface}: {} XDP attached", mode.as_deref().unwrap_or("some"))
            }
            Self::Datapath { interface, attached: false, .. } => {
                write!(f, "{interface}: XDP is off")
            }
            Self::Vrrp { instance, to, term, reaffirmed: true, reason, .. } => {
                write!(f, "VRRP {instance}: still {to}, term {term}: {reason}")
            }
            Self::Vrrp { instance, from, to, term, reason, .. } => {
                write!(f, "VRRP {instance}: {from} -> {to}, term {term}: {reason}")
            }
            Self::Sync { peer, state, reason } => {
                write!(f, "sync {peer}: {}: {reason}", state.as_str())
            }
            Self::Name { host, family, added, removed, failure } => {
                write!(f, "{host} ({family}): {}", answer(added, removed, failure.as_deref()))
            }
            Self::Alarm { subject, reason, resolved: false } => write!(f, "{subject}: {reason}"),
            Self::Alarm { subject, reason, resolved: true } => {
                write!(f, "{subject}: resolved: {reason}")
            }
            Self::Gap { from, to } => write!(f, "events {from} to {to} are not there"),
        }
    }
}

/// What has become of the addresses of a name.
fn answer(added: &[IpAddr], removed: &[IpAddr], failure: Option<&str>) -> String {
    let listed = |what: &str, addresses: &[IpAddr]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        (!addresses.is_empty()).then(|| format!("{what} {}", addresses.join(", ")))
    };
    let parts = [
        listed("added", added),
        listed("removed", removed),
        failure.map(|failure| format!("{failure}; its backends stay as they are")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "DNS answers again".to_owned() } else { parts.join("; ") }
}

fn by_whom(f: &mut fmt::Formatter<'_>, by: Option<Peer>) -> fmt::Result {
    by.map_or(Ok(()), |by| write!(f, ", by {by}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_flat_and_comes_back() {
        let what = What::Backend {
            service: "api".to_owned(),
            backend: "cp1".to_owned(),
            from: State::Up,
            to: State::Down,
            reason: "connection refused".to_owned(),
        };
        let time = "2026-01-02T03:04:05.006Z".to_owned();
        let event = Event { sequence: 7, time, message: what.to_string(), what };
        let value = serde_json::to_value(&event).unwrap();
        let expected = json!({
            "sequence": 7, "time": "2026-01-02T03:04:05.006Z", "kind": "backend", "service": "api",
            "backend": "cp1", "from": "up", "to": "down", "reason": "connection refused",
            "message": "api/cp1: up -> down: connection refused",
        });
        assert_eq!(value, expected);
        assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
    }

    #[test]
    fn kinds_are_called_the_same_everywhere() {
        for kind in Kind::CHOICES {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        let gap = serde_json::to_value(What::Gap { from: 1, to: 2 }).unwrap();
        assert_eq!(gap["kind"], Kind::Gap.as_str());
    }

    #[test]
    fn sentences_say_who_and_what() {
        let by = Some(Peer::local(0, Some(1000)));
        let (service, backend) = ("api".to_owned(), "cp1".to_owned());
        let admin = Some(Admin::Draining);
        let what = What::Admin { service, backend, admin, weight: None, reset_weight: true, by };
        assert_eq!(
            what.to_string(),
            "api/cp1: draining, weight as configured, by uid 0 (logged in as uid 1000)"
        );
        let error = Some("f:1:1: no".to_owned());
        let what = What::Reload {
            applied: false,
            trigger: Trigger::Signal,
            changes: Vec::new(),
            error,
            by: None,
        };
        assert_eq!(what.to_string(), "not reloaded: f:1:1: no");
    }
}
