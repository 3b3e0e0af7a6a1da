//! Interfaces, routes and neighbours, written as sets.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use lb_common::addr::IpBe;
use lb_common::link::{Link, LinkId, MAX_LINKS, NextHop, Route, WaysChanged};

use super::super::now;
use super::{Maps, sys};
use crate::config::Cidr;

impl Maps {
    /// Interfaces by the numbers that flows know them by; those that are gone have none of the kernel's.
    pub fn links(&self) -> anyhow::Result<BTreeMap<LinkId, Link>> {
        let mut links = BTreeMap::new();
        for (id, link) in (0..).zip(self.links.iter()) {
            let link = link.context("reading the links")?;
            if link != Link::default() {
                links.insert(id, link);
            }
        }
        Ok(links)
    }

    /// Makes `wanted` the interfaces that frames may leave by.
    ///
    /// A number is in the device map before the program can come upon it.
    pub fn set_links(&mut self, wanted: &BTreeMap<LinkId, Link>) -> anyhow::Result<()> {
        for id in 1..MAX_LINKS {
            let link = LinkId::try_from(id).ok().and_then(|id| wanted.get(&id)).copied();
            match link.filter(|link| link.ifindex != 0) {
                Some(link) => {
                    if self.devices.get(id, 0).ok().map(|device| device.if_index)
                        != Some(link.ifindex)
                    {
                        self.devices.set(id, link.ifindex, None, 0)?;
                    }
                }
                None => {
                    sys::delete(self.devices_fd.fd().as_fd(), &id.to_ne_bytes())?;
                }
            }
            let link = link.unwrap_or_default();
            if self.links.get(&id, 0)? != link {
                self.links.set(id, link, 0)?;
            }
        }
        let numbers: BTreeMap<u32, u32> = wanted
            .iter()
            .filter(|(_, link)| link.ifindex != 0)
            .map(|(id, link)| (link.ifindex, u32::from(*id)))
            .collect();
        for old in self.link_ids.keys().collect::<Result<Vec<_>, _>>()? {
            if !numbers.contains_key(&old) {
                self.link_ids.remove(&old)?;
            }
        }
        for (ifindex, id) in numbers {
            if self.link_ids.get(&ifindex, 0).ok() != Some(id) {
                self.link_ids.insert(ifindex, id, 0)?;
            }
        }
        Ok(())
    }

    /// Makes `wanted` the routes to clients.
    pub fn set_routes(&mut self, wanted: &BTreeMap<Cidr, Route>) -> anyhow::Result<()> {
        let key = |range: &Cidr| {
            let bits = IpBe::prefix_bits(range.network, range.prefix_len);
            Key::new(bits, IpBe::new(range.network).trie_data())
        };
        let wanted: BTreeMap<(u32, [u32; 4]), Route> = wanted
            .iter()
            .map(|(range, route)| ((key(range).prefix_len(), key(range).data()), *route))
            .collect();
        for old in self.routes.keys().collect::<Result<Vec<_>, _>>()? {
            if !wanted.contains_key(&(old.prefix_len(), old.data())) {
                self.has_changed_ways = true;
                self.routes.remove(&old)?;
            }
        }
        for ((bits, network), route) in wanted {
            let key = Key::new(bits, network);
            if self.routes.get(&key, 0).ok() != Some(route) {
                self.has_changed_ways = true;
                self.routes.insert(&key, route, 0)?;
            }
        }
        Ok(())
    }

    /// The next hop towards an address, by the program's rule: the longest prefix, then the neighbour.
    pub fn next_hop(&self, address: IpBe) -> io::Result<Option<NextHop>> {
        let route = found(self.routes.get(&Key::new(128, address.trie_data()), 0))?;
        let Some(route) = route else { return Ok(None) };
        let neighbour = if route.gateway.is_unspecified() { address } else { route.gateway };
        let next_hop = found(self.neighbours.get(&neighbour, 0))?;
        Ok(next_hop.filter(|next_hop: &NextHop| u32::from(next_hop.link) == route.link))
    }

    /// Makes `wanted` the neighbours of clients.
    pub fn set_neighbours(&mut self, wanted: &BTreeMap<IpAddr, NextHop>) -> anyhow::Result<()> {
        for old in self.neighbours.keys().collect::<Result<Vec<_>, _>>()? {
            if !wanted.contains_key(&old.get()) {
                self.has_changed_ways = true;
                self.neighbours.remove(&old)?;
            }
        }
        for (address, next_hop) in wanted {
            let address = IpBe::new(*address);
            if self.neighbours.get(&address, 0).ok() != Some(*next_hop) {
                self.has_changed_ways = true;
                self.neighbours.insert(address, next_hop, 0)?;
            }
        }
        Ok(())
    }

    /// Has flows look for their ways again if routes or neighbours changed since it was last called.
    pub fn tell_changed_ways(&mut self) -> anyhow::Result<()> {
        if self.has_changed_ways {
            self.ways_changed.set(0, WaysChanged(now::ticks()), 0)?;
            self.has_changed_ways = false;
        }
        Ok(())
    }
}

/// Nothing under the key is no error.
fn found<T>(value: Result<T, MapError>) -> io::Result<Option<T>> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}
