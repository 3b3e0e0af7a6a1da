//! A node that comes back to a link that passes nothing yet must not take the silence for an absent peer.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::keepalived::Keepalived;

use super::{Ours, Pair, together};

/// Of the interface, with the whole node or without.
const DOWN: Duration = Duration::from_secs(1);
/// Ten times what a Backup waits.
const LOST: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_node_that_comes_back_does_not_take_over_while_keepalived_advertises() -> Result<()> {
    together(&[("its link came back", &link_back), ("it was started anew", &started_anew)])
}

fn link_back() -> Result<()> {
    let (pair, _keepalived) = behind_keepalived()?;
    let controller = pair.start(&never_preempts(&pair))?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    let mark = pair.wire.mark();
    // Carrier, address, and frames that go nowhere: a switch port that is still learning.
    pair.lab.fabric.ip("link set lb1 down nomaster")?;
    pair.wait_state(&controller, "fault")?;
    std::thread::sleep(DOWN);
    pair.lab.fabric.ip("link set lb1 up")?;
    pair.wait_state(&controller, "backup")?;
    std::thread::sleep(LOST);
    ensure!(controller.status()?["vrrp"][0]["state"] == "backup", "{}", controller.log());
    pair.lab.fabric.ip("link set lb1 master br-front")?;
    pair.wait_peer(&controller)?;
    std::thread::sleep(WATCHED);
    ensure_never_active(&pair, &controller.status()?, mark)
}

fn started_anew() -> Result<()> {
    let (pair, _keepalived) = behind_keepalived()?;
    let mark = pair.wire.mark();
    pair.lab.fabric.ip("link set lb1 nomaster")?;
    let controller = pair.start(&never_preempts(&pair))?;
    pair.wait_state(&controller, "backup")?;
    std::thread::sleep(LOST);
    ensure!(controller.status()?["vrrp"][0]["state"] == "backup", "{}", controller.log());
    pair.lab.fabric.ip("link set lb1 master br-front")?;
    pair.wait_peer(&controller)?;
    std::thread::sleep(WATCHED);
    ensure_never_active(&pair, &controller.status()?, mark)
}

fn behind_keepalived() -> Result<(Pair, Keepalived)> {
    let pair = Pair::build()?;
    let keepalived = pair.active_keepalived(100)?;
    Ok((pair, keepalived))
}

fn never_preempts(pair: &Pair) -> Ours {
    Ours { more: "    preempt: false", ..pair.settings(200) }
}

fn ensure_never_active(pair: &Pair, status: &serde_json::Value, mark: usize) -> Result<()> {
    ensure!(status["vrrp"][0]["state"] == "backup", "{status}");
    ensure!(status["vrrp"][0]["counters"]["master_transitions"] == 0, "{status}");
    let ours: IpAddr = pair.ours();
    ensure!(pair.wire.adverts(ours, mark).is_empty(), "we advertised");
    ensure!(super::has(pair.other(), pair.vip())?, "keepalived gave way");
    Ok(())
}
