//! The lab's network: a client, LB nodes and three apiservers' hosts, joined by bridges in a namespace
//! of their own.
//!
//! ```text
//!                 one arm                                       two arms
//!   client   lb1   lb2   cp1   cp2   cp3          client   lb1   lb2       cp1   cp2   cp3
//!     .2      .1    .3   .11   .12   .13            .2     .1|.1  .3|.3    .11   .12   .13
//!   ──┴───────┴─────┴─────┴─────┴─────┴──         ──┴───────┴┼─────┴┼──  ───┴─────┴─────┴──
//!     10.77.0.0/24                                10.77.1.0/24└──────┴─── 10.77.2.0/24
//!     VIP .100                                    VIP .100                SNAT address .100
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bpffs::{self, Bpffs};
use crate::netns::{self, Netns, unique_prefix};
use crate::xdp_pass::{Attached, XdpPass};

/// The port of the service, and of the apiservers.
pub const API_PORT: u16 = 6443;

/// What gets merged, split or left to hardware that a veth does not have: with any of it XDP sees
/// frames with partial checksums and rewrites them into garbage.
const OFFLOADS_OFF: &str = "tx off rx off tso off gso off gro off";

/// Where the VIP is, seen from client and backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arms {
    /// Everything on one subnet.
    #[default]
    One,
    /// Clients on the LB's eth0, backends on its eth1; nothing else joins the two.
    Two,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    pub arms: Arms,
    pub lb_nodes: usize,
    pub backends: usize,
    /// Fixed names (`fairlead-client` …) and directory, and it outlives the process; or unique ones.
    pub persistent: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { arms: Arms::One, lb_nodes: 1, backends: 3, persistent: None }
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
    directory: Directory,
    fabric_bpffs: Option<Bpffs>,
    _attached: Vec<Attached>,
}

/// A namespace with one address that matters.
#[derive(Debug)]
pub struct Host {
    /// `client`, `cp1` …: also the name of its end of the veth pair in the fabric.
    pub name: String,
    pub netns: Netns,
    pub address: Ipv4Addr,
}

/// A node that runs the controller.
#[derive(Debug)]
pub struct LbNode {
    pub host: Host,
    /// What the node sees at `/sys/fs/bpf`: outlives its controllers.
    pub bpffs: Bpffs,
    /// The address of eth1, if the lab has two arms.
    pub backend_side: Option<Ipv4Addr>,
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
        client_side(self.arms, 100)
    }

    /// The VIP on the backends' side, if that is another one.
    pub fn snat_address(&self) -> Option<Ipv4Addr> {
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

    /// Every host, LB nodes included.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let lbs = self.lbs.iter().map(|lb| &lb.host);
        std::iter::once(&self.client).chain(lbs).chain(&self.backends)
    }

    /// Leaves everything in place when this is dropped; a program on the fabric's interfaces too.
    pub fn keep(&mut self) -> Result<()> {
        let pins = Bpffs::mount(&self.directory().join("bpf-fabric"))?;
        for (index, attached) in self._attached.iter().enumerate() {
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
    for entry in fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| netns::is_stale(&name.to_string_lossy())) {
            Topology::mounts(&path).iter().for_each(|mount| bpffs::unmount(mount));
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Fixed(path) => path,
        }
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    prefix: String,
    directory: Directory,
    fabric: Netns,
    pass: XdpPass,
    attached: Vec<Attached>,
}

impl<'a> Builder<'a> {
    fn new(plan: &'a Plan, prefix: String, directory: Directory) -> Result<Self> {
        let fabric = namespace(&prefix, "fabric")?;
        for bridge in bridges(plan.arms) {
            fabric
                .ip(&format!("link add {bridge} type bridge forward_delay 0 mcast_snooping 0"))?;
            fabric.ip(&format!("link set {bridge} up"))?;
        }
        let pass = XdpPass::load()?;
        Ok(Self { plan, prefix, directory, fabric, pass, attached: Vec::new() })
    }

    fn build(mut self) -> Result<Topology> {
        let arms = self.plan.arms;
        let client = self.host("client", "br-front", client_side(arms, 2))?;
        // A test opens more connections in a minute than the default range has ports.
        client.netns.sysctl("ipv4/ip_local_port_range", "1024 65535")?;
        client.netns.sysctl("ipv4/tcp_max_tw_buckets", "4096")?;
        client.netns.sysctl("ipv4/tcp_tw_reuse", "1")?;

        let backend_bridge = *bridges(arms).last().context("a lab without bridges")?;
        let mut backends = Vec::new();
        for number in 1..=self.plan.backends {
            let address = backend_side(arms, 10 + u8::try_from(number)?);
            backends.push(self.host(&format!("cp{number}"), backend_bridge, address)?);
        }
        let mut lbs = Vec::new();
        for number in 1..=self.plan.lb_nodes {
            lbs.push(self.lb_node(number)?);
        }
        Ok(Topology {
            client,
            lbs,
            backends,
            fabric: self.fabric,
            arms,
            directory: self.directory,
            fabric_bpffs: None,
            _attached: self.attached,
        })
    }

    fn lb_node(&mut self, number: usize) -> Result<LbNode> {
        let name = format!("lb{number}");
        // .1, .3, .5: .2 is the client.
        let last = u8::try_from(2 * number - 1)?;
        let host = self.host(&name, "br-front", client_side(self.plan.arms, last))?;
        let bpffs = Bpffs::mount(&self.directory.path().join(format!("bpf-{name}")))?;
        let backend_side = match self.plan.arms {
            Arms::One => None,
            Arms::Two => {
                let address = backend_side(self.plan.arms, last);
                self.plug(&host.netns, "eth1", &format!("{name}-back"), "br-back", address)?;
                Some(address)
            }
        };
        Ok(LbNode { host, bpffs, backend_side })
    }

    fn host(&mut self, name: &str, bridge: &str, address: Ipv4Addr) -> Result<Host> {
        let netns = namespace(&self.prefix, name)?;
        self.plug(&netns, "eth0", name, bridge, address)?;
        Ok(Host { name: name.to_owned(), netns, address })
    }

    /// Joins a namespace to a bridge by a veth pair that XDP can send through in both directions.
    fn plug(
        &mut self,
        netns: &Netns,
        interface: &str,
        far_end: &str,
        bridge: &str,
        address: Ipv4Addr,
    ) -> Result<()> {
        let fabric = &self.fabric;
        let inside = netns.name();
        fabric.ip(&format!("link add {far_end} type veth peer name {interface} netns {inside}"))?;
        let offloads = OFFLOADS_OFF.split_whitespace();
        fabric.run("ethtool", ["-K", far_end].into_iter().chain(offloads.clone()))?;
        netns.run("ethtool", ["-K", interface].into_iter().chain(offloads))?;
        fabric.ip(&format!("link set {far_end} master {bridge} up"))?;
        netns.ip(&format!("addr add {address}/24 dev {interface}"))?;
        netns.ip(&format!("link set {interface} up"))?;
        let _inside = fabric.enter()?;
        self.attached.push(self.pass.attach(far_end)?);
        Ok(())
    }
}

/// A namespace that speaks only when it is spoken to: without IPv6, so without its autoconfiguration.
fn namespace(prefix: &str, label: &str) -> Result<Netns> {
    let netns = Netns::named(&format!("{prefix}-{label}"))?;
    netns.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    netns.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    Ok(netns)
}

fn bridges(arms: Arms) -> &'static [&'static str] {
    match arms {
        Arms::One => &["br-front"],
        Arms::Two => &["br-front", "br-back"],
    }
}

fn client_side(arms: Arms, last: u8) -> Ipv4Addr {
    match arms {
        Arms::One => Ipv4Addr::new(10, 77, 0, last),
        Arms::Two => Ipv4Addr::new(10, 77, 1, last),
    }
}

fn backend_side(arms: Arms, last: u8) -> Ipv4Addr {
    match arms {
        Arms::One => Ipv4Addr::new(10, 77, 0, last),
        Arms::Two => Ipv4Addr::new(10, 77, 2, last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn hosts_of_one_subnet_reach_each_other_and_those_of_two_do_not() {
        let one = Topology::build(&Plan { lb_nodes: 2, ..Plan::default() }).unwrap();
        for host in one.hosts() {
            ping(&one.client, host.address).unwrap();
        }
        let two = Topology::build(&Plan { arms: Arms::Two, ..Plan::default() }).unwrap();
        ping(&two.client, two.lbs[0].host.address).unwrap();
        ping(&two.backends[0], two.lbs[0].backend_side.unwrap()).unwrap();
        ping(&two.client, two.backends[0].address).unwrap_err();
    }

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn a_dropped_lab_leaves_no_namespace_no_mount_and_no_file() {
        let lab = Topology::build(&Plan::default()).unwrap();
        let directory = lab.directory().to_owned();
        let client = lab.client.netns.name().to_owned();
        drop(lab);
        assert!(!directory.exists());
        assert!(Netns::open(&client).is_err());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
    }

    /// Without ping(8): a SYN to a closed port is refused by whoever has the address.
    fn ping(from: &Host, address: Ipv4Addr) -> Result<()> {
        use std::io::ErrorKind::ConnectionRefused;
        use std::net::{SocketAddr, TcpStream};
        let timeout = std::time::Duration::from_secs(1);
        let target = SocketAddr::from((address, 1));
        from.netns.on_thread(|| match TcpStream::connect_timeout(&target, timeout) {
            Err(error) if error.kind() == ConnectionRefused => Ok(()),
            other => anyhow::bail!("{other:?}"),
        })
    }
}
