//! The configuration as the rest of the controller sees it: validated, with every default filled
//! in. `file` translates it from YAML; `load`, which is not pure, reads the file and those it refers
//! to. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

pub mod address;
pub mod admin;
pub mod credentials;
pub mod diff;
pub mod elected;
pub mod error;
pub mod file;
pub mod flow_log;
pub mod load;
pub mod local_clients;
pub mod notify;
pub mod pace;
pub mod probe;
pub mod show;
pub mod sync;
pub mod vrrp;
pub mod watch;

pub use address::{Cidr, Family};
pub use admin::{Admin, DEFAULT_SOCKET, ServerTls};
pub use error::{ConfigError, Problem};
pub use file::parse;
pub use load::load;
pub use local_clients::LocalClients;
pub use pace::{Fall, Pace};
pub use probe::{Identity, Probe, Request, Statuses, Tls, Verify};
pub use sync::Sync;
pub use vrrp::Vrrp;

/// Between the name and the address of a backend that was looked up; no name in the file has it.
pub const RESOLVED: char = '@';

/// Addresses of one family that a name may have; of more, the lowest are used.
pub const MAX_ADDRESSES: usize = 32;

/// Where the configuration is looked for when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/fairlead/fairlead.yaml";

/// A file that shows every key, and says what each is for.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// Everything an operator may say, validated. Serialized for `diff`: the keys are those of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Interfaces that XDP attaches to, in the order given, without duplicates. Empty when
    /// the file has none: then the command line must name them.
    pub interfaces: Vec<String>,
    /// How XDP is attached.
    pub xdp_mode: XdpMode,
    /// Whether another owner's XDP program on one of the interfaces is removed.
    pub replace_xdp: bool,
    /// Sizes of the tables of flows.
    pub limits: Limits,
    /// In the order given; names and (VIP, port) pairs are unique. Never empty.
    pub services: Vec<Service>,
    /// In the order given. Each VIP of a service is in one, unless the service is standalone or there is none.
    pub vrrp: Vec<Vrrp>,
    /// Which nodes share their flows; `None`: this one keeps its own to itself.
    pub sync: Option<Sync>,
    /// What becomes of connections of this node's own processes.
    pub local_clients: LocalClients,
    /// Where connections are logged; `None`: nowhere.
    pub flow_log: Option<flow_log::FlowLog>,
    /// Where events are told.
    pub notify: Vec<notify::Target>,
    /// Socket and listener of the API.
    pub admin: Admin,
}

/// How XDP is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// Native where the driver can, else generic; the choice and its reason are logged.
    #[default]
    Auto,
    Native,
    Generic,
}

/// Capacities in flows; each has two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Established flows, which are never evicted.
    pub flows: u32,
    /// Flows no reply has confirmed: for want of room the one that has been silent longest gives way.
    pub half_open: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flows: 131_072, half_open: 65_536 }
    }
}

/// One port on one or more VIPs, and the backends behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: String,
    /// Never empty, unique. There is a backend of the family of each.
    pub vips: Vec<IpAddr>,
    /// This node owns its VIPs whatever VRRP says.
    pub standalone: bool,
    pub port: u16,
    pub mode: Mode,
    /// VIPs on the backends' side that requests are sent from; none of a family: the VIP that the
    /// client addressed.
    #[serde(rename = "snat_address")]
    pub snat_addresses: Vec<IpAddr>,
    /// In `dnat`: replies of no flow are translated back all the same.
    pub exclusive: bool,
    /// Who may connect; none of a family: everybody.
    pub allow: Vec<Cidr>,
    /// New connections that one client may make; `None`: any number.
    pub rate_limit: Option<RateLimit>,
    pub on_all_down: OnAllDown,
    /// This node's own clients are led to the backend on this node while it is used.
    pub prefer_local: bool,
    /// Deadline of a drain; zero never cuts.
    pub drain_timeout: Duration,
    /// How long a backend must be down before clients of its flows are reset.
    pub reset_delay: Duration,
    pub timeouts: Timeouts,
    /// Unique by name and by endpoint; there is a VIP of the family of each. Empty only if there are
    /// `names`.
    pub backends: Vec<Backend>,
    /// Backends that are looked up; `resolve` makes `backends` of them.
    pub names: Vec<NamedBackends>,
    pub health: HealthCheck,
}

/// What XDP does with a service's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// DNAT to the backend, SNAT to a VIP.
    #[default]
    Nat,
    /// DNAT to the backend, which sees the client's address.
    Dnat,
    /// Only the destination MAC is rewritten; the backend answers the client itself.
    Dsr,
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dnat => "dnat",
            Self::Dsr => "dsr",
        }
    }
}

/// A token bucket for the new connections of a source: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    pub connections_per_second: u32,
    /// Connections at once after a pause; at least 1.
    pub burst: u32,
}

/// What happens to new connections when no backend is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAllDown {
    /// They go to the last set that was up.
    #[default]
    FailOpen,
    /// They are answered with RST.
    Reject,
}

/// Idle times after which a flow is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    pub established: Duration,
    pub half_open: Duration,
    /// Both sides are closing, or the backend closed first.
    pub closing: Duration,
    /// One side is closing.
    pub half_closed: Duration,
    /// The client closed first, or one side reset the connection.
    pub closed: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(24 * 3600),
            half_open: Duration::from_secs(30),
            closing: Duration::from_secs(60),
            half_closed: Duration::from_secs(3600),
            closed: Duration::from_secs(2),
        }
    }
}

/// One apiserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Part of what the selection hashes: the same on every node of a pair.
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    /// 0 takes no new connections; 100 is the usual share.
    pub weight: u16,
}

/// As many backends as a DNS name has addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedBackends {
    /// The backends are called by it and their address.
    pub name: String,
    /// In lower case.
    pub host: String,
    pub port: u16,
    /// Of each.
    pub weight: u16,
}

/// How a service's backends are probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    #[serde(flatten)]
    pub probe: Probe,
    /// For the TCP connection alone; at most `timeout`.
    pub connect_timeout: Duration,
    /// For a whole probe, connecting and every request of it included.
    pub timeout: Duration,
    #[serde(flatten)]
    pub pace: Pace,
}

impl Config {
    /// Every address this node may own: the services' VIPs, their SNAT addresses, and what VRRP elects an
    /// owner for.
    pub fn vips(&self) -> BTreeSet<IpAddr> {
        self.services
            .iter()
            .flat_map(|service| service.vips.iter().chain(&service.snat_addresses))
            .copied()
            .chain(self.vrrp.iter().flat_map(|instance| &instance.vips).copied())
            .collect()
    }

    /// Those that no VRRP instance has: this node owns them without an election.
    pub fn standalone_vips(&self) -> BTreeSet<IpAddr> {
        let elected = |vip: &IpAddr| self.vrrp.iter().any(|instance| instance.vips.contains(vip));
        self.vips().into_iter().filter(|vip| !elected(vip)).collect()
    }
}

impl Service {
    /// The families of its VIPs.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        let has = |family| self.vips.iter().any(|vip| Family::of(vip) == family);
        Family::BOTH.into_iter().filter(move |family| has(*family))
    }

    /// How many backends there can be, whatever the names resolve to.
    pub fn capacity(&self) -> usize {
        let fixed = self.backends.iter().filter(|backend| !backend.is_resolved()).count();
        fixed + self.names.len() * self.families().count() * MAX_ADDRESSES
    }
}

impl NamedBackends {
    /// The one at `address`; every node gives it the same name.
    pub fn at(&self, address: IpAddr) -> Backend {
        let name = format!("{}{RESOLVED}{address}", self.name);
        Backend { name, address, port: self.port, weight: self.weight }
    }
}

impl Backend {
    /// Whether a name was looked up for it.
    pub fn is_resolved(&self) -> bool {
        self.name.contains(RESOLVED)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}
