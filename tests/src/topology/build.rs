//! Making the lab's namespaces, links, addresses and routes.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::addresses::{backend_side, client_side, prefix_len};
use super::{Arms, Backends, Directory, Dual, Gateway, Host, LbNode, Pass, Plan, Topology};
use crate::bpffs::Bpffs;
use crate::family::Family;
use crate::netns::Netns;
use crate::xdp_pass::{Attached, XdpPass};

/// What gets merged, split or left to hardware that a veth does not have: with any of it XDP sees
/// frames with partial checksums and rewrites them into garbage.
const OFFLOADS_OFF: &str = "tx off rx off tso off gso off gro off";

/// Towards an XDP program a veth holds 256 frames, a sixteenth of what a NIC does, and drops what is beyond them,
/// unless there is a queue to wait in (Linux 6.17).
const QUEUE: &str = "1000";

pub(super) struct Builder<'a> {
    plan: &'a Plan,
    prefix: String,
    directory: Directory,
    fabric: Netns,
    pass: XdpPass,
    attached: Vec<Attached>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(plan: &'a Plan, prefix: String, directory: Directory) -> Result<Self> {
        let fabric = Netns::named(&format!("{prefix}-fabric"))?;
        for which in ["all", "default"] {
            fabric.sysctl(&format!("ipv6/conf/{which}/disable_ipv6"), "1")?;
        }
        // A switch has no netfilter; a bridge may have, at the price of a tenth of all that the lab does.
        for tables in ["iptables", "ip6tables", "arptables"] {
            fabric.sysctl(&format!("bridge/bridge-nf-call-{tables}"), "0")?;
        }
        for bridge in bridges(plan.arms) {
            fabric
                .ip(&format!("link add {bridge} type bridge forward_delay 0 mcast_snooping 0"))?;
            fabric.ip(&format!("link set {bridge} up"))?;
        }
        let pass = XdpPass::load()?;
        Ok(Self { plan, prefix, directory, fabric, pass, attached: Vec::new() })
    }

    pub(super) fn build(mut self) -> Result<Topology> {
        let arms = self.plan.arms;
        let client = self.host("client", "br-front", client_side(arms, 2))?;
        // A test opens more connections in a minute than the default range has ports.
        client.netns.sysctl("ipv4/ip_local_port_range", "1024 65535")?;
        client.netns.sysctl("ipv4/tcp_max_tw_buckets", "4096")?;
        client.netns.sysctl("ipv4/tcp_tw_reuse", "1")?;

        let mut backends = Vec::new();
        for number in 1..=self.plan.backends {
            backends.push(self.backend(number, &client)?);
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
            mode: self.plan.backends_are.mode(),
            directory: self.directory,
            fabric_bpffs: None,
            attached: self.attached,
        })
    }

    fn backend(&mut self, number: usize, client: &Host) -> Result<Host> {
        let arms = self.plan.arms;
        let bridge = *bridges(arms).last().context("a lab without bridges")?;
        let address = backend_side(arms, 10 + u8::try_from(number)?);
        let mut host = self.host(&format!("cp{number}"), bridge, address)?;
        match self.plan.backends_are {
            Backends::Neighbours => {}
            Backends::Behind(gateway) => {
                let gateway = match gateway {
                    Gateway::Vip => backend_side(arms, 100),
                    Gateway::Address(address) => address,
                };
                route_through(&host.netns, gateway, client)?;
            }
            Backends::HoldVips => {
                ensure!(
                    arms == Arms::One,
                    "backends on another segment can't answer by themselves"
                );
                let vip = client_side(arms, 100);
                hold(&host.netns, vip)?;
                host.vips = vip.both().into();
            }
        }
        Ok(host)
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

    fn host(&mut self, name: &str, bridge: &str, address: Dual) -> Result<Host> {
        let netns = quiet_namespace(&format!("{}-{name}", self.prefix))?;
        self.plug(&netns, "eth0", name, bridge, address)?;
        let Dual { v4: address, v6: address6 } = address;
        Ok(Host { name: name.to_owned(), netns, address, address6, vips: Vec::new() })
    }

    /// Joins a namespace to a bridge by a veth pair that XDP can send through in both directions.
    fn plug(
        &mut self,
        netns: &Netns,
        interface: &str,
        far_end: &str,
        bridge: &str,
        address: Dual,
    ) -> Result<()> {
        let fabric = &self.fabric;
        let inside = netns.name();
        fabric.ip(&format!("link add {far_end} type veth peer name {interface} netns {inside}"))?;
        let offloads = OFFLOADS_OFF.split_whitespace();
        fabric.run("ethtool", ["-K", far_end].into_iter().chain(offloads.clone()))?;
        netns.run("ethtool", ["-K", interface].into_iter().chain(offloads))?;
        fabric.ip(&format!("link set {far_end} master {bridge} up"))?;
        for family in Family::ALL {
            let (address, length) = (address.of(family), prefix_len(family));
            let words = family.pick("", "nodad");
            netns.ip(&format!("addr add {address}/{length} dev {interface} {words}"))?;
        }
        netns.ip(&format!("link set {interface} up"))?;
        let is_wanted = match self.plan.pass {
            Pass::Everywhere => true,
            Pass::TowardsLbs => far_end.starts_with("lb"),
            Pass::Nowhere => false,
        };
        if self.plan.queues {
            let queue = |end| ["qdisc", "add", "dev", end, "root", "pfifo", "limit", QUEUE];
            fabric.run("tc", queue(far_end))?;
            netns.run("tc", queue(interface))?;
        }
        if is_wanted {
            let _inside = fabric.enter()?;
            self.attached.push(self.pass.attach(far_end)?);
        }
        Ok(())
    }
}

/// A namespace that speaks only when it is spoken to: it neither looks for routers nor for duplicates of
/// its addresses, which are usable at once.
fn quiet_namespace(name: &str) -> Result<Netns> {
    let netns = Netns::named(name)?;
    for which in ["all", "default"] {
        for (key, value) in [
            ("disable_ipv6", "0"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_dad", "0"),
            ("dad_transmits", "0"),
            ("router_solicitations", "0"),
        ] {
            netns.sysctl(&format!("ipv6/conf/{which}/{key}"), value)?;
        }
    }
    Ok(netns)
}

/// All that leaves the subnet goes through the gateway; what is for the client does so even within it.
fn route_through(netns: &Netns, gateway: Dual, client: &Host) -> Result<()> {
    for family in Family::ALL {
        let (gateway, client) = (gateway.of(family), client.address_of(family));
        let (bits, ip) = (family.bits(), family.pick("-4", "-6"));
        netns.ip(&format!("{ip} route add default via {gateway} dev eth0"))?;
        netns.ip(&format!("{ip} route add {client}/{bits} via {gateway} dev eth0"))?;
    }
    Ok(())
}

/// Takes what is sent to the VIPs, and tells nobody. Of IPv4 addresses Linux tells on every interface,
/// unless these two settings forbid it; of IPv6 addresses only on the one that has them.
fn hold(netns: &Netns, vip: Dual) -> Result<()> {
    netns.sysctl("ipv4/conf/all/arp_ignore", "1")?;
    netns.sysctl("ipv4/conf/all/arp_announce", "2")?;
    for family in Family::ALL {
        let (vip, bits) = (vip.of(family), family.bits());
        // With no preferred lifetime it is nobody's source but of those who ask for it.
        netns.ip(&format!("addr add {vip}/{bits} dev lo preferred_lft 0"))?;
    }
    Ok(())
}

fn bridges(arms: Arms) -> &'static [&'static str] {
    match arms {
        Arms::One => &["br-front"],
        Arms::Two => &["br-front", "br-back"],
    }
}

impl Directory {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Fixed(path) => path,
        }
    }
}
