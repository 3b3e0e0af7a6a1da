//! A link that goes and comes five times a second.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{KEEPALIVED_LATE, Pair, has, latest};

const FLAPS: usize = 20;
const DOWN: Duration = Duration::from_millis(150);
/// Much shorter than what a Backup waits, also on a busy machine.
const UP: Duration = Duration::from_millis(50);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_flapping_link_moves_the_vip_once_and_makes_no_storm() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let begin = pair.wire.mark();
    pair.lab.fabric.ip("link set lb1 down")?;
    let down = pair.wire.mark();
    for _ in 0..FLAPS {
        std::thread::sleep(DOWN);
        pair.lab.fabric.ip("link set lb1 up")?;
        std::thread::sleep(UP);
        pair.lab.fabric.ip("link set lb1 down")?;
    }
    let flapped = pair.wire.mark();
    pair.wait_state(&controller, "fault")?;
    ensure!(has(pair.other(), pair.vip())?, "keepalived has no VIP");
    let said = pair.wire.said();
    let ours = |from: usize| {
        let said = said[from..flapped].iter();
        said.filter(|said| said.priority_of(pair.ours()).is_some()).count()
    };
    super::super::measured(&format!(
        "we advertised {} times before, {} while it flapped",
        ours(begin),
        ours(down)
    ));
    ensure!(ours(down) == 0, "we advertised while the link flapped");
    let mac = pair.mac(pair.node())?;
    let announced = said[down..flapped].iter().filter(
        |said| matches!(&said.what, lb_tests::wire::What::Garp { mac: from, .. } if *from == mac),
    );
    ensure!(announced.count() == 0, "we announced while the link flapped");
    // Keepalived took over, and nothing moved it.
    let theirs = pair.wire.adverts(pair.theirs(), down);
    let late = latest(&theirs);
    ensure!(late < KEEPALIVED_LATE, "keepalived was late by {late:?}");
    ensure!(theirs.iter().all(|(_, priority)| *priority == 100), "{theirs:?}");
    let counted = controller.status()?["vrrp"][0]["counters"]["master_transitions"].clone();
    ensure!(counted == 1, "{counted} terms");

    pair.lab.fabric.ip("link set lb1 up")?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    ensure!(controller.status()?["vrrp"][0]["term"] == 2);
    let lines = controller.log().lines().filter(|line| line.contains("vrrp api:")).count();
    super::super::measured(&format!("{lines} lines of {FLAPS} flaps"));
    ensure!(lines <= FLAPS * 2 + 12, "{}", controller.log());
    Ok(())
}
