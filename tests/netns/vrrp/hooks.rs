//! Programs that are told of elections: in order, with their terms.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::scrape::wait_sum;
use serde_json::Value;

use super::Pair;
use crate::scene::PATIENCE;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_hook_is_told_of_each_term_and_of_a_conflict_that_was_won() -> Result<()> {
    let pair = Pair::build()?;
    let ours = pair.settings(150);
    let mut controller = pair.controller(&ours)?;
    let told = pair.lab.directory().join("told");
    let notify = hook(&pair, &told)?;
    controller.write_config(&(pair.yaml(&controller, &ours) + &notify))?;
    controller.start()?;
    pair.wait_state(&controller, "active")?;

    // Keepalived hears nobody, and is heard; then it hears, and gives way.
    pair.lab.fabric.ip("link set lb2 type bridge_slave mcast_flood off")?;
    let _keepalived = pair.active_keepalived(100)?;
    wait_told(&told, "reaffirmed", |events| {
        events.iter().any(|event| event["reaffirmed"] == true)
    })?;
    pair.lab.fabric.ip("link set lb2 type bridge_slave mcast_flood on")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;

    pair.lab.fabric.ip("link set lb1 down")?;
    pair.wait_state(&controller, "fault")?;
    pair.lab.fabric.ip("link set lb1 up")?;
    pair.wait_state(&controller, "active")?;
    let seen = wait_told(&told, "the second term", |events| {
        events.iter().any(|event| event["to"] == "active" && event["term"] == 2)
    })?;

    let mut steps: Vec<_> = seen.iter().map(step).collect::<Result<_>>()?;
    // Both may advertise for a while.
    steps.dedup_by(|later, earlier| later == earlier && later.3);
    let expected = [
        ("init", "backup", 0, false),
        ("backup", "active", 1, false),
        ("active", "active", 1, true),
        ("active", "fault", 1, false),
        ("fault", "backup", 1, false),
        ("backup", "active", 2, false),
    ];
    ensure!(steps == expected, "{steps:?}");
    ensure!(of_the_log(&controller)?.starts_with(&seen), "{seen:?}");
    let told = |result: &str, accept: fn(f64) -> bool| {
        wait_sum(&controller, "fairlead_notifications_total", &[result], accept)
    };
    told("result=\"delivered\"", |count| count >= 6.0)?;
    wait_sum(&controller, "fairlead_notifications_waiting", &[], |count| count == 0.0)?;
    Ok(())
}

/// Whose program does not end holds up what is behind, for itself and for nobody else.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_waits_for_a_program_is_counted_and_so_is_what_has_no_room_and_what_fails() -> Result<()> {
    const ROOM: usize = 2;
    let pair = Pair::build()?;
    let ours = pair.settings(150);
    let mut controller = pair.controller(&ours)?;
    let go = pair.lab.directory().join("go");
    let waits = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let (waits, fails) = (script(&pair, "waits", &waits)?, script(&pair, "fails", "exit 1")?);
    let notify = format!(
        "notify:
  - {{ events: [vrrp], exec: [{}], queue: {ROOM}, timeout: 60s }}
  - {{ events: [vrrp], exec: [{}] }}
",
        waits.display(),
        fails.display(),
    );
    controller.write_config(&(pair.yaml(&controller, &ours) + &notify))?;
    controller.start()?;
    pair.wait_state(&controller, "active")?;
    let waiting = |target: &str, wanted: usize| {
        let labels = [&*format!("number=\"{target}\"")];
        let wanted = wanted as f64;
        wait_sum(&controller, "fairlead_notifications_waiting", &labels, |sum| sum == wanted)
    };
    let told = |target: &str, result: &str, wanted: usize| {
        let labels = [&*format!("number=\"{target}\""), &*format!("result=\"{result}\"")];
        let wanted = wanted as f64;
        wait_sum(&controller, "fairlead_notifications_total", &labels, |sum| sum == wanted)
    };
    // Backup and active: it is at the first, and the second waits.
    waiting("0", 1)?;
    pair.lab.fabric.ip("link set lb1 down")?;
    pair.wait_state(&controller, "fault")?;
    waiting("0", ROOM)?;
    pair.lab.fabric.ip("link set lb1 up")?;
    pair.wait_state(&controller, "active")?;
    // Two more, of which none has room but in place of an older one.
    told("0", "dropped", 2)?;
    waiting("0", ROOM)?;
    told("0", "delivered", 0)?;
    told("1", "failed", 5)?;
    waiting("1", 0)?;

    fs::write(&go, "")?;
    told("0", "delivered", 1 + ROOM)?;
    waiting("0", 0)?;
    told("0", "failed", 0)?;
    told("1", "delivered", 0).map(drop)
}

/// A program that takes its time, and appends what it is told of VRRP; how it is configured.
fn hook(pair: &Pair, told: &Path) -> Result<String> {
    let words =
        format!("[ \"$FAIRLEAD_EVENT\" = vrrp ] && sleep 0.2 && exec cat >> {}", told.display());
    let path = script(pair, "hook", &words)?;
    Ok(format!("notify: [{{ events: [vrrp], exec: [{}] }}]\n", path.display()))
}

/// A program of the shell.
fn script(pair: &Pair, name: &str, words: &str) -> Result<PathBuf> {
    let path = pair.lab.directory().join(name);
    fs::write(&path, format!("#!/bin/sh\n{words}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What the program was told, once it is `wanted`.
fn wait_told(told: &Path, what: &str, wanted: impl Fn(&Vec<Value>) -> bool) -> Result<Vec<Value>> {
    let seen = || {
        let text = fs::read_to_string(told).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    };
    eventually_is(what, PATIENCE, seen, wanted)
}

/// From where to where, in which term, and whether it was reaffirmed.
fn step(event: &Value) -> Result<(&str, &str, u64, bool)> {
    let from = event["from"].as_str().context("no `from`")?;
    let to = event["to"].as_str().context("no `to`")?;
    let term = event["term"].as_u64().context("no `term`")?;
    Ok((from, to, term, event["reaffirmed"] == true))
}

/// The events of VRRP, as `fairlead events` has them.
fn of_the_log(controller: &Controller<'_>) -> Result<Vec<Value>> {
    let text = controller.cli(&["events", "--json"])?;
    let events = text.lines().map(|line| serde_json::from_str(line).context("an event"));
    let of_vrrp = |event: &Result<Value>| !event.as_ref().is_ok_and(|it| it["kind"] != "vrrp");
    events.filter(of_vrrp).collect()
}
