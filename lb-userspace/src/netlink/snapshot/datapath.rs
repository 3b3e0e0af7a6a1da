//! What of a snapshot goes into the datapath's tables, whose capacity is limited. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use lb_common::link::Mac;

use super::{Cidr, Hop, RouteKind, Snapshot, is_link_local};

/// A route as the datapath's longest-prefix table takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    pub dst: Cidr,
    /// The gateway, `on_link`. `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The route's interface.
    pub through: u32,
    /// What is below it, if it is a VLAN.
    pub ifindex: u32,
}

/// A neighbour's address, `on_link`, and the way to it.
pub type NeighbourEntry = (IpAddr, Hop);

impl Snapshot {
    /// The unicast routes, one per prefix, and how many found no room.
    ///
    /// Under a limit the longest prefixes stay: a packet that finds no route falls back to
    /// something that works, one that finds too short a prefix goes the wrong way.
    pub fn routes_for_datapath(&self, limit: usize) -> (Vec<RouteEntry>, usize) {
        let mut best = BTreeMap::new();
        let usable = |route: &&super::Route| {
            route.kind == RouteKind::Unicast
                && !self.is_loopback(route.ifindex)
                && !route.dst.network.is_multicast()
                && !is_link_local(&route.dst.network)
        };
        for route in self.routes.iter().filter(usable) {
            let kept = best.entry((Reverse(route.dst.prefix_len), route.dst)).or_insert(route);
            if route.metric < kept.metric {
                *kept = route;
            }
        }
        let omitted = best.len().saturating_sub(limit);
        let entries = best.into_values().take(limit).map(|route| RouteEntry {
            dst: route.dst,
            gateway: route.gateway.map(|gateway| on_link(gateway, route.ifindex)),
            through: route.ifindex,
            ifindex: self
                .hop_through(route.ifindex, Mac::default())
                .map_or(route.ifindex, |hop| hop.ifindex),
        });
        (entries.collect(), omitted)
    }

    /// The neighbours on `ifindexes` (or on VLANs of those) that frames can be sent to.
    ///
    /// An address that several interfaces know counts on the one that its route takes. Under a
    /// limit gateways come first: most clients are behind one.
    pub fn neighbours_for_datapath(&self, limit: usize, ifindexes: &[u32]) -> Vec<NeighbourEntry> {
        let mut best = BTreeMap::new();
        for (&(ifindex, address), neighbour) in &self.neighbours {
            let hop = neighbour.usable_mac().and_then(|mac| self.hop_through(ifindex, mac));
            let Some(hop) = hop else { continue };
            if !ifindexes.contains(&hop.through) && !ifindexes.contains(&hop.ifindex) {
                continue;
            }
            let unique = on_link(address, ifindex);
            if best.contains_key(&unique) && !self.is_on(address, ifindex) {
                continue;
            }
            best.insert(unique, hop);
        }
        let gateways: BTreeSet<IpAddr> = self
            .routes
            .iter()
            .filter_map(|route| Some(on_link(route.gateway?, route.ifindex)))
            .collect();
        let mut entries: Vec<NeighbourEntry> = best.into_iter().collect();
        entries.sort_by_key(|(address, _)| !gateways.contains(address));
        entries.truncate(limit);
        entries
    }

    fn is_on(&self, address: IpAddr, ifindex: u32) -> bool {
        self.route_to(address).is_some_and(|route| route.ifindex == ifindex)
    }
}

/// An address that is unique on this node: a link-local one, of which each link may have its own,
/// gets the interface's index in bits that are zero on the wire (RFC 4291 2.5.6).
fn on_link(address: IpAddr, ifindex: u32) -> IpAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | u128::from(ifindex) << 64))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
