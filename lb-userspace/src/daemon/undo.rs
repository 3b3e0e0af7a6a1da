//! Gives up or hands over what a controller holds, and removes what one left behind. I/O.

use anyhow::Context as _;

use crate::control::driver::Controller;
use crate::datapath::{Pins, sockets};
use crate::netlink::Netlink;
use crate::netlink::snapshot::{Address, Snapshot};
use crate::preflight;
use crate::record::{self, Record};
use crate::vips::Vips;

/// Gives up what this node holds: addresses first, so that the kernel answers for none of them when
/// the program is gone.
pub(super) async fn release(mut controller: Controller) -> anyhow::Result<()> {
    controller.elections.shutdown().await?;
    // Behind the last change of what was given up.
    controller.stop_sharing().await;
    controller.snapshot = controller.netlink.snapshot().await?;
    controller.vips.release(&controller.netlink, &controller.snapshot).await?;
    controller.datapath.remove()?;
    controller.vips.restore_offloads()?;
    log::info!("released everything");
    Ok(())
}

/// Leaves everything to a successor.
pub(super) async fn hand_over(mut controller: Controller) -> anyhow::Result<()> {
    controller.stop_sharing().await;
    controller.datapath.unfollow()?;
    controller.record_pasts_at_once(tokio::time::Instant::now().into_std());
    let terms = controller.elections.hand_over().await?;
    if !terms.is_empty() {
        controller.vips.record_terms(terms)?;
    }
    Ok(())
}

/// Removes what a failed start or a killed controller left behind.
pub(super) async fn undo(pins: &Pins, snapshot: &Snapshot) {
    let undone = async {
        let mut vips = Vips::new(Record::load()?);
        vips.release(&Netlink::open()?, snapshot).await?;
        vips.restore_offloads()?;
        sockets::detach(pins)?;
        pins.remove_all()
    };
    if let Err(error) = undone.await {
        log::error!("cleaning up: {error:#}; try: fairlead cleanup");
    }
}

/// `fairlead cleanup`: removes what a killed controller left.
///
/// # Errors
/// A controller runs, or something cannot be removed.
pub fn cleanup() -> anyhow::Result<Vec<String>> {
    preflight::check_capabilities()?;
    let _lock = preflight::lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let record = Record::load()?;
        let netlink = Netlink::open()?;
        let snapshot = netlink.snapshot().await?;
        let is_there = |(interface, vip): &&(String, std::net::IpAddr)| {
            let ifindex = snapshot.link_by_name(interface).map(|link| link.index);
            let there = |found: &Address| Some(found.ifindex) == ifindex && found.address == *vip;
            snapshot.addresses.iter().any(there)
        };
        let mut removed: Vec<String> = record
            .vips
            .iter()
            .chain(record.elected.iter().filter(is_there))
            .map(|(interface, vip)| format!("VIP {vip} on {interface}"))
            .collect();
        let mut vips = Vips::new(record);
        vips.release(&netlink, &snapshot).await?;
        vips.restore_offloads()?;
        if let Ok(pins) = Pins::open()
            && pins.exists()
        {
            if sockets::detach(&pins)? {
                removed.push("programs for local clients".to_owned());
            }
            removed.extend(pins.linked().into_iter().map(|name| format!("XDP program on {name}")));
            let egress = pins.egress_linked().into_iter();
            removed.extend(egress.map(|name| format!("tcx program on {name}")));
            pins.remove_all()?;
            removed.push("pinned maps".to_owned());
        }
        record::tidy();
        Ok(removed)
    })
}
