//! The node's interfaces, addresses, routes and neighbours at one moment, and what the
//! controller asks of them. Made by `Netlink::snapshot`, read by control. Pure.
//!
//! Routes are those of the main table: rules and further tables are not followed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::link::Mac;

use crate::config::{Cidr, Family};

mod datapath;
#[cfg(test)]
mod tests;

pub use datapath::{NeighbourEntry, RouteEntry};

/// All that was found. Two that are equal need no work of the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    /// By interface index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub index: u32,
    /// Zero where the interface has no Ethernet address.
    pub mac: Mac,
    /// Switched on and with a carrier.
    pub up: bool,
    pub mtu: u32,
    pub loopback: bool,
    pub xdp: Option<AttachedXdp>,
    pub kind: LinkKind,
    /// The bond or bridge that it is a port of.
    pub master: Option<u32>,
}

/// What kind of interface it is, as far as that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Bond,
    /// Frames leave through `parent` with the tag `id`; 0: a parent in another namespace.
    Vlan {
        id: u16,
        parent: u32,
    },
    /// Another virtual kind by the kernel's name (`veth`, `bridge`); empty: hardware.
    Other(String),
}

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// 0 where several are attached.
    pub program_id: u32,
    pub mode: AttachMode,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    Native,
    Generic,
    Hardware,
    Multiple,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    pub address: IpAddr,
    pub prefix_len: u8,
    /// Preferred lifetime 0, as VIPs have.
    pub deprecated: bool,
    /// Not to be used: it may be another node's (duplicate address detection, RFC 4862 5.4).
    pub tentative: bool,
}

impl Address {
    fn contains(&self, other: IpAddr) -> bool {
        Cidr::containing(self.address, self.prefix_len).contains(&other)
    }
}

/// A route. Of several paths, the first that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub dst: Cidr,
    /// None: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// 0 where the kind needs none.
    pub ifindex: u32,
    pub metric: u32,
    pub prefsrc: Option<IpAddr>,
    pub kind: RouteKind,
}

/// What happens to packets that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    Broadcast,
    Multicast,
    /// Dropped or refused, or sent in a way that is not plain Ethernet (a gateway of the other family).
    Blocked,
}

/// What the kernel knows of an address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub mac: Option<Mac>,
    pub state: NeighbourState,
}

/// The kernel's states (`NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    None,
    Incomplete,
    Reachable,
    Stale,
    Delay,
    Probe,
    Failed,
    NoArp,
    Permanent,
}

impl NeighbourState {
    /// Whether the kernel would send to the address it has.
    pub const fn is_usable(self) -> bool {
        match self {
            Self::Reachable
            | Self::Stale
            | Self::Delay
            | Self::Probe
            | Self::Permanent
            | Self::NoArp => true,
            Self::None | Self::Incomplete | Self::Failed => false,
        }
    }
}

impl Neighbour {
    /// The address to send unicast frames to, if there is one.
    pub fn usable_mac(&self) -> Option<Mac> {
        let unicast = |mac: &Mac| *mac != Mac::default() && mac.0[0] & 1 == 0;
        self.mac.filter(unicast).filter(|_| self.state.is_usable())
    }
}

/// Where a frame goes, and how it leaves this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface of the route; a VLAN, if there are tags.
    pub through: u32,
    /// The interface that frames leave by: the same, or what is below the VLANs.
    pub ifindex: u32,
    /// The neighbour's address.
    pub mac: Mac,
    /// 802.1Q identifier, outer tag; 0: untagged.
    pub vlan: u16,
    /// Inner tag; 0: none.
    pub inner_vlan: u16,
}

/// How far the way to a destination is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Known(Hop),
    /// The neighbour has not answered yet, or has not been asked.
    Unresolved {
        neighbour: IpAddr,
        ifindex: u32,
    },
    /// The neighbour was asked and did not answer.
    Failed {
        neighbour: IpAddr,
        ifindex: u32,
    },
    NoRoute,
    /// An address of this node.
    Local,
}

impl Snapshot {
    pub fn link_by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The bond, team or bridge that an interface is a port of: what arrives is the master's.
    pub fn aggregate_of(&self, link: &Link) -> Option<&Link> {
        let master = self.links.get(&link.master?)?;
        let is_aggregate = match &master.kind {
            LinkKind::Bond => true,
            LinkKind::Vlan { .. } => false,
            LinkKind::Other(kind) => matches!(kind.as_str(), "bridge" | "team"),
        };
        is_aggregate.then_some(master)
    }

    /// Frames of VLANs arrive by this interface, for VLANs of this node.
    pub fn has_vlans(&self, ifindex: u32) -> bool {
        let is_child =
            |link: &Link| matches!(link.kind, LinkKind::Vlan { parent, .. } if parent == ifindex);
        self.links.values().any(is_child)
    }

    /// The route that the kernel takes: longest prefix, then lowest metric, then first.
    pub fn route_to(&self, dst: IpAddr) -> Option<&Route> {
        let matching = self.routes.iter().filter(|route| route.dst.contains(&dst));
        matching.min_by_key(|route| (Reverse(route.dst.prefix_len), route.metric))
    }

    pub fn next_hop(&self, dst: IpAddr) -> Resolution {
        if dst.is_loopback() || self.addresses.iter().any(|a| a.address == dst) {
            return Resolution::Local;
        }
        let Some(route) = self.route_to(dst) else { return Resolution::NoRoute };
        match route.kind {
            RouteKind::Unicast => {}
            RouteKind::Local => return Resolution::Local,
            RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Blocked => {
                return Resolution::NoRoute;
            }
        }
        let ifindex = route.ifindex;
        if self.is_loopback(ifindex) {
            return Resolution::Local;
        }
        let neighbour = route.gateway.unwrap_or(dst);
        let Some(entry) = self.neighbours.get(&(ifindex, neighbour)) else {
            return Resolution::Unresolved { neighbour, ifindex };
        };
        match (entry.usable_mac(), entry.state) {
            (Some(mac), _) => {
                self.hop_through(ifindex, mac).map_or(Resolution::NoRoute, Resolution::Known)
            }
            (None, NeighbourState::Failed) => Resolution::Failed { neighbour, ifindex },
            (None, _) => Resolution::Unresolved { neighbour, ifindex },
        }
    }

    /// A source for our own packets to `dst` that is none of `exclude`, the VIPs.
    ///
    /// The route's preferred source; else an address of its interface, best one whose subnet holds
    /// the gateway or `dst`; else any of the node's (unnumbered interfaces). Deprecated addresses,
    /// which may be VIPs of somebody else, come last. Link-local ones reach nothing beyond the link.
    pub fn source_for(&self, dst: IpAddr, exclude: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let route = self.route_to(dst).filter(|route| route.kind == RouteKind::Unicast)?;
        if let Some(source) = route.prefsrc.filter(|source| !exclude.contains(source)) {
            return Some(source);
        }
        let neighbour = route.gateway.unwrap_or(dst);
        let free = self.addresses.iter().filter(|a| {
            Family::of(&a.address) == Family::of(&dst)
                && !a.tentative
                && !exclude.contains(&a.address)
                && !a.address.is_loopback()
                && is_link_local(&a.address) == is_link_local(&dst)
                && self.has_link(a.ifindex)
        });
        let best = free.min_by_key(|address| {
            let here = address.ifindex == route.ifindex;
            (!here, address.deprecated, !(here && address.contains(neighbour)))
        });
        best.map(|address| address.address)
    }

    /// The node's own address of an interface, none of `exclude`, the VIPs.
    pub fn own_address(
        &self,
        ifindex: u32,
        family: Family,
        exclude: &BTreeSet<IpAddr>,
    ) -> Option<IpAddr> {
        let own = self.addresses.iter().filter(|a| {
            a.ifindex == ifindex
                && Family::of(&a.address) == family
                && !a.tentative
                && !a.deprecated
                && !exclude.contains(&a.address)
        });
        own.min_by_key(|address| is_link_local(&address.address)).map(|address| address.address)
    }

    /// Where to add a VIP: the candidate in whose subnet it is, else the first that exists.
    pub fn interface_for(&self, vip: IpAddr, candidates: &[String]) -> Option<u32> {
        let links: Vec<u32> =
            candidates.iter().filter_map(|name| self.link_by_name(name)).map(|l| l.index).collect();
        let subnet_of = |ifindex: u32| {
            let is_subnet = |a: &&Address| a.prefix_len < Family::of(&a.address).bits();
            let here = self.addresses.iter().filter(|a| a.ifindex == ifindex).filter(is_subnet);
            here.filter(|a| a.contains(vip)).map(|a| a.prefix_len).max()
        };
        let connected = links.iter().filter_map(|&index| Some((Reverse(subnet_of(index)?), index)));
        connected
            .min_by_key(|&(prefix_len, _)| prefix_len)
            .map(|(_, index)| index)
            .or_else(|| links.first().copied())
    }

    /// A frame to `mac` as it leaves the node: on a VLAN, through its parent and with its tag.
    /// None: the interface is unknown, or has more tags than a frame of ours can carry.
    fn hop_through(&self, ifindex: u32, mac: Mac) -> Option<Hop> {
        let mut link = self.links.get(&ifindex)?;
        let mut hop = Hop { through: ifindex, ifindex, mac, vlan: 0, inner_vlan: 0 };
        while let LinkKind::Vlan { id, parent } = link.kind {
            if hop.inner_vlan != 0 {
                return None;
            }
            (hop.inner_vlan, hop.vlan, hop.ifindex) = (hop.vlan, id, parent);
            link = self.links.get(&parent)?;
        }
        Some(hop)
    }

    fn has_link(&self, ifindex: u32) -> bool {
        self.links.contains_key(&ifindex)
    }

    fn is_loopback(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex).is_some_and(|link| link.loopback)
    }
}

/// Means something on one link only. IPv4 ones are routed like any other here.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
