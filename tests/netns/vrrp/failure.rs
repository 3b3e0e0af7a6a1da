//! What is killed, cut off or taken away.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::Signal;
use lb_tests::eventually::{Seen, eventually};

use super::{INTERVAL, KEEPALIVED_LATE, Pair, down_interval, ensure_between, has, together};
use crate::scene::{PATIENCE, binary, second_layout_binary};

const LATE: Duration = Duration::from_millis(40);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_killed_controller_serves_its_vip_no_longer_than_its_lease() -> Result<()> {
    let pair = Pair::build()?;
    let mut controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    controller.wait_backend("cp1", "up", PATIENCE)?;
    eventually("an answer through the VIP", PATIENCE, || {
        Ok(if connects(&pair)? { Seen::Done(()) } else { Seen::Pending("none".to_owned()) })
    })?;
    // Whatever the node says about itself: frames to the VIP still come.
    let mac = pair.mac(pair.node())?.map(|byte| format!("{byte:02x}")).join(":");
    let vip = pair.vip();
    let words = format!("neigh replace {vip} lladdr {mac} dev eth0 nud permanent");
    pair.lab.client.netns.ip(&words)?;
    ensure!(connects(&pair)?, "not served while it is active");
    controller.kill9()?;
    std::thread::sleep(INTERVAL * 3);
    ensure!(!connects(&pair)?, "served after the lease");
    ensure!(has(pair.node(), vip)?, "SIGKILL removed the VIP");

    // A successor that finds a keepalived in its place removes what was left.
    let _keepalived = pair.active_keepalived(100)?;
    controller.write_config(&pair.yaml(&controller, &pair.settings(50)))?;
    controller.start()?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_vip(pair.node(), vip, false)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn keepalived_takes_over_from_a_killed_controller_and_from_one_that_hangs() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let mut controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let mark = pair.wire.mark();
    controller.signal(Signal::SIGSTOP)?;
    let took_over = took_over(&pair, mark)?;
    let expected = down_interval(100, INTERVAL);
    let least = expected - Duration::from_millis(2);
    ensure_between("keepalived took over", took_over, least, expected + KEEPALIVED_LATE)?;
    controller.signal(Signal::SIGCONT)?;
    // It has the higher priority, and says so at once.
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    pair.wait_state(&controller, "active")?;
    let mark = pair.wire.mark();
    controller.kill9()?;
    let took_over = self::took_over(&pair, mark)?;
    ensure_between("keepalived took over", took_over, least, expected + KEEPALIVED_LATE)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_handover_keeps_the_vip_and_goes_on_with_the_term() -> Result<()> {
    let same = binary();
    let other = second_layout_binary();
    together(&[
        ("the same binary", &|| hands_over_to(&same)),
        ("one of another layout", &|| hands_over_to(&other)),
    ])
}

fn hands_over_to(successor: &Path) -> Result<()> {
    let pair = Pair::build()?;
    let mut theirs = pair.theirs_with(100);
    theirs.interval = 1.0;
    let _keepalived = pair.keepalived(&theirs)?;
    let mut ours = pair.settings(200);
    ours.interval = Duration::from_secs(1);
    let mut controller = pair.start(&ours)?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    controller.set_binary(successor);
    let term = controller.status()?["vrrp"][0]["term"].clone();
    for kill in [false, true] {
        let mark = pair.wire.mark();
        if kill {
            controller.kill9()?;
        } else {
            ensure!(controller.stop(true)?.success());
        }
        ensure!(has(pair.node(), pair.vip())?, "the VIP is gone");
        controller.start()?;
        pair.wait_state(&controller, "active")?;
        ensure!(has(pair.node(), pair.vip())?, "the VIP is gone");
        let taken = pair.wire.adverts(pair.theirs(), mark);
        ensure!(taken.is_empty(), "keepalived took over: {taken:?}");
        std::thread::sleep(ours.interval);
        let given = pair.wire.adverts(pair.ours(), mark);
        ensure!(given.iter().all(|(_, priority)| *priority == 200), "{given:?}");
        let gap = given.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or_default();
        let status = controller.status()?;
        ensure!(status["vrrp"][0]["reason"].to_string().contains("predecessor"), "{status}");
        super::super::measured(&format!(
            "term {term} became {}, {gap:?} between advertisements",
            status["vrrp"][0]["term"]
        ));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn a_vip_that_is_removed_is_back_within_100_ms_until_it_is_too_much() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.node(), pair.vip(), true)?;
    let vip = pair.vip();
    let remove = format!("addr del {vip}/32 dev eth0");
    // Until the last announcement of its first second.
    std::thread::sleep(Duration::from_millis(1500));
    let mark = pair.wire.mark();
    let removed = SystemTime::now().duration_since(UNIX_EPOCH)?;
    pair.node().host.netns.ip(&remove)?;
    // It is announced once it is back.
    let back = pair.wire.wait("an announcement", mark, PATIENCE, |said| said.announces(vip))?;
    let took = back.at.saturating_sub(removed);
    ensure_between("back", took, Duration::ZERO, Duration::from_millis(100))?;
    pair.wait_vip(pair.node(), vip, true)?;
    ensure!(controller.status()?["vrrp"][0]["state"] == "active");

    let mark = pair.wire.mark();
    for _ in 0..4 {
        pair.node().host.netns.ip(&remove)?;
        eventually("the VIP or the end", PATIENCE, || {
            let state = controller.status()?["vrrp"][0]["state"].clone();
            let done = has(pair.node(), vip)? || state == "fault";
            Ok(if done { Seen::Done(()) } else { Seen::Pending(state.to_string()) })
        })?;
    }
    pair.wait_state(&controller, "fault")?;
    let status = controller.status()?;
    ensure!(status["vrrp"][0]["reason"] == "the VIPs keep vanishing", "{status}");
    let ours = pair.ours();
    pair.wire.wait("priority 0", mark, PATIENCE, |said| said.priority_of(ours) == Some(0))?;
    pair.wait_vip(pair.other(), vip, true)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_link_that_is_down_is_a_fault_and_ends_with_it() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let mark = pair.wire.mark();
    pair.lab.fabric.ip("link set lb1 down")?;
    pair.wait_state(&controller, "fault")?;
    let took_over = took_over(&pair, mark)?;
    let expected = down_interval(100, INTERVAL);
    let (least, most) = (expected - LATE, expected + KEEPALIVED_LATE);
    ensure_between("keepalived took over", took_over, least, most)?;
    pair.wait_vip(pair.node(), pair.vip(), false)?;
    pair.lab.fabric.ip("link set lb1 up")?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let terms = controller.status()?["vrrp"][0]["term"].as_u64().context("no term")?;
    ensure!(terms == 2, "{terms} terms");
    Ok(())
}

/// From our last advertisement to keepalived's first one after `mark`.
fn took_over(pair: &Pair, mark: usize) -> Result<Duration> {
    let theirs = pair.theirs();
    let first =
        pair.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(theirs).is_some())?;
    let ours = pair.wire.adverts(pair.ours(), 0);
    let last = ours.iter().rev().find(|(at, _)| *at < first.at).context("we never advertised")?;
    Ok(first.at - last.0)
}

/// Whether a connection through the VIP is established.
fn connects(pair: &Pair) -> Result<bool> {
    let target = pair.target();
    pair.lab
        .client
        .netns
        .on_thread(|| Ok(TcpStream::connect_timeout(&target, Duration::from_millis(500)).is_ok()))
}
