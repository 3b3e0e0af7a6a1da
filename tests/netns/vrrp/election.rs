//! Who is Active, and how soon after the other is not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{INTERVAL, Pair, down_interval, ensure_between, skew};
use crate::scene::PATIENCE;

/// What a busy machine adds.
const LATE: Duration = Duration::from_millis(30);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_higher_keepalived_stays_active() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(200)?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    std::thread::sleep(Duration::from_secs(3));
    let said = pair.wire.said();
    let ours = said.iter().filter(|said| said.priority_of(pair.ours()).is_some()).count();
    let theirs = said.iter().filter(|said| said.priority_of(pair.theirs()).is_some()).count();
    ensure!(ours == 0 && theirs > 20, "we advertised {ours} times, keepalived {theirs}");
    ensure!(!super::has(pair.node(), pair.vip())?, "a backup has the VIP");
    let status = controller.status()?;
    let peer = &status["vrrp"][0]["peers"][0];
    ensure!(peer["priority"] == 200 && peer["checksum"] == "rfc5798", "{status}");
    ensure!(status["vips"][0]["owner"] == false && status["vips"][0]["lease_ms"] == 0, "{status}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn keepalived_yields_to_our_first_advertisement() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let mark = pair.wire.mark();
    let controller = pair.start(&pair.settings(200))?;
    let first = pair.advertised(mark)?;
    let garp = pair.wire.wait("an announcement", mark, PATIENCE, |said| {
        said.at >= first.at && said.announces(pair.vip())
    })?;
    ensure_between("announced", garp.at - first.at, Duration::ZERO, LATE)?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.node(), pair.vip(), true)?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let after = pair.wire.adverts(pair.theirs(), mark);
    let more: Vec<_> = after.iter().filter(|(at, _)| *at > first.at).collect();
    // One may have been on its way.
    ensure!(more.len() <= 1, "keepalived went on: {more:?}");
    ensure!(controller.status()?["vips"][0]["owner"] == true);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_killed_keepalived_is_followed_after_the_down_interval() -> Result<()> {
    let pair = Pair::build()?;
    let mut keepalived = pair.active_keepalived(200)?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    let mark = pair.wire.mark();
    keepalived.kill9()?;
    let first = pair.advertised(mark)?;
    let theirs = pair.wire.adverts(pair.theirs(), 0);
    let (last, _) = theirs.last().context("keepalived never advertised")?;
    let expected = down_interval(100, INTERVAL);
    let least = expected - Duration::from_millis(1);
    ensure_between("took over", first.at - *last, least, expected + LATE)?;
    let garp =
        pair.wire.wait("an announcement", mark, PATIENCE, |said| said.announces(pair.vip()))?;
    ensure_between("announced", garp.at - first.at, Duration::ZERO, LATE)?;
    pair.wait_vip(pair.node(), pair.vip(), true)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_keepalived_that_gives_up_is_followed_after_the_skew_time() -> Result<()> {
    let pair = Pair::build()?;
    let mut keepalived = pair.active_keepalived(200)?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    let mark = pair.wire.mark();
    keepalived.stop()?;
    let first = pair.advertised(mark)?;
    let theirs = pair.wire.adverts(pair.theirs(), mark);
    let gave_up = theirs.iter().find(|(_, priority)| *priority == 0);
    let (gave_up, _) = gave_up.context("keepalived did not give up")?;
    let expected = skew(100, INTERVAL);
    let (least, most) = (expected - Duration::from_millis(1), expected + LATE);
    ensure_between("took over", first.at - *gave_up, least, most)
}
