//! An elected VIP's address has a life, which a controller extends: one that is dead for good, or hangs, leaves
//! no address behind, so that its node finds the VIP where it is.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::Signal;
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::topology::LbNode;

use super::{Ours, Pair, wait_both};

/// `restart_grace` of 3 s, `linger` of 2 s, and ten to spare.
const LIFE: Duration = Duration::from_secs(15);
/// The kernel looks when it comes to it.
const LATE: Duration = Duration::from_secs(3);
/// It is extended every 5 s, by a thread that looks every second, on a busy machine.
const LEAST: u64 = 7;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn addresses_outlive_their_life_under_a_controller_and_under_no_dead_one() -> Result<()> {
    let pair = Pair::build()?;
    let mut controller = pair.start(&Ours { vips6: pair.vips6(), ..pair.settings(200) })?;
    wait_there(&pair, &controller)?;
    watch_them_stay(&pair)?;

    controller.signal(Signal::SIGSTOP)?;
    wait_gone(&pair).context("it hangs")?;
    // Nobody took over, so they are still its own.
    controller.signal(Signal::SIGCONT)?;
    wait_there(&pair, &controller)?;

    ensure!(controller.stop(true)?.success());
    for vip in vips(&pair) {
        ensure!(
            left(pair.node(), vip)?.is_some_and(|left| left >= LEAST),
            "none is left for {vip}"
        );
    }
    controller.start()?;
    wait_there(&pair, &controller)?;
    controller.kill9()?;
    wait_gone(&pair).context("it is dead")?;

    controller.start()?;
    wait_there(&pair, &controller)?;
    ensure!(controller.stop(false)?.success());
    ensure!(vips(&pair).iter().all(|vip| left(pair.node(), *vip).is_ok_and(|it| it.is_none())));
    Ok(())
}

fn vips(pair: &Pair) -> [std::net::IpAddr; 2] {
    Family::ALL.map(|family| pair.lab.vip_of(family))
}

fn wait_there(pair: &Pair, controller: &Controller<'_>) -> Result<()> {
    wait_both(controller, "active")?;
    vips(pair).iter().try_for_each(|vip| pair.wait_vip(pair.node(), *vip, true))
}

fn wait_gone(pair: &Pair) -> Result<()> {
    let seen = || vips(pair).iter().map(|vip| left(pair.node(), *vip)).collect::<Result<Vec<_>>>();
    let none = |seen: &Vec<Option<u64>>| seen.iter().all(Option::is_none);
    eventually_is("the addresses to go", LIFE + LATE, seen, none).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn watch_them_stay(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < LIFE + LATE {
        for vip in vips(pair) {
            let left = left(pair.node(), vip)?.with_context(|| format!("{vip} is gone"))?;
            ensure!((LEAST..=LIFE.as_secs()).contains(&left), "{left} s are left for {vip}");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

/// For how many seconds the kernel keeps an address; `None`: it has none.
fn left(node: &LbNode, vip: std::net::IpAddr) -> Result<Option<u64>> {
    let addresses = node.host.netns.ip("-o addr show dev eth0")?;
    let Some(line) = addresses.lines().find(|line| line.contains(&format!(" {vip}/"))) else {
        return Ok(None);
    };
    let valid = line.split_once("valid_lft ").with_context(|| line.to_owned())?.1;
    let seconds = valid.split_once("sec").with_context(|| line.to_owned())?.0;
    Ok(Some(seconds.parse().with_context(|| line.to_owned())?))
}
