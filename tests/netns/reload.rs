//! Reloads: what they say, what they refuse, and who is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use serde_json::Value;

use super::scene::{PATIENCE, Scene, Settings};

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_dry_run_and_a_refused_reload_leave_everything_and_say_what_would_change() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    let before = settled(&controller)?;
    let good = scene.yaml(&controller, &Settings::default());

    controller.write_config(&good.replace("weight: 100", "weight: 7"))?;
    let said = controller.cli(&["reload", "--dry-run"])?;
    let line = "services[other].backends[cp1].weight: 100 -> 7";
    ensure!(said.trim() == line, "{said}");
    ensure!(settled(&controller)? == before, "a dry run changed something");

    let socket = controller.socket().display().to_string();
    let frozen = good
        .replace("weight: 100", "weight: 7")
        .replace("flows: 16384", "flows: 32768")
        .replace(&socket, "/run/elsewhere.sock");
    controller.write_config(&frozen)?;
    for command in [&["reload", "--dry-run"][..], &["reload"]] {
        let refused = controller.cli(command).expect_err("frozen keys were changed").to_string();
        ensure!(refused.contains("`limits` changed"), "{refused}");
        ensure!(refused.contains("`admin.socket` changed"), "{refused}");
    }
    let broken = good.replace("weight: 100", "weight: much");
    controller.write_config(&broken)?;
    let line = 1 + broken.lines().position(|line| line.contains("much")).context("no line")?;
    let place = format!("{}:{line}:", controller.config_file().display());
    let refused = controller.reload().expect_err("a broken file was taken").to_string();
    ensure!(refused.contains(&place) && refused.contains("weight"), "{refused}");
    ensure!(settled(&controller)? == before, "a refused reload changed something");
    traffic.goes_on()?;

    let events = events(&controller)?;
    let reloads: Vec<&Value> = events.iter().filter(|event| event["kind"] == "reload").collect();
    ensure!(reloads.len() == 2, "{reloads:?}");
    ensure!(reloads.iter().all(|event| event["applied"] == false && event["trigger"] == "command"));
    ensure!(reloads[1]["error"].as_str().is_some_and(|error| error.contains(&place)));
    traffic.ensure_nothing_lost("refused reloads")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_file_that_is_replaced_is_taken_by_itself_and_a_broken_one_is_said_once() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    let watched = |weight: u16| {
        let settings = Settings { other_weight: weight, ..Settings::default() };
        scene.yaml(&controller, &settings) + "  watch_config: true\n"
    };
    controller.write_config(&watched(100))?;
    controller.reload()?;
    let weight = || Ok(controller.status()?["services"][1]["backends"][0]["weight"].clone());
    // In place, and as editors do it.
    controller.write_config(&watched(5))?;
    eventually_is("the weight that was written", PATIENCE, weight, |weight| *weight == 5)?;
    let new = controller.config_file().with_extension("tmp");
    fs::write(&new, watched(6))?;
    fs::rename(&new, controller.config_file())?;
    eventually_is("the weight that was moved there", PATIENCE, weight, |weight| *weight == 6)?;

    controller.write_config("services: [")?;
    let log = || Ok(controller.log().matches("not reloaded").count());
    eventually_is("the refusal", PATIENCE, log, |count| *count == 1)?;
    controller.write_config("services: [")?;
    controller.write_config(&watched(9))?;
    eventually_is("the weight after the mistake", PATIENCE, weight, |weight| *weight == 9)?;
    ensure!(log()? == 1, "said {} times", log()?);
    let events = events(&controller)?;
    let by_file = events.iter().filter(|event| event["trigger"] == "file");
    let applied: Vec<bool> = by_file.filter_map(|event| event["applied"].as_bool()).collect();
    ensure!(applied == [true, true, false, true], "{applied:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_hook_is_told_everything_in_the_order_that_events_have_it() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.controller(&Settings::default())?;
    let (hook, told) = (scene.lab.directory().join("hook"), scene.lab.directory().join("told"));
    fs::write(&hook, format!("#!/bin/sh\nexec cat >> {}\n", told.display()))?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    let notify = format!("notify: [{{ exec: [{}] }}]\n", hook.display());
    let yaml = scene.yaml(&controller, &Settings::default()) + &notify;
    controller.write_config(&yaml)?;
    controller.start()?;
    scene.wait_all_up(&controller)?;
    for _ in 0..3 {
        controller.cli(&["backend", "drain", "api/cp1"])?;
        controller.cli(&["backend", "enable", "api/cp1"])?;
    }
    controller.write_config(&yaml.replace("weight: 100", "weight: 7"))?;
    controller.reload()?;
    let expected = events(&controller)?;
    let kinds: Vec<&str> = expected.iter().filter_map(|event| event["kind"].as_str()).collect();
    for kind in ["start", "vip", "datapath", "backend", "admin", "reload"] {
        ensure!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    let seen = || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Value>>>()
    };
    eventually_is("the hook to have it all", PATIENCE, seen, |seen| *seen == expected)?;

    // What the end is told by is told before the end.
    ensure!(controller.stop(false)?.success());
    let last = seen()?.last().cloned().context("nothing told")?;
    ensure!(last["kind"] == "stop" && last["handover"] == false, "{last}");
    Ok(())
}

/// What a reload could change, without what changes by itself.
fn settled(controller: &Controller<'_>) -> Result<Value> {
    let mut status = controller.status()?;
    let services = status["services"].as_array_mut().context("no services")?;
    for backend in services.iter_mut().filter_map(|it| it["backends"].as_array_mut()).flatten() {
        for key in ["connections", "requests", "replies", "next_hop"] {
            backend[key] = Value::Null;
        }
        for key in ["opened", "confirmed", "unanswered", "refused"] {
            backend[key] = Value::Null;
        }
    }
    Ok(serde_json::json!([status["services"], status["configuration"], status["vips"]]))
}

fn events(controller: &Controller<'_>) -> Result<Vec<Value>> {
    let text = controller.cli(&["events", "--json"])?;
    text.lines().map(|line| serde_json::from_str(line).context("an event")).collect()
}
