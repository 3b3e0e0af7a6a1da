//! A dual-stack pair in a sync group, on both nodes.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;

use super::{INTERVAL, Ours, Pair, wait_both};

/// How long nothing may change.
const WATCHED: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn both_families_move_together_when_one_fails_and_when_it_is_back() -> Result<()> {
    let pair = Pair::build()?;
    let vips6 = pair.vips6();
    let mut keepalived = pair.dual_keepalived(100)?;
    let ours = Ours { vips6: vips6.clone(), ..pair.settings(200) };
    let controller = pair.start(&ours)?;
    wait_both(&controller, "active")?;
    ensure_held(&pair, &vips6, true)?;

    // IPv6 alone fails: nothing to send from.
    let netns = &pair.node().host.netns;
    let said = netns.ip("-6 -o addr show dev eth0 scope link")?;
    let own = said.split_whitespace().find(|word| word.ends_with("/64")).context("no address")?;
    netns.ip(&format!("-6 addr del {own} dev eth0"))?;
    wait_both(&controller, "fault")?;
    ensure_held(&pair, &vips6, false)?;
    let mark = pair.wire.mark();
    std::thread::sleep(WATCHED);
    ensure_terms(&controller, 1)?;
    ensure_alone(&pair, pair.theirs(), pair.ours(), mark)?;

    netns.ip(&format!("-6 addr add {own} dev eth0 nodad"))?;
    wait_both(&controller, "active")?;
    ensure_held(&pair, &vips6, true)?;
    let mark = pair.wire.mark();
    std::thread::sleep(WATCHED);
    ensure_terms(&controller, 2)?;
    ensure_alone(&pair, pair.ours(), pair.theirs(), mark)?;

    // And as a Backup: keepalived takes both, and is lost.
    keepalived.kill9()?;
    drop(controller);
    let mut keepalived = pair.dual_keepalived(100)?;
    let controller = pair.start(&Ours { vips6, ..pair.settings(50) })?;
    wait_both(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    keepalived.kill9()?;
    wait_both(&controller, "active")?;
    std::thread::sleep(WATCHED / 2);
    ensure_terms(&controller, 1)
}

/// This node has every VIP and the other none, or the other way round.
fn ensure_held(pair: &Pair, vips6: &[IpAddr], here: bool) -> Result<()> {
    for vip in std::iter::once(pair.vip()).chain(vips6.iter().copied()) {
        pair.wait_vip(pair.node(), vip, here)?;
        pair.wait_vip(pair.other(), vip, !here)?;
    }
    Ok(())
}

fn ensure_terms(controller: &Controller<'_>, terms: u64) -> Result<()> {
    let status = controller.status()?;
    for index in [0, 1] {
        let counted = status["vrrp"][index]["counters"]["master_transitions"].as_u64();
        ensure!(counted == Some(terms), "{counted:?} terms, not {terms}: {}", controller.log());
    }
    Ok(())
}

/// One speaks, the other is silent.
fn ensure_alone(pair: &Pair, speaker: IpAddr, silent: IpAddr, mark: usize) -> Result<()> {
    let heard = pair.wire.adverts(silent, mark);
    ensure!(heard.is_empty(), "{silent} advertises too: {heard:?}");
    let count = pair.wire.adverts(speaker, mark).len();
    let expected = usize::try_from(WATCHED.as_millis() / INTERVAL.as_millis())?;
    ensure!(count + 3 >= expected, "{speaker} advertised {count} times");
    Ok(())
}
