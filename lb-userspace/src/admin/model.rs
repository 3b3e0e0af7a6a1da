//! What `status --json` and the API say: the published contract, to which keys may be added. The
//! controller fills it, `api` serves it, `cli` reads it back. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;
use lb_common::backend::BackendId;
use serde::{Deserialize, Serialize};

use crate::health::Health;

mod event;
pub mod flows;
mod listener;
mod name;
mod operate;
pub mod packet;
mod reload;
mod said;
mod sync;
pub mod trace;
mod vrrp;

pub use event::{Event, Kind, SyncState, Trigger, What};
pub use listener::Listener;
pub use name::Name;
pub use operate::{
    Access, BackendChange, BackendChanged, Drain, EffectiveConfig, Failure, Stop, Version,
};
pub use reload::{Change, Reload, Reloaded};
pub use said::{Override, Peer, Said, StateFile};
pub use sync::{LastDigest, Sync, SyncPeer};
pub use vrrp::{Vrrp, VrrpAlarm, VrrpPeer};

/// All there is to know about a running controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// When everything here was measured.
    #[serde(default)]
    pub time: String,
    /// When the controller was started.
    pub started: String,
    pub configuration: Configuration,
    pub xdp: Vec<Xdp>,
    pub services: Vec<Service>,
    /// DNS names of backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    pub vips: Vec<Vip>,
    /// VRRP instances. Empty: there is no VRRP.
    pub vrrp: Vec<Vrrp>,
    /// Nodes that share flows; absent without `sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Sync>,
    /// Clients on this node itself.
    #[serde(default)]
    pub local_clients: LocalClients,
    /// Packets by verdict, under the names of `lb_common::counters`.
    pub counters: BTreeMap<String, u64>,
    pub flows: Flows,
    /// Idle clients of backends that were given up, told so by RST.
    #[serde(default)]
    pub idle_resets: u64,
    /// What operators have said of backends, until it is undone.
    #[serde(default)]
    pub overrides: Vec<Override>,
    #[serde(default)]
    pub state_file: StateFile,
    /// Where events are told.
    #[serde(default)]
    pub notify: Vec<Notification>,
    /// Who serves page and API by TCP; absent without `admin.listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
}

/// Whether connections that this node's own processes open to a VIP are led to backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalClients {
    pub state: LocalClientsState,
    /// Whose processes: those of this cgroup and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// Why they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Connections that no backend was there for.
    #[serde(default)]
    pub refused: u64,
    /// Connections that were ended since their backend was given up.
    #[serde(default)]
    pub ended: u64,
    /// Whether those in other network namespaces are ended too.
    #[serde(default)]
    pub pods: Pods,
}

/// What becomes of pods' connections to backends that are given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pods {
    pub state: PodsState,
    /// Why they are not ended though they should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of all connections that were ended, those in other network namespaces.
    #[serde(default)]
    pub ended: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodsState {
    /// They are ended.
    On,
    /// The configuration does not ask for it, or nobody is led.
    #[default]
    Off,
    /// They should be, and this process may not.
    Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalClientsState {
    On,
    #[default]
    Off,
    /// They should be, and the kernel refuses.
    Failed,
}

/// How one of the configuration's `notify` fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The program, or scheme and host of the URL: the rest of one may be secret.
    pub target: String,
    pub delivered: u64,
    /// Given up, after retries.
    pub failed: u64,
    /// Never tried, because too many were waiting.
    pub dropped: u64,
    pub waiting: u64,
    /// Why the last one failed, until one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which configuration applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub path: String,
    /// When it was last read successfully.
    pub loaded: String,
}

/// How XDP is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xdp {
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Why it is not native, when `auto` had to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One service and its backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub vips: Vec<IpAddr>,
    pub port: u16,
    pub mode: String,
    /// No backend is up, and new connections go to those that last were.
    pub panic: bool,
    /// What operators must know of its backends.
    #[serde(default)]
    pub alarms: Vec<String>,
    pub backends: Vec<Backend>,
}

/// One backend of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Of the datapath's maps, 0: of none. Not part of the contract.
    #[serde(skip)]
    pub id: BackendId,
    pub name: String,
    pub address: SocketAddr,
    /// What traffic sees; `health` and `admin` are its causes.
    pub state: State,
    #[serde(with = "HealthName")]
    pub health: Health,
    pub admin: Admin,
    /// What the probe found that decided.
    pub reason: String,
    /// How long the last probe took; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_us: Option<u64>,
    /// When `state` last changed.
    pub since: String,
    /// As configured, or as set by a command.
    pub weight: u16,
    /// What the selection uses: 0 unless it takes new connections.
    pub effective_weight: u16,
    /// Established flows.
    pub connections: u64,
    pub requests: Traffic,
    pub replies: Traffic,
    /// Flows made so far.
    #[serde(default)]
    pub opened: u64,
    /// Of them those that a reply confirmed; in `dsr` the client's ACK.
    #[serde(default)]
    pub confirmed: u64,
    /// SYNs that clients had to send again.
    #[serde(default)]
    pub unanswered: u64,
    /// SYNs answered with RST.
    #[serde(default)]
    pub refused: u64,
    /// Connections of this node's own clients, led here as they were opened.
    #[serde(default)]
    pub local_connections: u64,
    /// On this node.
    #[serde(default)]
    pub local: bool,
    /// Absent until the way to the backend is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHop>,
}

/// Whether a backend gets connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Too few probes to tell.
    Unknown,
    Up,
    /// Ready but for etcd: gets connections when nobody is up.
    Degraded,
    /// Keeps its connections, gets no new ones.
    Draining,
    Down,
    /// Taken out by a command.
    Disabled,
}

impl State {
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up)
    }

    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Up, Self::Degraded, Self::Draining, Self::Down, Self::Disabled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Disabled => "disabled",
        }
    }
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    #[default]
    Enabled,
    Draining,
    Disabled,
}

impl Admin {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// The names of [`Health`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Health", rename_all = "lowercase")]
enum HealthName {
    Unknown,
    Up,
    Unverified,
    Degraded,
    Draining,
    Down,
}

/// Packets and bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

/// Where frames to a backend go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// `known`, `unresolved` or `failed`.
    pub state: String,
    pub mac: Option<String>,
    pub interface: String,
}

/// An address that this node owns, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    pub address: IpAddr,
    pub owner: bool,
    /// How long the datapath goes on without the controller; null: for ever.
    pub lease_ms: Option<u64>,
}

/// How full the tables of flows are, in flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub established: u64,
    pub half_open: u64,
    /// Half-open flows that gave way to others for want of room, since the controller started.
    #[serde(default)]
    pub half_open_evicted: u64,
    pub capacity: FlowCapacity,
}

/// The configured limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCapacity {
    pub established: u64,
    pub half_open: u64,
}

/// RFC 3339 in UTC, to the millisecond.
pub fn rfc3339(time: SystemTime) -> String {
    // A clock beyond year 9999 is broken; any time will do.
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}

/// Likewise, with nanoseconds.
pub fn rfc3339_nanos(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.9}")
}

#[cfg(test)]
mod tests;
