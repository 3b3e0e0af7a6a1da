//! Holds the VIPs of this node: adds them, announces them, adds them again when someone took them
//! away, removes those that it added itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use lb_common::link::{LinkId, Mac};

use crate::netlink::{Netlink, garp, offload, snapshot::Snapshot};
use crate::record::{Past, Record, Term};
use crate::vrrp::announce;

/// When a VIP is announced after it was added: switches and neighbours lose frames.
const ANNOUNCEMENTS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1)];

/// The VIPs, and what was changed for them.
pub struct Vips {
    record: Record,
}

impl Vips {
    pub fn new(record: Record) -> Self {
        Self { record }
    }

    /// The numbers that flows know interfaces by, as a predecessor wrote them down.
    pub fn links(&self) -> &BTreeMap<String, LinkId> {
        &self.record.links
    }

    /// Writes them down, if they are new.
    pub fn record_links(&mut self, links: &BTreeMap<String, LinkId>) -> anyhow::Result<()> {
        if self.record.links == *links {
            return Ok(());
        }
        self.record.links.clone_from(links);
        self.record.save()
    }

    /// What DNS said of the configured names, as a predecessor wrote it down.
    pub fn names(&self) -> &BTreeMap<String, Vec<IpAddr>> {
        &self.record.names
    }

    /// Writes it down, if it is new.
    pub fn record_names(&mut self, names: BTreeMap<String, Vec<IpAddr>>) -> anyhow::Result<()> {
        if self.record.names == names {
            return Ok(());
        }
        self.record.names = names;
        self.record.save()
    }

    /// What has been of backends, as a predecessor wrote it down.
    pub fn pasts(&self) -> &BTreeMap<String, Past> {
        &self.record.pasts
    }

    /// Writes it down.
    pub fn record_pasts(&mut self, pasts: BTreeMap<String, Past>) -> anyhow::Result<()> {
        let before = std::mem::replace(&mut self.record.pasts, pasts);
        let saved = self.record.save();
        if saved.is_err() {
            self.record.pasts = before;
        }
        saved
    }

    /// Switches GRO off for generic XDP, which would see merged frames.
    pub fn switch_gro_off(&mut self, interface: &str) -> anyhow::Result<()> {
        if !offload::gro(interface)? {
            return Ok(());
        }
        self.record.gro_off.insert(interface.to_owned());
        self.record.save()?;
        offload::set_gro(interface, false)?;
        log::info!("{interface}: GRO is off, as generic XDP needs it");
        Ok(())
    }

    /// Has received VLAN frames keep their tags: XDP has no other way to tell them from untagged ones.
    ///
    /// # Errors
    /// The driver cannot do that.
    pub fn keep_vlan_tags(&mut self, interface: &str) -> anyhow::Result<()> {
        if !offload::rxvlan(interface)? {
            return Ok(());
        }
        self.record.rxvlan_off.insert(interface.to_owned());
        self.record.save()?;
        offload::set_rxvlan(interface, false).with_context(|| {
            format!(
                "{interface} has VLANs, but takes their tags out of received frames before XDP sees \
                 them, and cannot be kept from it; remove its VLANs, or balance on another interface"
            )
        })?;
        log::info!("{interface}: rx-vlan-offload is off, so that XDP sees the tags of its VLANs");
        Ok(())
    }

    /// Switches on again what was switched off, once there is no datapath.
    pub fn restore_offloads(&mut self) -> anyhow::Result<()> {
        self.record.links.clear();
        self.record.names.clear();
        self.record.pasts.clear();
        for interface in std::mem::take(&mut self.record.rxvlan_off) {
            if let Err(error) = offload::set_rxvlan(&interface, true) {
                log::warn!("{interface}: rx-vlan-offload stays off: {error:#}");
            }
        }
        for interface in std::mem::take(&mut self.record.gro_off) {
            // The interface may be gone.
            if let Err(error) = offload::set_gro(&interface, true) {
                log::warn!("{interface}: GRO stays off: {error:#}");
            }
        }
        self.record.save()
    }

    /// Makes the addresses that this node added those in `wanted`, each on the interface of
    /// `interfaces` whose subnet it belongs to.
    pub async fn hold(
        &mut self,
        netlink: &Netlink,
        snapshot: &Snapshot,
        wanted: &BTreeSet<IpAddr>,
        interfaces: &[String],
    ) -> anyhow::Result<()> {
        // What became VRRP's is for its thread to remove.
        let elected = &self.record.elected;
        self.record.vips.retain(|vip| !elected.contains(vip));
        let stale: Vec<_> =
            self.record.vips.iter().filter(|(_, vip)| !wanted.contains(vip)).cloned().collect();
        for (interface, vip) in stale {
            self.give_up(netlink, snapshot, &interface, vip).await?;
        }
        let present: BTreeMap<IpAddr, u32> =
            snapshot.addresses.iter().map(|address| (address.address, address.ifindex)).collect();
        for vip in wanted {
            if !present.contains_key(vip) {
                self.take(netlink, snapshot, *vip, interfaces).await?;
            }
        }
        Ok(())
    }

    async fn take(
        &mut self,
        netlink: &Netlink,
        snapshot: &Snapshot,
        vip: IpAddr,
        interfaces: &[String],
    ) -> anyhow::Result<()> {
        let Some(link) =
            snapshot.interface_for(vip, interfaces).and_then(|index| snapshot.links.get(&index))
        else {
            // Its interface is gone; it is added when that comes back.
            return Ok(());
        };
        self.record.vips.insert((link.name.clone(), vip));
        self.record.save()?;
        netlink
            .add_vip(link.index, vip)
            .await
            .with_context(|| format!("adding VIP {vip} to {}", link.name))?;
        log::info!("VIP {vip} is on {}", link.name);
        announce(link.index, link.mac, vip, is_router(&link.name));
        Ok(())
    }

    async fn give_up(
        &mut self,
        netlink: &Netlink,
        snapshot: &Snapshot,
        interface: &str,
        vip: IpAddr,
    ) -> anyhow::Result<()> {
        if let Some(link) = snapshot.link_by_name(interface) {
            netlink
                .remove_vip(link.index, vip)
                .await
                .with_context(|| format!("removing VIP {vip} from {interface}"))?;
            log::info!("VIP {vip} is no longer on {interface}");
        }
        self.record.vips.remove(&(interface.to_owned(), vip));
        self.record.save()
    }

    /// Removes every VIP that was added.
    pub async fn release(&mut self, netlink: &Netlink, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.elect(netlink, snapshot, BTreeSet::new()).await?;
        self.record.terms.clear();
        self.hold(netlink, snapshot, &BTreeSet::new(), &[]).await
    }

    /// Leaves the VIPs in `elected`, each with its interface, to VRRP's threads. Removes those that were left
    /// to them before, by a predecessor too.
    pub async fn elect(
        &mut self,
        netlink: &Netlink,
        snapshot: &Snapshot,
        elected: BTreeSet<(String, IpAddr)>,
    ) -> anyhow::Result<()> {
        let stale: Vec<_> = self.record.elected.difference(&elected).cloned().collect();
        for (interface, vip) in stale {
            let Some(link) = snapshot.link_by_name(&interface) else { continue };
            netlink
                .remove_vip(link.index, vip)
                .await
                .with_context(|| format!("removing VIP {vip} from {interface}"))?;
        }
        if self.record.elected == elected {
            return Ok(());
        }
        self.record.elected = elected;
        self.record.save()
    }

    /// What a predecessor left of VRRP's instances.
    pub fn terms(&self) -> &BTreeMap<String, Term> {
        &self.record.terms
    }

    /// Writes down what a successor has to know of them.
    pub fn record_terms(&mut self, terms: BTreeMap<String, Term>) -> anyhow::Result<()> {
        self.record.terms.extend(terms);
        self.record.save()
    }
}

/// Announces a VIP several times, in the background.
fn announce(ifindex: u32, mac: Mac, vip: IpAddr, router: bool) {
    tokio::spawn(async move {
        let frame = announce::announcement(mac, vip, router);
        for delay in ANNOUNCEMENTS {
            tokio::time::sleep(delay).await;
            if let Err(error) = garp::send_frame(ifindex, &frame) {
                log::warn!("announcing VIP {vip}: {error}");
            }
        }
    });
}

/// Whether an interface forwards IPv6, which its advertisements have to say (RFC 4861 7.2.6).
fn is_router(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    // A kernel without IPv6 has no such file.
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}
