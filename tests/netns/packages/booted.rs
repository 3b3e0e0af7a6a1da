//! The package under a systemd: what the unit allows and takes away is so by systemd's doing.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::eventually::eventually_is;
use serde_json::Value;

use super::systemd::{Booted, CONFIG, SOCKET};
use crate::scene::{PATIENCE, Scene, Settings, Traces};

/// `WatchdogSec` of the unit, and a start.
const HANGS: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn under_systemd_it_is_ready_reloads_starts_again_and_leaves_nothing() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let before = Traces::of(scene.node())?;
    let booted = Booted::start(scene.node(), scene.lab.directory())?;
    booted.install("0.0.1")?;
    ensure!(booted.property("ActiveState")? == "inactive", "it runs without a configuration");
    configure(&booted, &scene, &Settings::default(), "")?;

    // This returns when the controller has said that it is ready, or has failed.
    booted.sh("systemctl start fairlead")?;
    ensure!(booted.state()? == ["active", "running"], "{:?}", booted.state()?);
    booted.wait_all_up()?;
    let traffic = scene.traffic()?;
    traffic.goes_on()?;
    let fed = || booted.property("WatchdogTimestampMonotonic");
    let at_first = fed()?;
    eventually_is("the watchdog to be fed", PATIENCE, fed, |at| *at != at_first)?;

    let pid = booted.pid()?;
    configure(&booted, &scene, &Settings { other_weight: 7, ..Settings::default() }, "")?;
    booted.sh("systemctl reload fairlead")?;
    let weight = &booted.status()?["services"][1]["backends"][0]["weight"];
    ensure!(*weight == 7 && booted.pid()? == pid, "{weight}");

    booted.install("0.0.2")?;
    ensure!(booted.state()? == ["active", "running"] && booted.pid()? != pid);
    traffic.goes_on()?;
    booted.sh("fairlead stop --handover")?;
    booted.wait_state("inactive")?;
    ensure!(booted.property("Result")? == "success", "a handover is a failure");
    booted.sh("systemctl start fairlead")?;
    traffic.goes_on()?;
    for (signal, patience) in [("KILL", PATIENCE), ("STOP", HANGS)] {
        let so_far = starts(&booted)?;
        booted.sh(&format!("systemctl kill --kill-who=main --signal {signal} fairlead"))?;
        eventually_is("another start", patience, || starts(&booted), |now| *now > so_far)?;
        booted.wait_state("active")?;
        traffic.goes_on()?;
    }
    traffic.ensure_nothing_lost("under systemd")?;

    let pid = booted.pid()?;
    booted.sh("systemctl restart fairlead")?;
    ensure!(booted.state()? == ["active", "running"] && booted.pid()? != pid);
    scene.wait_served(PATIENCE)?;
    booted.sh("systemctl stop fairlead")?;
    ensure!(booted.state()? == ["inactive", "dead"] && booted.property("Result")? == "success");
    assert_eq!(Traces::of(scene.node())?, before);
    let left = booted.run("find", &["/run/fairlead", "-type", "f", "-o", "-type", "s"])?;
    ensure!(left.is_empty(), "left: {left}");
    Ok(())
}

/// The packaged unit says why not; with the lines of the README, and as `manifest` writes it, it may.
#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn under_systemd_the_unit_enters_pods_where_it_is_told_to() -> Result<()> {
    let scene = Scene::build()?;
    let booted = Booted::start(scene.node(), scene.lab.directory())?;
    booted.install("0.0.1")?;
    let keys = "local_clients: { enabled: true, cgroup: /sys/fs/cgroup, end_in_pods: true }\n";
    configure(&booted, &scene, &Settings::default(), keys)?;
    let pods = || -> Result<Value> {
        booted.sh("systemctl daemon-reload")?;
        booted.sh("systemctl restart fairlead")?;
        let said = &booted.status()?["local_clients"];
        ensure!(said["state"] == "on", "{said}");
        Ok(said["pods"].clone())
    };
    let said = pods()?;
    let reason = said["reason"].as_str().unwrap_or_default();
    ensure!(said["state"] == "failed" && reason.contains("CAP_SYS_ADMIN"), "{said}");

    let more = "/etc/systemd/system/fairlead.service.d";
    booted.write(&format!("{more}/override.conf"), &lines_of_the_readme()?)?;
    let said = pods()?;
    ensure!(said["state"] == "on", "{said}");

    fs::remove_dir_all(booted.overlay.path(more))?;
    booted.sh("fairlead manifest systemd > /etc/systemd/system/fairlead.service")?;
    let said = pods()?;
    ensure!(said["state"] == "on", "{said}");

    // A pod that is started later: its namespace is mounted where the controller sees it.
    booted.run("ip", &["netns", "add", "later"])?;
    let mounts = booted.run("cat", &[&format!("/proc/{}/mountinfo", booted.pid()?)])?;
    let is_there =
        mounts.lines().any(|it| it.contains(" /run/netns/later ") && it.contains("net:["));
    ensure!(is_there, "the namespace is not mounted in the unit: {mounts}");
    Ok(())
}

/// What is to be put beside the packaged unit: the block that begins with a section.
fn lines_of_the_readme() -> Result<String> {
    const README: &str = include_str!("../../../README.md");
    let blocks = README.split("```").map(|block| block.lines().map(str::trim).collect::<Vec<_>>());
    let mut ours = blocks.filter(|lines| lines.get(1) == Some(&"[Service]"));
    Ok(ours.next().context("the README has no lines for the unit")?.join("\n"))
}

/// Writes the configuration, with the paths that the unit allows.
fn configure(booted: &Booted, scene: &Scene, settings: &Settings, keys: &str) -> Result<()> {
    let controller = scene.controller(settings)?;
    let yaml = scene.yaml(&controller, settings);
    let yaml = yaml.replace(&controller.socket().display().to_string(), SOCKET);
    booted.write(CONFIG, &(yaml + keys))
}

/// How often systemd has started it again by itself.
fn starts(booted: &Booted) -> Result<u32> {
    booted.property("NRestarts")?.parse().context("a number of starts")
}
