//! The controller's dealings with interfaces, addresses, routes and neighbours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, bail};
use lb_common::addr::IpBe;
use lb_common::link::Route;

use super::Controller;
use crate::config::XdpMode;
use crate::datapath::{self, attach};
use crate::netlink::features;
use crate::netlink::snapshot::{AttachMode, Resolution};

impl Controller {
    /// Gives the interfaces their numbers and tells the datapath.
    pub(super) fn number_links(&mut self) -> anyhow::Result<()> {
        let left = self.links.assign(&self.config.interfaces, &self.snapshot, &self.config.vips());
        if !left.is_empty() {
            bail!("too many interfaces: no number is left for {}", left.join(", "));
        }
        self.vips.record_links(self.links.numbers())?;
        self.datapath.maps.set_links(self.links.wanted()).context("writing the interfaces")
    }

    /// Removes other owners' programs, if the configuration says so: just before ours takes their place.
    pub(super) async fn make_room(&mut self) -> anyhow::Result<()> {
        if !self.config.replace_xdp {
            return Ok(());
        }
        for name in &self.config.interfaces {
            let Some(link) = self.snapshot.link_by_name(name) else { continue };
            let (index, pins) = (link.index, self.datapath.pins());
            let Some(xdp) = link.xdp.filter(|_| !attach::is_attached(pins, name, index)) else {
                continue;
            };
            let program = attach::program_in_words(xdp.program_id);
            self.netlink.remove_xdp(index, xdp.mode).await.with_context(|| {
                format!(
                    "{name}: removing XDP program {program} of another owner, as replace_xdp says; one that \
                     its owner holds by a link (bpftool link show) only the owner can remove"
                )
            })?;
            log::warn!(
                "{name}: removed XDP program {program} of another owner, as replace_xdp says; nobody puts \
                 it back"
            );
            if let Some(link) = self.snapshot.links.get_mut(&index) {
                link.xdp = None;
            }
        }
        Ok(())
    }

    /// Attaches to interfaces that lack the program: at start, and when one was made again.
    pub(super) fn attach_all(&mut self) -> anyhow::Result<()> {
        let mut changed = false;
        for name in self.config.interfaces.clone() {
            let Some(link) = self.snapshot.link_by_name(&name) else {
                if self.datapath.attachments().contains_key(&name) {
                    log::warn!("interface {name} is gone; waiting for it to come back");
                    self.datapath.detach(&name)?;
                    self.tell_detached(&name);
                }
                continue;
            };
            if self.snapshot.has_vlans(link.index) {
                self.vips.keep_vlan_tags(&name)?;
            }
            let known = self
                .datapath
                .attachments()
                .get(&name)
                .is_some_and(|attachment| attachment.ifindex == link.index);
            if known && attach::is_attached(self.datapath.pins(), &name, link.index) {
                continue;
            }
            let interface = datapath::Interface {
                name: name.clone(),
                ifindex: link.index,
                occupant: link.xdp.as_ref().map(|xdp| (xdp.program_id, mode_of(xdp.mode))),
            };
            let mode = self.config.xdp_mode;
            self.datapath.attach(&interface, mode)?;
            self.attached(&name)?;
            changed = true;
        }
        if changed {
            self.agree_on_a_mode()?;
        }
        Ok(())
    }

    /// Has what backends on this node send to clients met where it leaves. Before such a backend gets its
    /// first flow, and for as long as it may have any.
    pub(super) fn meet_local_replies(&mut self) {
        let backends = self.config.services.iter().flat_map(|service| &service.backends);
        let is_here = |address: IpAddr| {
            !address.is_loopback() && self.snapshot.next_hop(address) == Resolution::Local
        };
        let configured = backends.filter(|backend| is_here(backend.address));
        let installed = self.installed.backends.values().filter(|backend| backend.is_local());
        let ports: BTreeSet<u16> = configured
            .map(|backend| backend.port)
            .chain(installed.map(|backend| backend.endpoint.port.get()))
            .collect();
        let met = self.datapath.meet_local_replies(&ports).map_err(|error| format!("{error:#}"));
        if let Err(why) = &met
            && self.replies_are_met != met
        {
            log::error!(
                "backends on this node get no connections: {why}; all others are served, and clients on this \
                 node too"
            );
        }
        self.replies_are_met = met;
    }

    fn attached(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(attachment) = self.datapath.attachments().get(name) else { return Ok(()) };
        let because =
            attachment.reason.as_ref().map(|why| format!(", because {why}")).unwrap_or_default();
        log::info!("{name}: {} XDP{because}", attachment.mode.as_str());
        self.tell_attached(name, attachment.mode.as_str());
        if attachment.mode == datapath::Mode::Generic {
            self.vips.switch_gro_off(name)?;
        }
        Ok(())
    }

    /// Native XDP redirects only to drivers that can send what it redirects: where one cannot, all
    /// become generic.
    fn agree_on_a_mode(&mut self) -> anyhow::Result<()> {
        let attachments = self.datapath.attachments();
        let native: Vec<(String, u32)> = attachments
            .iter()
            .filter(|(_, attachment)| attachment.mode == datapath::Mode::Native)
            .map(|(name, attachment)| (name.clone(), attachment.ifindex))
            .collect();
        let unable = attachments.iter().find(|(_, attachment)| !can_send(attachment));
        let Some((unable, _)) = unable.filter(|_| attachments.len() > 1 && !native.is_empty())
        else {
            return Ok(());
        };
        let why = format!("{unable} cannot send what native XDP redirects to it");
        if self.config.xdp_mode != XdpMode::Auto {
            log::warn!("{why}: what should leave there is lost; write `xdp_mode: auto`");
            return Ok(());
        }
        for (name, ifindex) in native {
            let interface = datapath::Interface { name: name.clone(), ifindex, occupant: None };
            self.datapath.attach_generic(&interface, &why)?;
            self.attached(&name)?;
        }
        Ok(())
    }

    pub(super) async fn hold_vips(&mut self) -> anyhow::Result<()> {
        let wanted = self.config.standalone_vips();
        let interfaces = self.config.interfaces.clone();
        self.vips.hold(&self.netlink, &self.snapshot, &wanted, &interfaces).await
    }

    /// Asks the kernel for the neighbours that it does not know; its answer comes as an event.
    pub(super) async fn resolve_backends(&mut self) {
        for address in self.backend_addresses() {
            let (neighbour, ifindex) = match self.snapshot.next_hop(address) {
                Resolution::Unresolved { neighbour, ifindex } => (neighbour, ifindex),
                Resolution::Failed { neighbour, ifindex } => {
                    let why =
                        format!("is out of reach: neighbour {neighbour} does not answer ARP or ND");
                    self.warn_once(address, &why);
                    (neighbour, ifindex)
                }
                Resolution::Local => {
                    if address.is_loopback() {
                        let why = "is a loopback address, to which the kernel takes nothing from a \
                                   network; name another address of this node";
                        self.warn_once(address, why);
                    }
                    continue;
                }
                Resolution::Known(hop) => {
                    if self.links.next_hop(&hop).is_some() {
                        self.warned.remove(&address);
                    } else {
                        self.warn_once(address, "is behind an interface not in `interfaces`");
                    }
                    continue;
                }
                Resolution::NoRoute => {
                    self.warn_once(address, "is out of reach: there is no route to it");
                    continue;
                }
            };
            if let Err(error) = self.netlink.resolve(ifindex, neighbour).await {
                log::debug!("resolving {neighbour}: {error:#}");
            }
        }
    }

    /// Says why a backend gets no traffic; again only after it was in reach.
    fn warn_once(&mut self, address: IpAddr, why: &str) {
        if self.warned.insert(address) {
            log::warn!("backend {address} {why}");
        }
    }

    /// Routes and neighbours for the datapath to find clients by.
    pub(super) fn follow_clients(&mut self) -> anyhow::Result<()> {
        let (routes, omitted) =
            self.snapshot.routes_for_datapath(datapath::maps::MAX_ROUTES as usize);
        if omitted > 0 {
            log::warn!("{omitted} routes do not fit; clients behind them are answered by MAC");
        }
        let routes = routes
            .into_iter()
            .map(|route| {
                let link = self.links.id(route.through).or_else(|| self.links.id(route.ifindex));
                let gateway = route.gateway.map_or(IpBe::UNSPECIFIED, IpBe::new);
                let link = link.map_or(0, u32::from);
                (route.dst, Route { gateway, link, ..Route::default() })
            })
            .collect();
        self.datapath.maps.set_routes(&routes).context("writing the routes")?;
        let ifindexes: Vec<u32> = self.links.wanted().values().map(|link| link.ifindex).collect();
        let limit = datapath::maps::MAX_NEIGHBOURS as usize;
        let neighbours = self
            .snapshot
            .neighbours_for_datapath(limit, &ifindexes)
            .into_iter()
            .filter_map(|(address, hop)| Some((address, self.links.next_hop(&hop)?)))
            .collect();
        self.datapath.maps.set_neighbours(&neighbours).context("writing the neighbours")?;
        self.datapath.maps.tell_changed_ways().context("telling flows of changed ways")
    }
}

/// Whether native XDP can redirect to an interface. Where the kernel does not say: whether it has
/// native XDP, as few drivers have the one without the other.
fn can_send(attachment: &datapath::Attachment) -> bool {
    let said = features::sends_redirected(attachment.ifindex).unwrap_or_else(|error| {
        log::debug!("{error:#}");
        None
    });
    said.unwrap_or(attachment.mode == datapath::Mode::Native)
}

const fn mode_of(mode: AttachMode) -> datapath::Mode {
    match mode {
        AttachMode::Generic => datapath::Mode::Generic,
        AttachMode::Native | AttachMode::Hardware | AttachMode::Multiple => datapath::Mode::Native,
    }
}
