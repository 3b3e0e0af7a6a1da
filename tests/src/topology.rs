//! The lab's network: a client, LB nodes and three apiservers' hosts, joined by bridges in a namespace
//! of their own.
//!
//! ```text
//!                 one arm                                       two arms
//!   client   lb1   lb2   cp1   cp2   cp3          client   lb1   lb2       cp1   cp2   cp3
//!     .2      .1    .3   .11   .12   .13            .2     .1|.1  .3|.3    .11   .12   .13
//!   ──┴───────┴─────┴─────┴─────┴─────┴──         ──┴───────┴┼─────┴┼──  ───┴─────┴─────┴──
//!     10.77.0.0/24                                10.77.1.0/24└──────┴─── 10.77.2.0/24
//!     fd77:0:0:0::/64                             fd77:0:0:1::/64         fd77:0:0:2::/64
//!     VIP .100                                    VIP .100                SNAT address .100
//! ```
//!
//! Every host has an address of both families: 10.77.0.11 and fd77::11.

mod addresses;
mod build;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use self::addresses::Dual;
use self::addresses::{backend_side, client_side};
use self::build::Builder;
use crate::bpffs::{self, Bpffs};
use crate::cgroup;
use crate::family::Family;
use crate::netns::{self, Netns, unique_prefix};
use crate::xdp_pass::Attached;

/// The port of the service, and of the apiservers.
pub const API_PORT: u16 = 6443;

/// Where the VIP is, seen from client and backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arms {
    /// Everything on one subnet.
    #[default]
    One,
    /// Clients on the LB's eth0, backends on its eth1; nothing else joins the two.
    Two,
}

/// How backends are prepared for a mode of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backends {
    /// For `nat`: on the VIP's subnet (or the SNAT address's), with no other route.
    #[default]
    Neighbours,
    /// For `dnat`: what they send to clients goes to a gateway.
    Behind(Gateway),
    /// For `dsr`: they have the VIPs on their loopback, and tell nobody. With one arm only.
    HoldVips,
}

/// Where backends send what is not for their subnet; and what is for the client, even if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// The VIP on the backends' side.
    Vip,
    Address(Dual),
}

impl Backends {
    /// As the configuration calls it.
    const fn mode(self) -> &'static str {
        match self {
            Self::Neighbours => "nat",
            Self::Behind(_) => "dnat",
            Self::HoldVips => "dsr",
        }
    }
}

/// Which of the fabric's interfaces run an XDP program. What XDP sends into one that runs none is lost;
/// what a kernel sends into one that does is copied, which costs as much as all the rest of its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    #[default]
    Everywhere,
    /// Those of LB nodes.
    TowardsLbs,
    Nowhere,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    pub arms: Arms,
    pub backends_are: Backends,
    pub lb_nodes: usize,
    pub backends: usize,
    pub pass: Pass,
    /// Whether what an XDP program has no room for waits in a queue instead of being dropped.
    pub queues: bool,
    /// Fixed names (`fairlead-client` …) and directory, and it outlives the process; or unique ones.
    pub persistent: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            arms: Arms::One,
            backends_are: Backends::Neighbours,
            lb_nodes: 1,
            backends: 3,
            pass: Pass::Everywhere,
            queues: false,
            persistent: None,
        }
    }
}

/// The network as built. Dropping it removes everything, unless the plan was persistent and
/// [`Self::keep`] was called.
#[derive(Debug)]
pub struct Topology {
    pub client: Host,
    pub lbs: Vec<LbNode>,
    pub backends: Vec<Host>,
    pub fabric: Netns,
    pub arms: Arms,
    /// Of the service that the backends are prepared for: `nat`, `dnat` or `dsr`.
    pub mode: &'static str,
    directory: Directory,
    fabric_bpffs: Option<Bpffs>,
    attached: Vec<Attached>,
}

/// A namespace with one address of each family that matters.
#[derive(Debug)]
pub struct Host {
    /// `client`, `cp1` …: also the name of its end of the veth pair in the fabric.
    pub name: String,
    pub netns: Netns,
    pub address: Ipv4Addr,
    pub address6: Ipv6Addr,
    /// What it answers for besides.
    pub vips: Vec<IpAddr>,
}

impl Host {
    #[must_use]
    pub fn address_of(&self, family: Family) -> IpAddr {
        family.pick(self.address.into(), self.address6.into())
    }

    /// Where a server on it listens.
    #[must_use]
    pub fn listens(&self, port: u16) -> Vec<SocketAddr> {
        let own = Family::ALL.map(|family| self.address_of(family));
        own.iter().chain(&self.vips).map(|address| (*address, port).into()).collect()
    }
}

/// A node that runs the controller.
#[derive(Debug)]
pub struct LbNode {
    pub host: Host,
    /// What the node sees at `/sys/fs/bpf`: outlives its controllers.
    pub bpffs: Bpffs,
    /// The addresses of eth1, if the lab has two arms.
    pub backend_side: Option<Dual>,
}

/// The lab's files.
#[derive(Debug)]
enum Directory {
    /// Removed on drop; after the mounts, since it is dropped after them.
    Temporary(tempfile::TempDir),
    Fixed(PathBuf),
}

impl Topology {
    pub fn build(plan: &Plan) -> Result<Self> {
        let (prefix, directory) = match &plan.persistent {
            Some(path) => {
                fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
                ("fairlead".to_owned(), Directory::Fixed(path.clone()))
            }
            None => {
                let prefix = unique_prefix();
                let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
                (prefix, Directory::Temporary(directory))
            }
        };
        Builder::new(plan, prefix, directory)?.build()
    }

    /// Where the lab's files are: certificates, logs, configurations.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The VIP that clients address.
    pub fn vip(&self) -> Ipv4Addr {
        client_side(self.arms, 100).v4
    }

    /// The same in either family.
    pub fn vip_of(&self, family: Family) -> IpAddr {
        client_side(self.arms, 100).of(family)
    }

    /// The VIP on the backends' side, if that is another one.
    pub fn snat_address(&self) -> Option<Ipv4Addr> {
        self.backend_vip().map(|vip| vip.v4)
    }

    /// The same in both families.
    pub fn backend_vip(&self) -> Option<Dual> {
        match self.arms {
            Arms::One => None,
            Arms::Two => Some(backend_side(self.arms, 100)),
        }
    }

    /// The interfaces of an LB node.
    pub fn interfaces(&self) -> &'static [&'static str] {
        match self.arms {
            Arms::One => &["eth0"],
            Arms::Two => &["eth0", "eth1"],
        }
    }

    /// The backend's host by its name.
    pub fn backend(&self, name: &str) -> Result<&Host> {
        let found = self.backends.iter().find(|host| host.name == name);
        found.with_context(|| format!("the lab has no backend {name}"))
    }

    /// The XDP programs of the fabric's interfaces, clients first, LB nodes last; see [`Pass`].
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// Every host, LB nodes included.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let lbs = self.lbs.iter().map(|lb| &lb.host);
        std::iter::once(&self.client).chain(lbs).chain(&self.backends)
    }

    /// Leaves everything in place when this is dropped; a program on the fabric's interfaces too.
    pub fn keep(&mut self) -> Result<()> {
        let pins = Bpffs::mount(&self.directory().join("bpf-fabric"))?;
        for (index, attached) in self.attached.iter().enumerate() {
            attached.pin(&pins.path().join(format!("pass{index}")))?;
        }
        self.fabric_bpffs.insert(pins).keep();
        self.fabric.keep();
        self.client.netns.keep();
        for backend in &mut self.backends {
            backend.netns.keep();
        }
        for lb in &mut self.lbs {
            lb.host.netns.keep();
            lb.bpffs.keep();
        }
        Ok(())
    }

    /// Where the bpffs mounts of a lab in `directory` are: for whoever takes a kept one down.
    pub fn mounts(directory: &Path) -> Vec<PathBuf> {
        let names = ["bpf-lb1", "bpf-lb2", "bpf-fabric"];
        names.iter().map(|name| directory.join(name)).filter(|path| path.exists()).collect()
    }
}

/// Removes the labs of test processes that were killed before they could.
pub fn remove_stale() -> Result<()> {
    netns::remove_stale()?;
    cgroup::remove_stale()?;
    for entry in fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| netns::is_stale(&name.to_string_lossy())) {
            Topology::mounts(&path).iter().for_each(|mount| bpffs::unmount(mount));
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}
