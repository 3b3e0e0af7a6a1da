//! What of a snapshot goes into the datapath's tables, whose capacity is limited. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lb_common::addr::{Ipv4Be, NextHop, Route as DatapathRoute};

use super::{RouteKind, Snapshot};

/// A route as the datapath's longest-prefix table takes it: destination, prefix length, value.
pub type RouteEntry = (Ipv4Addr, u8, DatapathRoute<Ipv4Be>);

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
                && !route.dst.is_multicast()
        };
        for route in self.routes.iter().filter(usable) {
            let kept = best.entry((Reverse(route.prefix_len), route.dst)).or_insert(route);
            if route.metric < kept.metric {
                *kept = route;
            }
        }
        let omitted = best.len().saturating_sub(limit);
        let entries = best.into_values().take(limit).map(|route| {
            let gateway = route.gateway.map_or(Ipv4Be::UNSPECIFIED, Ipv4Be::new);
            (route.dst, route.prefix_len, DatapathRoute { gateway, ifindex: route.ifindex })
        });
        (entries.collect(), omitted)
    }

    /// The neighbours on `ifindexes` (or on VLANs of those) that frames can be sent to.
    ///
    /// An address that several interfaces know counts on the one that its route takes. Under a
    /// limit gateways come first: most clients are behind one.
    pub fn neighbours_for_datapath(
        &self,
        limit: usize,
        ifindexes: &[u32],
    ) -> Vec<(Ipv4Addr, NextHop)> {
        let mut best = BTreeMap::new();
        for (&(ifindex, address), neighbour) in &self.neighbours {
            let hop = neighbour.usable_mac().and_then(|mac| self.hop_through(ifindex, mac));
            let Some(hop) = hop else { continue };
            if !ifindexes.contains(&ifindex) && !ifindexes.contains(&hop.ifindex) {
                continue;
            }
            if best.contains_key(&address) && !self.is_on(address, ifindex) {
                continue;
            }
            best.insert(address, hop);
        }
        let gateways: BTreeSet<Ipv4Addr> = self.routes.iter().filter_map(|r| r.gateway).collect();
        let mut entries: Vec<(Ipv4Addr, NextHop)> = best.into_iter().collect();
        entries.sort_by_key(|(address, _)| !gateways.contains(address));
        entries.truncate(limit);
        entries
    }

    fn is_on(&self, address: Ipv4Addr, ifindex: u32) -> bool {
        self.route_to(address).is_some_and(|route| route.ifindex == ifindex)
    }
}
