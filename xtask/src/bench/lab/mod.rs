//! A lab for each peer, all of the same shape: client, LB node and three web servers on one bridge, with
//! every offload off. All stay up for the whole run; what idles costs next to nothing, and is measured.

pub(crate) mod fairlead;
pub(crate) mod haproxy;
pub(crate) mod nftables;
mod nginx;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use lb_tests::bulk::BulkServer;
use lb_tests::command::Process;
use lb_tests::controller::Controller;
use lb_tests::topology::{API_PORT, Backends, Gateway, Host, Pass, Plan, Topology};
use lb_tests::transfer::TransferServer;
use serde::Serialize;

use self::fairlead::Settings;
use self::haproxy::Haproxy;
pub(super) use self::nginx::OBJECT;
use super::peer::Peer;

/// Where bulk data goes, counted and not looked at; to the first backend only.
const BULK_PORT: u16 = 5201;
/// Likewise, hashed.
const HASHED_PORT: u16 = 5202;
/// From the controller's answer to the last backend that is up.
const UP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a balancer balances.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    pub(crate) backends: Vec<(String, SocketAddr)>,
}

/// A peer in its lab, ready to be measured; everything ends with this.
pub(crate) struct Standing<'lab> {
    pub(crate) peer: Peer,
    pub(crate) lab: &'lab Topology,
    balancer: Balancer<'lab>,
    _servers: Servers,
}

/// What runs on the LB node.
enum Balancer<'lab> {
    Nothing,
    Haproxy(Haproxy),
    Nftables,
    Fairlead(Controller<'lab>),
}

/// What runs on the backends.
struct Servers {
    _web: Vec<Process>,
    _bulk: BulkServer,
    _hashed: TransferServer,
}

/// What runs at the bridge's ends of the links. A frame that XDP sends into a link is lost unless there is an XDP
/// program at its other end; and what a kernel sends there is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fabric {
    /// XDP_PASS at every end, for every peer
    #[default]
    Alike,
    /// XDP_PASS at the balancer's link of those that send by XDP, nothing anywhere else
    Bare,
}

impl Fabric {
    /// For a peer's lab.
    pub(crate) fn plan(self, peer: Peer) -> Plan {
        let pass = match self {
            Self::Alike => Pass::Everywhere,
            Self::Bare if peer.is_fairlead() => Pass::TowardsLbs,
            Self::Bare => Pass::Nowhere,
        };
        Plan { pass, queues: true, ..Plan::default() }
    }
}

/// The namespaces for a peer; nothing runs.
pub(crate) fn build(peer: Peer, fabric: Fabric) -> Result<Topology> {
    let backends_are = match peer {
        Peer::Direct | Peer::Haproxy | Peer::Nftables | Peer::FairleadNat => Backends::Neighbours,
        Peer::FairleadDnat => Backends::Behind(Gateway::Vip),
        Peer::FairleadDsr => Backends::HoldVips,
    };
    let lab = Topology::build(&Plan { backends_are, ..fabric.plan(peer) })
        .with_context(|| format!("building the lab of {}", peer.label()))?;
    for host in lab.backends.iter().chain([&lab.client]) {
        prepare(host)?;
    }
    Ok(lab)
}

/// Ports and backlogs for many short connections.
fn prepare(host: &Host) -> Result<()> {
    for (key, value) in [
        ("ipv4/ip_local_port_range", "1024 65535"),
        ("ipv4/tcp_max_syn_backlog", "8192"),
        ("core/somaxconn", "8192"),
        // A burst of SYNs is no attack here.
        ("ipv4/tcp_syncookies", "0"),
    ] {
        host.netns.sysctl(key, value)?;
    }
    Ok(())
}

impl Servers {
    fn start(lab: &Topology) -> Result<Self> {
        let first = lab.backends.first().context("a lab without backends")?;
        let web = lab.backends.iter().map(|host| start_web(lab, host));
        Ok(Self {
            _web: web.collect::<Result<_>>()?,
            _bulk: BulkServer::start(&first.netns, &first.listens(BULK_PORT)[..])?,
            _hashed: TransferServer::start(&first.netns, &first.listens(HASHED_PORT)[..])?,
        })
    }
}

/// A backend's web server, on the service's port.
pub(crate) fn start_web(lab: &Topology, host: &Host) -> Result<Process> {
    nginx::start(lab, host, &API_PORT.to_string())
}

/// Likewise, on other ports: one, or a range of them.
pub(crate) fn start_web_at(lab: &Topology, host: &Host, ports: &str) -> Result<Process> {
    nginx::start(lab, host, ports)
}

/// The three services of every lab, at the VIP.
pub(crate) fn services(lab: &Topology) -> Vec<Service> {
    let vip = lab.vip().into();
    let to = |hosts: &[Host], port| {
        let each = hosts.iter().map(|host| (host.name.clone(), (host.address, port).into()));
        each.collect()
    };
    let first = &lab.backends[..lab.backends.len().min(1)];
    let service = |name: &str, port, backends| Service { name: name.into(), vip, port, backends };
    vec![
        service("api", API_PORT, to(&lab.backends, API_PORT)),
        service("bulk", BULK_PORT, to(first, BULK_PORT)),
        service("hashed", HASHED_PORT, to(first, HASHED_PORT)),
    ]
}

impl<'lab> Standing<'lab> {
    /// Starts servers and balancer, and waits until it balances.
    pub(crate) fn start(peer: Peer, lab: &'lab Topology, binary: &Path) -> Result<Self> {
        let servers = Servers::start(lab).context("starting the web servers")?;
        let balancer = Balancer::start(peer, lab, binary)
            .with_context(|| format!("starting {}", peer.label()))?;
        Ok(Self { peer, lab, balancer, _servers: servers })
    }

    /// Where the web service is.
    pub(crate) fn web(&self) -> SocketAddr {
        self.at(API_PORT)
    }

    pub(crate) fn bulk(&self) -> SocketAddr {
        self.at(BULK_PORT)
    }

    pub(crate) fn hashed(&self) -> SocketAddr {
        self.at(HASHED_PORT)
    }

    fn at(&self, port: u16) -> SocketAddr {
        let first = self.lab.backends.first().map(|host| host.address);
        match self.balancer {
            Balancer::Nothing => (first.unwrap_or_else(|| self.lab.vip()), port).into(),
            Balancer::Haproxy(_) | Balancer::Nftables | Balancer::Fairlead(_) => {
                (self.lab.vip(), port).into()
            }
        }
    }

    /// How many backends answer for it.
    pub(crate) fn shares(&self) -> usize {
        match self.balancer {
            Balancer::Nothing => 1,
            Balancer::Haproxy(_) | Balancer::Nftables | Balancer::Fairlead(_) => {
                self.lab.backends.len()
            }
        }
    }

    /// Our controller's, to ask it things.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match &self.balancer {
            Balancer::Nothing | Balancer::Haproxy(_) | Balancer::Nftables => None,
            Balancer::Fairlead(controller) => Some(controller.socket()),
        }
    }

    /// Of the balancer's processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.balancer {
            Balancer::Nothing | Balancer::Nftables => Vec::new(),
            Balancer::Haproxy(haproxy) => haproxy.pids(),
            Balancer::Fairlead(controller) => controller.pid().into_iter().collect(),
        }
    }
}

impl<'lab> Balancer<'lab> {
    fn start(peer: Peer, lab: &'lab Topology, binary: &Path) -> Result<Self> {
        let node = lab.lbs.first().context("a lab without an LB node")?;
        let services = services(lab);
        match peer {
            Peer::Direct => return Ok(Self::Nothing),
            Peer::Haproxy | Peer::Nftables => {
                // As keepalived would; where our controller owns VIPs it adds them itself.
                node.host.netns.ip(&format!("addr add {}/32 dev eth0", lab.vip()))?;
                prepare(&node.host)?;
            }
            Peer::FairleadNat | Peer::FairleadDnat | Peer::FairleadDsr => {}
        }
        if peer == Peer::Haproxy {
            let directory = lab.directory();
            return Ok(Self::Haproxy(Haproxy::start(&node.host.netns, directory, &services)?));
        }
        if peer == Peer::Nftables {
            nftables::start(&node.host.netns, lab.directory(), &services)?;
            return Ok(Self::Nftables);
        }
        let mut controller = Controller::new(node, binary, lab.directory());
        let socket = controller.socket().to_owned();
        let settings = Settings { mode: lab.mode, services: &services, socket: &socket, more: "" };
        controller.write_config(&fairlead::text(&settings)?)?;
        controller.start()?;
        for host in &lab.backends {
            controller.wait_backend(&host.name, "up", UP_TIMEOUT)?;
        }
        Ok(Self::Fairlead(controller))
    }
}
