//! Numbers for interfaces: flows know an interface by a number that it keeps when it goes and comes
//! back. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::link::{Link, LinkId, MAX_LINKS, NextHop, Tags};

use crate::config::Family;
use crate::netlink::snapshot::{Hop, Snapshot};

/// The interfaces that have a number, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    numbers: BTreeMap<String, LinkId>,
    /// What the maps are to hold. Without an index of the kernel's: the interface is gone.
    wanted: BTreeMap<LinkId, Link>,
    /// What a predecessor left and nobody has asked for.
    nameless: BTreeMap<LinkId, Link>,
}

impl Links {
    /// Takes over what a predecessor installed, and the names that it wrote down.
    pub fn adopt(installed: BTreeMap<LinkId, Link>, names: &BTreeMap<String, LinkId>) -> Self {
        let named: BTreeSet<LinkId> = names.values().copied().collect();
        let nameless = installed.into_iter().filter(|(id, _)| !named.contains(id)).collect();
        Self { numbers: names.clone(), wanted: BTreeMap::new(), nameless }
    }

    /// Gives each of `interfaces` its number, and says what it is. VIPs are nobody's own address.
    ///
    /// Interfaces without a number, if there are more than there are numbers, are returned.
    pub fn assign(
        &mut self,
        interfaces: &[String],
        snapshot: &Snapshot,
        vips: &BTreeSet<IpAddr>,
    ) -> Vec<String> {
        self.wanted.clear();
        let mut left = Vec::new();
        for name in interfaces {
            let found = snapshot.link_by_name(name);
            let Some(id) = self.number(name, found.map(|link| link.index)) else {
                left.push(name.clone());
                continue;
            };
            let link = found.map_or_else(Link::default, |link| {
                let own = |family| snapshot.own_address(link.index, family, vips);
                Link {
                    ifindex: link.index,
                    mac: link.mac,
                    ipv4: match own(Family::V4) {
                        Some(IpAddr::V4(address)) => Ipv4Be::new(address),
                        Some(IpAddr::V6(_)) | None => Ipv4Be::UNSPECIFIED,
                    },
                    ipv6: match own(Family::V6) {
                        Some(IpAddr::V6(address)) => Ipv6Be::new(address),
                        Some(IpAddr::V4(_)) | None => Ipv6Be::UNSPECIFIED,
                    },
                    ..Link::default()
                }
            });
            self.wanted.insert(id, link);
        }
        left
    }

    fn number(&mut self, name: &str, ifindex: Option<u32>) -> Option<LinkId> {
        if let Some(id) = self.numbers.get(name) {
            return Some(*id);
        }
        let same = |link: &Link| Some(link.ifindex) == ifindex;
        let adopted = self.nameless.iter().find(|(_, link)| same(link)).map(|(id, _)| *id);
        let taken: BTreeSet<LinkId> =
            self.numbers.values().chain(self.nameless.keys()).copied().collect();
        let limit = LinkId::try_from(MAX_LINKS).unwrap_or(LinkId::MAX);
        let id = adopted.or_else(|| (1..limit).find(|id| !taken.contains(id)))?;
        self.nameless.remove(&id);
        self.numbers.insert(name.to_owned(), id);
        Some(id)
    }

    /// What the maps are to hold.
    pub fn wanted(&self) -> &BTreeMap<LinkId, Link> {
        &self.wanted
    }

    /// The numbers, to be written down for a successor.
    pub fn numbers(&self) -> &BTreeMap<String, LinkId> {
        &self.numbers
    }

    /// The number of an interface; `None`: it is not one of ours, or it is gone.
    pub fn id(&self, ifindex: u32) -> Option<LinkId> {
        self.wanted.iter().find(|(_, link)| link.ifindex == ifindex).map(|(id, _)| *id)
    }

    /// A way as the datapath takes it: by a VLAN's own interface where that is one of ours, else by
    /// the one below it, with tags. `None`: by no interface of ours.
    pub fn next_hop(&self, hop: &Hop) -> Option<NextHop> {
        if let Some(link) = self.id(hop.through) {
            return Some(NextHop { mac: hop.mac, link, tags: Tags::default() });
        }
        let tags = Tags { outer: hop.vlan, inner: hop.inner_vlan };
        Some(NextHop { mac: hop.mac, link: self.id(hop.ifindex)?, tags })
    }
}

#[cfg(test)]
mod tests;
