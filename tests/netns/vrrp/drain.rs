//! Giving the VIP up on purpose.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::keepalived::{self, Keepalived};

use super::{INTERVAL, KEEPALIVED_LATE, Pair, down_interval, ensure_between, skew};
use crate::scene::PATIENCE;

const LATE: Duration = Duration::from_millis(40);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_drain_leaves_no_gap_and_is_taken_back() -> Result<()> {
    let pair = Pair::build()?;
    let (_keepalived, controller) = active_before_a_keepalived(&pair, &pair.theirs_with(100))?;
    let mark = pair.wire.mark();
    let said = controller.cli(&["drain"])?;
    ensure!(said.contains("given up"), "{said}");
    ensure!(controller.status()?["vrrp"][0]["state"] == "backup");
    let adverts = pair.wire.adverts(pair.ours(), mark);
    let priorities: Vec<u8> = adverts.iter().map(|(_, priority)| *priority).collect();
    ensure!(priorities.contains(&1) && !priorities.contains(&0), "{priorities:?}");
    // Its first advertisement is not later than our next one would have been.
    let first = pair.wire.adverts(pair.theirs(), mark);
    let (first, _) = first.first().context("keepalived did not take over")?;
    let before: Vec<_> = adverts.iter().filter(|(at, _)| at <= first).collect();
    let (last, _) = before.last().context("we did not advertise")?;
    ensure_between("without an advertisement", *first - *last, Duration::ZERO, INTERVAL + LATE)?;
    pair.wait_vip(pair.node(), pair.vip(), false)?;
    pair.wait_vip(pair.other(), pair.vip(), true)?;

    controller.cli(&["drain", "--resume"])?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn sigterm_gives_the_vip_up_without_a_gap_and_leaves_nothing() -> Result<()> {
    let pair = Pair::build()?;
    let (_keepalived, mut controller) = active_before_a_keepalived(&pair, &pair.theirs_with(100))?;
    let mark = pair.wire.mark();
    controller.sigterm()?;
    let status = controller.wait_exit(PATIENCE)?;
    ensure!(status.success(), "{status}");
    let adverts = pair.wire.adverts(pair.ours(), mark);
    ensure!(adverts.iter().all(|(_, priority)| *priority != 0), "{adverts:?}");
    let theirs = pair.wire.adverts(pair.theirs(), mark);
    let (first, _) = theirs.first().context("keepalived did not take over")?;
    let before: Vec<_> = adverts.iter().filter(|(at, _)| at <= first).collect();
    let (last, _) = before.last().context("we did not advertise")?;
    ensure_between("without an advertisement", *first - *last, Duration::ZERO, INTERVAL + LATE)?;
    let left = controller.leftovers(&pair.lab)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn sigterm_gives_up_with_priority_0_if_nobody_preempts() -> Result<()> {
    let pair = Pair::build()?;
    let theirs = keepalived::Settings { nopreempt: true, ..pair.theirs_with(100) };
    let (_keepalived, mut controller) = active_before_a_keepalived(&pair, &theirs)?;
    let mark = pair.wire.mark();
    controller.sigterm()?;
    let ours = pair.ours();
    let gave_up =
        pair.wire.wait("priority 0", mark, PATIENCE, |said| said.priority_of(ours) == Some(0))?;
    let theirs = pair.theirs();
    let first =
        pair.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(theirs).is_some())?;
    let expected = skew(100, INTERVAL);
    let least = expected - Duration::from_millis(1);
    ensure_between(
        "keepalived took over",
        first.at - gave_up.at,
        least,
        expected + KEEPALIVED_LATE,
    )?;
    ensure!(controller.wait_exit(PATIENCE)?.success());
    let (begun, _) = *pair.wire.adverts(ours, mark).first().context("no advertisement")?;
    let longest = down_interval(1, INTERVAL) + Duration::from_secs(1) + INTERVAL + LATE;
    ensure_between("waited", gave_up.at - begun, Duration::from_secs(1), longest)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn sigterm_of_a_node_that_is_alone_is_quick() -> Result<()> {
    let pair = Pair::build()?;
    let mut controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "active")?;
    let mark = pair.wire.mark();
    controller.sigterm()?;
    ensure!(controller.wait_exit(Duration::from_secs(2))?.success());
    let ours = pair.ours();
    pair.wire.wait("priority 0", mark, PATIENCE, |said| said.priority_of(ours) == Some(0))?;
    let left = controller.leftovers(&pair.lab)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Our controller, Active, and a keepalived that it has heard before.
fn active_before_a_keepalived<'pair>(
    pair: &'pair Pair,
    theirs: &keepalived::Settings,
) -> Result<(Keepalived, Controller<'pair>)> {
    let mark = pair.wire.mark();
    let keepalived = pair.keepalived(theirs)?;
    let source = pair.theirs();
    pair.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(source).is_some())?;
    let controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.node(), pair.vip(), true)?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    Ok((keepalived, controller))
}
