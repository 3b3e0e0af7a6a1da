//! Another configuration for an Active instance.

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::command::{Process, Signal};
use lb_tests::eventually::eventually_is;

use super::{INTERVAL, Ours, Pair, has, latest};
use crate::scene::PATIENCE;

const LATE: Duration = Duration::from_millis(45);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_reload_costs_no_advertisement_and_touches_no_address() -> Result<()> {
    let pair = Pair::build()?;
    let mut controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.node(), pair.vip(), true)?;
    let since = status_of(&controller, "since")?;
    // Until the last announcement of its first second, and a while longer.
    std::thread::sleep(Duration::from_millis(1500));
    let begin = pair.wire.mark();
    let (events, _monitor) = address_events(&pair)?;
    let yaml = pair.yaml(&controller, &pair.settings(200));

    // Something else.
    controller.write_config(&yaml.replace("timeout: 1s", "timeout: 900ms"))?;
    controller.signal(Signal::SIGHUP)?;
    let reloaded = |log: &String| log.matches("reloaded: ").count() == 1;
    eventually_is("a reload", PATIENCE, || Ok(controller.log()), reloaded)?;

    // The priority.
    controller.write_config(&pair.yaml(&controller, &pair.settings(180)))?;
    controller.reload()?;
    let ours = pair.ours();
    let lower = |priority| priority == Some(180);
    pair.wire.wait("the new priority", begin, PATIENCE, |said| lower(said.priority_of(ours)))?;

    let announced =
        pair.wire.said().iter().skip(begin).filter(|said| said.announces(pair.vip())).count();
    ensure!(announced == 0, "the VIP was announced {announced} times");

    // What is wrong changes nothing.
    controller.write_config(&yaml.replace("priority: 200", "priority: 300"))?;
    let refused = controller.reload().expect_err("a broken file was taken").to_string();
    ensure!(refused.contains("vrrp[0].priority"), "{refused}");
    let touched = std::fs::read_to_string(&events)?;
    // Their life is extended all the time.
    ensure!(!touched.contains("Deleted "), "addresses changed: {touched}");

    // Another VIP.
    let second: IpAddr = "10.77.0.101".parse()?;
    let both = Ours { vips: vec![pair.vip(), second], ..pair.settings(180) };
    controller.write_config(&pair.yaml(&controller, &both))?;
    controller.reload()?;
    pair.wire.wait("its announcement", begin, PATIENCE, |said| said.announces(second))?;
    pair.wait_vip(pair.node(), second, true)?;
    let vips = || Ok(controller.status()?["vips"].to_string());
    let owned = |vips: &String| vips.contains(&second.to_string()) && !vips.contains("false");
    eventually_is("the VIP in the status", PATIENCE, vips, owned)?;

    // And it goes again.
    controller.write_config(&pair.yaml(&controller, &pair.settings(180)))?;
    controller.reload()?;
    pair.wait_vip(pair.node(), second, false)?;
    ensure!(has(pair.node(), pair.vip())?, "the first VIP is gone too");

    std::thread::sleep(INTERVAL * 5);
    let touched = std::fs::read_to_string(&events)?;
    let mut deleted = touched.lines().filter(|line| line.starts_with("Deleted "));
    let others = deleted.all(|line| line.contains(" 10.77.0.101/"));
    ensure!(others && touched.contains("Deleted "), "addresses changed: {touched}");
    ensure!(status_of(&controller, "since")? == since, "its state changed");
    let adverts = pair.wire.adverts(ours, begin);
    ensure!(adverts.iter().all(|(_, priority)| *priority >= 180), "{adverts:?}");
    let late = latest(&adverts);
    super::super::measured(&format!("of {} advertisements the latest {late:?}", adverts.len()));
    ensure!(late <= LATE, "late by {late:?}: {adverts:?}");
    Ok(())
}

/// Where what the kernel says about addresses of our node is written.
fn address_events(pair: &Pair) -> Result<(PathBuf, Process)> {
    let path = pair.lab.directory().join("addresses");
    let mut command = pair.node().host.netns.command("ip");
    command.args(["monitor", "address"]).stdout(File::create(&path)?);
    Ok((path, Process::spawn(&mut command)?))
}

fn status_of(controller: &lb_tests::controller::Controller<'_>, key: &str) -> Result<String> {
    Ok(controller.status()?["vrrp"][0][key].to_string())
}
