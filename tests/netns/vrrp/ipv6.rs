//! IPv6: who answers, how it is announced, and how soon a VIP can be used.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::link::Asking;
use lb_tests::wire::What;

use super::{Ours, Pair, ensure_between, link_local, wait_both};
use crate::scene::PATIENCE;

/// Flags of neighbour advertisements (RFC 4861 4.4).
const OVERRIDE: u8 = 0x20;
const ROUTER: u8 = 0x80;
const LATE: Duration = Duration::from_millis(40);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn ipv6_moves_to_and_from_keepalived_and_only_the_active_node_answers() -> Result<()> {
    let pair = Pair::build()?;
    let vips = pair.vips6();
    let _keepalived = pair.dual_keepalived(100)?;
    let _asking = Asking::start(&pair.lab.client, &vips, PAUSE)?;
    std::thread::sleep(LATE * 2);

    // The node does not forward, and the second time it does.
    for (forwarding, flags) in [("0", OVERRIDE), ("1", OVERRIDE | ROUTER)] {
        pair.node().host.netns.sysctl("ipv6/conf/eth0/forwarding", forwarding)?;
        let ours = Ours { vips6: vips.clone(), ..pair.settings(200) };
        let mut controller = pair.controller(&ours)?;
        let mark = pair.wire.mark();
        controller.start()?;
        takes_over(&pair, &controller, &vips, mark, flags)?;
        let mark = pair.wire.mark();
        controller.kill9()?;
        gives_back(&pair, &vips, mark)?;
        // What it left would be found by the next one, which has to begin anew.
        controller.start()?;
        controller.stop(false)?;
    }
    Ok(())
}

/// Announced as it should be, usable at once, and no more answered for by the other node.
fn takes_over(
    pair: &Pair,
    controller: &Controller<'_>,
    vips: &[IpAddr],
    mark: usize,
    wanted: u8,
) -> Result<()> {
    let (ours, theirs) = (pair.mac(pair.node())?, pair.mac(pair.other())?);
    let own = link_local(pair.node())?;
    let advertises = pair
        .wire
        .wait("our advertisement", mark, PATIENCE, |said| said.priority_of(own).is_some())?;
    for vip in vips {
        let announced = pair.wire.wait("an announcement", mark, PATIENCE, |said| {
            matches!(&said.what, What::Advertisement { vip: of, mac, .. }
                if IpAddr::V6(*of) == *vip && *mac == ours)
        })?;
        let What::Advertisement { flags, .. } = announced.what else { continue };
        ensure!(flags == wanted, "flags {flags:#x}, not {wanted:#x}");
        let answered = pair
            .wire
            .wait("our answer", mark, PATIENCE, |said| said.answers(*vip) == Some(ours))?;
        let took = answered.at.saturating_sub(advertises.at);
        ensure_between("answered for", took, Duration::ZERO, LATE)?;
    }
    wait_both(controller, "active")?;
    for vip in vips {
        pair.wait_vip(pair.node(), *vip, true)?;
        pair.wait_vip(pair.other(), *vip, false)?;
    }
    let addresses = pair.node().host.netns.ip("-6 -o addr show dev eth0")?;
    ensure!(!addresses.contains("tentative"), "{addresses}");
    // From then on it is ours alone.
    let mark = pair.wire.mark();
    std::thread::sleep(LATE * 5);
    let said = pair.wire.said();
    let said = &said[mark..];
    for vip in vips {
        ensure!(said.iter().any(|said| said.answers(*vip) == Some(ours)), "{vip}: no answer");
        let other = said.iter().find(|said| said.answers(*vip) == Some(theirs));
        ensure!(other.is_none(), "{vip}: a backup answered: {other:?}");
    }
    Ok(())
}

/// Killed: keepalived answers, and nobody does for this node, whose kernel still has the VIPs.
fn gives_back(pair: &Pair, vips: &[IpAddr], mark: usize) -> Result<()> {
    let (ours, theirs) = (pair.mac(pair.node())?, pair.mac(pair.other())?);
    let peer = link_local(pair.other())?;
    let first =
        pair.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(peer).is_some())?;
    for vip in vips {
        pair.wire.wait("keepalived's answer", mark, PATIENCE, |said| {
            said.answers(*vip) == Some(theirs)
        })?;
        ensure!(super::has(pair.node(), *vip)?, "SIGKILL removed {vip}");
    }
    std::thread::sleep(LATE * 5);
    for vip in vips {
        let last = *pair.wire.answers(*vip, ours).last().context("we never answered")?;
        let before = first.at.checked_sub(last);
        ensure!(before.is_some(), "{vip}: answered after keepalived took over");
        super::super::measured(&format!("{vip}: silent {before:?} before keepalived"));
    }
    Ok(())
}
