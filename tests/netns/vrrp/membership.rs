//! VRRP's group: a Backup that is no longer in it hears nobody, and would be a second Active.

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;

use super::Pair;
use crate::attach::replug;
use crate::scene::PATIENCE;

/// 224.0.0.18, as /proc/net/igmp has it.
const GROUP: &str = "120000E0";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backup_hears_again_when_its_link_was_down_and_when_it_is_another_one() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(200)?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    let mark = pair.wire.mark();

    pair.lab.fabric.ip("link set lb1 down")?;
    pair.wait_state(&controller, "fault")?;
    pair.lab.fabric.ip("link set lb1 up")?;
    ensure_hears(&pair, &controller)?;

    // The kernel forgets memberships with the interface.
    let _pass = replug(&pair.lab)?;
    ensure_hears(&pair, &controller)?;

    let ours = pair.wire.adverts(pair.ours(), mark);
    ensure!(ours.is_empty(), "it advertised: {ours:?}");
    ensure!(controller.status()?["vrrp"][0]["term"] == 0, "it was active");
    Ok(())
}

/// It takes keepalived's advertisements again, ten of them, as a Backup in the group.
fn ensure_hears(pair: &Pair, controller: &Controller<'_>) -> Result<()> {
    let count = || {
        let status = controller.status()?;
        status["vrrp"][0]["counters"]["advertisements_received"].as_u64().context("no counter")
    };
    let before = count()?;
    eventually_is("to hear keepalived", PATIENCE, count, |count| *count >= before + 10)?;
    pair.wait_state(controller, "backup")?;
    let groups = pair.node().host.netns.run("cat", ["/proc/thread-self/net/igmp"])?;
    ensure!(groups.contains(GROUP), "{groups}");
    Ok(())
}
