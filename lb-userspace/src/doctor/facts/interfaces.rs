//! The interfaces that matter: their drivers, offloads and programs. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use aya::programs::tc::{SchedClassifier, TcAttachType};

use super::Looked;
use crate::config::Family;
use crate::datapath::attach::program_name;
use crate::datapath::{Pins, sys};
use crate::netlink::filters::Filter;
use crate::netlink::snapshot::{AttachMode, Link, Snapshot};
use crate::netlink::{features, offload};

/// An interface that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// XDP attaches to it; else it is there for VRRP alone.
    pub balances: bool,
    /// `None`: there is none of this name.
    pub link: Option<Facts>,
}

/// What is known of an interface that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub index: u32,
    pub up: bool,
    pub mtu: u32,
    pub driver: Looked<String>,
    pub is_ethernet: bool,
    /// The bond, bridge or team that it is a port of.
    pub aggregate: Option<String>,
    /// VLANs of this node are on it.
    pub has_vlans: bool,
    /// Families that it has an address of, VIPs left out.
    pub addresses: Vec<Family>,
    pub gro: Looked<bool>,
    pub lro: Looked<bool>,
    pub rxvlan: Looked<bool>,
    /// The driver has native XDP; `None`: the kernel does not say.
    pub native: Option<bool>,
    /// It can send what XDP redirects to it.
    pub redirects: Option<bool>,
    pub xdp: Option<Xdp>,
    /// Programs of traffic control, each with its direction.
    pub tc: Looked<Vec<Tc>>,
    /// Filters of traffic control; `None`: it has no `clsact` or `ingress` qdisc for them.
    pub filters: Option<BTreeSet<Filter>>,
}

/// What is needed to look at one.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) filters: &'a BTreeMap<u32, BTreeSet<Filter>>,
    pub(super) vips: &'a BTreeSet<IpAddr>,
}

/// The XDP program of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xdp {
    pub id: u32,
    pub name: Option<String>,
    pub generic: bool,
    /// It is one of ours.
    pub ours: bool,
}

/// A program of traffic control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tc {
    pub ingress: bool,
    pub name: String,
}

impl Interface {
    pub(super) fn read(name: &str, balances: bool, sources: Sources<'_>) -> Self {
        let link = sources.snapshot.link_by_name(name).map(|link| facts(link, sources));
        Self { name: name.to_owned(), balances, link }
    }
}

fn facts(link: &Link, Sources { snapshot, filters, vips }: Sources<'_>) -> Facts {
    let name = &link.name;
    let has = |family: &Family| {
        let mut addresses = snapshot.addresses.iter();
        addresses.any(|it| {
            it.ifindex == link.index
                && Family::of(&it.address) == *family
                && !vips.contains(&it.address)
        })
    };
    Facts {
        index: link.index,
        up: link.up,
        mtu: link.mtu,
        driver: looked(offload::driver(name)),
        is_ethernet: link.mac != lb_common::link::Mac::default(),
        aggregate: snapshot.aggregate_of(link).map(|master| master.name.clone()),
        has_vlans: snapshot.has_vlans(link.index),
        addresses: Family::BOTH.into_iter().filter(has).collect(),
        gro: looked(offload::gro(name)),
        lro: looked(offload::lro(name)),
        rxvlan: looked(offload::rxvlan(name)),
        native: features::has_native(link.index).ok().flatten(),
        redirects: features::sends_redirected(link.index).ok().flatten(),
        xdp: xdp(link),
        tc: tc(name),
        filters: filters.get(&link.index).cloned(),
    }
}

fn looked<T>(found: anyhow::Result<T>) -> Looked<T> {
    found.map_err(|error| format!("{error:#}"))
}

fn xdp(link: &Link) -> Option<Xdp> {
    let attached = link.xdp?;
    let ours = Pins::open().is_ok_and(|pins| {
        sys::pinned_object(&pins.link(&link.name))
            .and_then(|link| sys::link_info(link.as_fd()))
            .is_ok_and(|info| info.ifindex == link.index && info.program == attached.program_id)
    });
    let generic = match attached.mode {
        AttachMode::Generic => true,
        AttachMode::Native | AttachMode::Hardware | AttachMode::Multiple => false,
    };
    Some(Xdp { id: attached.program_id, name: program_name(attached.program_id), generic, ours })
}

/// Those attached by the kernel's links for it (Linux 6.6).
fn tc(name: &str) -> Looked<Vec<Tc>> {
    let mut found = Vec::new();
    for (attach, ingress) in [(TcAttachType::Ingress, true), (TcAttachType::Egress, false)] {
        let (_, programs) =
            SchedClassifier::query_tcx(name, attach).map_err(|error| error.to_string())?;
        found.extend(programs.iter().map(|program| {
            let id = program.id();
            let name = program.name_as_str().filter(|name| !name.is_empty());
            Tc { ingress, name: name.map_or_else(|| id.to_string(), str::to_owned) }
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::snapshot::LinkKind;

    #[test]
    fn the_loopback_is_looked_at() {
        let link = Link {
            name: "lo".to_owned(),
            index: 1,
            mac: lb_common::link::Mac::default(),
            up: true,
            mtu: 65_536,
            loopback: true,
            xdp: None,
            kind: LinkKind::Other(String::new()),
            master: None,
        };
        let snapshot = Snapshot { links: [(1, link)].into(), ..Snapshot::default() };
        let none = BTreeMap::new();
        let vips = BTreeSet::new();
        let sources = Sources { snapshot: &snapshot, filters: &none, vips: &vips };
        let found = Interface::read("lo", true, sources);
        let facts = found.link.unwrap();
        assert!(!facts.is_ethernet && !facts.has_vlans && facts.xdp.is_none());
        assert!(Interface::read("none", true, sources).link.is_none());
    }
}
