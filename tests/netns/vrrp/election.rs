//! Who is Active, and how soon after the other is not.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived;
use lb_tests::wire::{Said, What};

use super::{INTERVAL, Ours, Pair, down_interval, ensure_between, skew, together};
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

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn the_interval_of_an_active_keepalived_is_learned() -> Result<()> {
    let pair = Pair::build()?;
    let theirs = keepalived::Settings { interval: 0.3, ..pair.theirs_with(200) };
    let mut keepalived = pair.keepalived(&theirs)?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "backup")?;
    let advertises = |said: &Said| said.priority_of(pair.theirs()).is_some();
    pair.wire.wait("keepalived", 0, PATIENCE, advertises)?;
    pair.wait_peer(&controller)?;
    let mark = pair.wire.mark();
    keepalived.kill9()?;
    let first = pair.advertised(mark)?;
    let adverts = pair.wire.adverts(pair.theirs(), 0);
    let (last, _) = adverts.last().context("keepalived never advertised")?;
    let expected = down_interval(100, Duration::from_millis(300));
    let least = expected - Duration::from_millis(1);
    ensure_between("took over", first.at - *last, least, expected + LATE)?;
    pair.wire.wait("ten more", mark, PATIENCE, |said| {
        said.at > first.at + INTERVAL * 10 && said.priority_of(pair.ours()).is_some()
    })?;
    let ours = pair.wire.adverts(pair.ours(), mark);
    let mut gaps: Vec<Duration> = ours.windows(2).map(|two| two[1].0 - two[0].0).collect();
    gaps.sort_unstable();
    let median = *gaps.get(gaps.len() / 2).context("no advertisements")?;
    let near = Duration::from_millis(5);
    ensure_between("our own interval", median, INTERVAL - near, INTERVAL + near)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_two_actives_with_one_priority_the_higher_address_stays() -> Result<()> {
    let pair = Pair::build()?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "active")?;
    // Keepalived's address, .3, is higher than ours, .1.
    pair.lab.fabric.ip("link set lb1 nomaster")?;
    let _keepalived = pair.active_keepalived(100)?;
    ensure!(controller.status()?["vrrp"][0]["state"] == "active");
    pair.lab.fabric.ip("link set lb1 master br-front")?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_vip(pair.node(), pair.vip(), false)?;
    ensure!(super::has(pair.other(), pair.vip())?, "nobody has the VIP");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_two_actives_we_stay_and_announce_again_if_we_rank_higher() -> Result<()> {
    let pair = Pair::build()?;
    let controller = pair.start(&pair.settings(150))?;
    pair.wait_state(&controller, "active")?;
    // Keepalived hears nobody, and is heard.
    pair.lab.fabric.ip("link set lb2 type bridge_slave mcast_flood off")?;
    let _keepalived = pair.active_keepalived(100)?;
    let kinds = || Ok(controller.status()?["vrrp"][0]["alarms"].to_string());
    eventually_is("an alarm", PATIENCE, kinds, |kinds| kinds.contains("two_actives"))?;
    // Until the last announcement of the first second.
    std::thread::sleep(Duration::from_secs(1));
    let mark = pair.wire.mark();
    pair.lab.fabric.ip("link set lb2 type bridge_slave mcast_flood on")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let mac = pair.mac(pair.node())?;
    pair.wire.wait("our announcement", mark, PATIENCE, |said| {
        matches!(&said.what, What::Garp { vip, mac: from }
            if IpAddr::V4(*vip) == pair.vip() && *from == mac)
    })?;
    ensure!(controller.status()?["vrrp"][0]["state"] == "active");
    let logged = |log: &String| log.contains("gave way");
    eventually_is("the log", PATIENCE, || Ok(controller.log()), logged).map(drop)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_preempt_delay_is_waited_for_and_ends_with_its_reason() -> Result<()> {
    together(&[("waited for", &preempts_after_its_delay), ("cancelled", &cancelled_by_a_priority)])
}

fn preempts_after_its_delay() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let mark = pair.wire.mark();
    let delayed = Ours { more: "    preempt_delay: 2s", ..pair.settings(200) };
    let controller = pair.start(&delayed)?;
    pair.wait_state(&controller, "backup")?;
    let (seen, _) = *pair.wire.adverts(pair.theirs(), mark).last().context("no keepalived")?;
    let first = pair.advertised(mark)?;
    let (least, most) = (Duration::from_millis(1500), Duration::from_millis(2600));
    ensure_between("preempted", first.at - seen, least, most)
}

fn cancelled_by_a_priority() -> Result<()> {
    let pair = Pair::build()?;
    let mut keepalived = pair.active_keepalived(100)?;
    let mark = pair.wire.mark();
    let delayed = Ours { more: "    preempt_delay: 2s", ..pair.settings(200) };
    let controller = pair.start(&delayed)?;
    pair.wait_state(&controller, "backup")?;
    std::thread::sleep(Duration::from_secs(1));
    keepalived.reload(&pair.theirs_with(250))?;
    let theirs = pair.theirs();
    let raised = |said: &Said| said.priority_of(theirs) == Some(250);
    pair.wire.wait("the higher priority", mark, PATIENCE, raised)?;
    std::thread::sleep(Duration::from_millis(2500));
    // Back below ours: the delay starts again.
    let mark_lower = pair.wire.mark();
    keepalived.reload(&pair.theirs_with(100))?;
    let lowered = |said: &Said| said.priority_of(theirs) == Some(100);
    let lower = pair.wire.wait("the lower priority", mark_lower, PATIENCE, lowered)?;
    let ours = pair.wire.adverts(pair.ours(), mark);
    ensure!(ours.is_empty(), "we took over: {ours:?}");
    let first = pair.advertised(mark)?;
    let (least, most) = (Duration::from_millis(1990), Duration::from_millis(2600));
    ensure_between("preempted", first.at - lower.at, least, most)
}
