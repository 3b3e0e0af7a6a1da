//! What is tracked: the priority that is advertised, and who has the VIP with it.

use std::fs;

use anyhow::{Result, ensure};
use lb_tests::controller::Controller;

use super::{Ours, Pair};
use crate::scene::PATIENCE;

const KEEPALIVED: u8 = 100;

/// Of `FILE` and `REVERSED` the paths are put in.
const TRACK: &str = "    track:
      interfaces: [{ name: uplink, weight: -30 }, { name: spare, weight: 15, reverse: true }]
      files: [{ path: FILE, weight: 2 }, { path: REVERSED, reverse: true }]";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn tracked_files_and_interfaces_move_the_priority_and_with_it_the_vip() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(KEEPALIVED)?;
    let netns = &pair.node().host.netns;
    for name in ["uplink", "spare"] {
        netns.ip(&format!("link add {name} type veth peer name far-{name}"))?;
        netns.ip(&format!("link set {name} up"))?;
        netns.ip(&format!("link set far-{name} up"))?;
    }
    let [file, reversed] = ["file", "reversed"].map(|name| pair.lab.directory().join(name));
    let ours = Ours { more: TRACK, ..pair.settings(120) };
    let mut controller = pair.controller(&ours)?;
    let yaml = pair.yaml(&controller, &ours).replace("FILE", &file.display().to_string());
    controller.write_config(&yaml.replace("REVERSED", &reversed.display().to_string()))?;
    let mark = pair.wire.mark();
    controller.start()?;
    ensure_priority(&pair, &controller, mark, 120)?;

    let change = |expected: u8, change: &dyn Fn() -> Result<()>| {
        let mark = pair.wire.mark();
        change()?;
        ensure_priority(&pair, &controller, mark, expected)
    };
    let carrier =
        |name: &str, state: &str| netns.ip(&format!("link set far-{name} {state}")).map(drop);
    // Twice what the file says.
    change(110, &|| Ok(fs::write(&file, "-5\n")?))?;
    // The reverse: what adds to the priority is that it has no carrier.
    change(125, &|| carrier("spare", "down"))?;
    change(95, &|| carrier("uplink", "down"))?;
    change(125, &|| carrier("uplink", "up"))?;
    change(85, &|| Ok(fs::write(&reversed, "40\n")?))?;
    // None counts as 0.
    change(125, &|| Ok(fs::remove_file(&reversed)?))?;
    // No more than there is.
    change(254, &|| Ok(fs::write(&file, "254\n")?))?;
    let terms = controller.status()?["vrrp"][0]["term"].clone();
    ensure!(terms == 3, "{terms} terms:\n{}", controller.log());
    Ok(())
}

/// We advertise this priority after `mark`, and the VIP is where that leads.
fn ensure_priority(
    pair: &Pair,
    controller: &Controller<'_>,
    mark: usize,
    priority: u8,
) -> Result<()> {
    let ours = pair.ours();
    pair.wire.wait(&format!("priority {priority}"), mark, PATIENCE, |said| {
        said.priority_of(ours) == Some(priority)
    })?;
    let here = priority > KEEPALIVED;
    pair.wait_state(controller, if here { "active" } else { "backup" })?;
    pair.wait_vip(pair.node(), pair.vip(), here)?;
    pair.wait_vip(pair.other(), pair.vip(), !here)
}
