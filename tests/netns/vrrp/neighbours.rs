//! Peers that are configured otherwise: other VIPs in part, or another cluster's.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived;

use super::{INTERVAL, KEEPALIVED_LATE, Ours, Pair, has, latest, together};
use crate::scene::PATIENCE;

/// How long nothing may change.
const WATCHED: Duration = Duration::from_secs(3);
const LATE: Duration = Duration::from_millis(80);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn other_vips_are_said_and_nobody_fights_over_a_vrid() -> Result<()> {
    together(&[
        ("one VIP more than keepalived", &one_vip_more),
        ("another cluster is there first", &another_cluster_first),
        ("another cluster comes", &another_cluster_comes),
    ])
}

/// Keepalived 2.2.7 drops what we say, and we hear it: two are Active, which we say. It puts its own
/// advertisements off at each one that it drops, so only one that is due sooner than ours is heard.
fn one_vip_more() -> Result<()> {
    let pair = Pair::build()?;
    let often = INTERVAL.as_secs_f64() / 2.0;
    let _keepalived =
        pair.keepalived(&keepalived::Settings { interval: often, ..pair.theirs_with(100) })?;
    pair.wait_vip(pair.other(), pair.vip(), true)?;
    let vips: Vec<IpAddr> = vec![pair.vip(), "10.77.0.101".parse()?];
    let controller = pair.start(&Ours { vips, ..pair.settings(200) })?;
    pair.wait_state(&controller, "active")?;
    wait_alarm(&controller, "two_actives")?;
    wait_alarm(&controller, "address_list")?;
    let mark = pair.wire.mark();
    std::thread::sleep(WATCHED);
    ensure!(has(pair.other(), pair.vip())?, "keepalived gave way");
    ensure!(!pair.wire.adverts(pair.theirs(), mark).is_empty(), "keepalived is silent");
    ensure!(controller.status()?["vrrp"][0]["term"] == 1);
    let log = controller.log();
    let count = |what: &str| log.matches(what).count();
    // Once a second, for as long as it lasts.
    let most = usize::try_from(WATCHED.as_secs())? + 4;
    for what in ["are not ours", "is active too"] {
        ensure!((1..=most).contains(&count(what)), "{} times {what}:\n{log}", count(what));
    }
    Ok(())
}

/// It holds the VRID: we wait, and say why.
fn another_cluster_first() -> Result<()> {
    let pair = Pair::build()?;
    let theirs = other_cluster(&pair, 100)?;
    let _keepalived = pair.keepalived(&theirs)?;
    pair.wait_vip(pair.other(), theirs.vips[0], true)?;
    let mark = pair.wire.mark();
    let controller = pair.start(&pair.settings(200))?;
    wait_alarm(&controller, "foreign_vrid")?;
    std::thread::sleep(WATCHED);
    let ours = pair.wire.adverts(pair.ours(), mark);
    ensure!(ours.is_empty(), "we fight: {ours:?}");
    ensure!(controller.status()?["vrrp"][0]["state"] == "backup");
    ensure!(!has(pair.node(), pair.vip())?, "a backup has the VIP");
    ensure_steady(&pair, pair.theirs(), mark, KEEPALIVED_LATE)?;
    ensure!(controller.log().contains("choose another `vrid`"), "{}", controller.log());
    Ok(())
}

/// We hold the VRID: it does not move us, whatever its priority.
fn another_cluster_comes() -> Result<()> {
    let pair = Pair::build()?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "active")?;
    let mark = pair.wire.mark();
    let _keepalived = pair.keepalived(&other_cluster(&pair, 200)?)?;
    wait_alarm(&controller, "foreign_vrid")?;
    std::thread::sleep(WATCHED);
    let status = controller.status()?;
    ensure!(status["vrrp"][0]["state"] == "active" && status["vrrp"][0]["term"] == 1, "{status}");
    ensure!(has(pair.node(), pair.vip())?, "the VIP is gone");
    ensure_steady(&pair, pair.ours(), mark, LATE)
}

/// A keepalived with our VRID and a VIP of its own.
fn other_cluster(pair: &Pair, priority: u8) -> Result<keepalived::Settings> {
    let vips = vec!["10.77.0.200".parse()?];
    Ok(keepalived::Settings { vips, ..pair.theirs_with(priority) })
}

/// Somebody advertises every interval, and no more often.
fn ensure_steady(pair: &Pair, who: IpAddr, mark: usize, most_late: Duration) -> Result<()> {
    let adverts = pair.wire.adverts(who, mark);
    let (first, last) = adverts.first().zip(adverts.last()).context("no advertisement")?;
    let (late, took) = (latest(&adverts), last.0 - first.0);
    let count = adverts.len();
    super::super::measured(&format!("{who}: {count} advertisements in {took:?}, late by {late:?}"));
    ensure!(late < most_late, "late by {late:?}: {adverts:?}");
    // One more if the first one was late.
    let most = took.as_millis() / INTERVAL.as_millis() + 2;
    ensure!(count as u128 <= most, "{count} advertisements in {took:?}");
    ensure!(adverts.iter().all(|(_, priority)| *priority > 0), "{who} gave up");
    Ok(())
}

fn wait_alarm(controller: &Controller<'_>, kind: &str) -> Result<()> {
    let alarms = || Ok(controller.status()?["vrrp"][0]["alarms"].to_string());
    eventually_is(kind, PATIENCE, alarms, |alarms| alarms.contains(kind)).map(drop)
}
