//! What operators say of backends lasts until they undo it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::Signal;
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::plain::EchoClient;
use serde_json::Value;

use super::scene::{PATIENCE, Scene, Settings};

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_drained_backend_stays_drained_over_reloads_and_every_kind_of_restart() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    controller.cli(&["backend", "drain", "api/cp1"])?;
    controller.cli(&["backend", "weight", "api/cp2", "7"])?;
    let said = overrides(&controller)?;
    ensure!(said[0]["admin"]["value"] == "draining", "{said}");
    ensure!(said[0]["admin"]["by"]["uid"] == 0 && said[1]["weight"]["value"] == 7, "{said}");

    let settings = Settings { other_weight: 50, ..Settings::default() };
    controller.write_config(&scene.yaml(&controller, &settings))?;
    controller.reload()?;
    still_so(&scene, &controller, &said).context("after a reload")?;
    controller.kill9()?;
    controller.start()?;
    still_so(&scene, &controller, &said).context("after SIGKILL")?;
    ensure!(controller.stop(true)?.success());
    controller.start()?;
    still_so(&scene, &controller, &said).context("after a handover")?;
    ensure!(controller.stop(false)?.success());
    controller.start()?;
    still_so(&scene, &controller, &said).context("after a stop and a start")?;

    controller.cli(&["backend", "enable", "api/cp1"])?;
    controller.cli(&["backend", "weight", "api/cp2", "--reset"])?;
    ensure!(overrides(&controller)? == Value::Array(Vec::new()));
    scene.wait_all_up(&controller)?;
    controller.kill9()?;
    controller.start()?;
    ensure!(overrides(&controller)? == Value::Array(Vec::new()), "they came back");
    scene.wait_all_up(&controller)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_was_said_of_a_removed_backend_is_named_and_a_damaged_file_stops_nobody() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    controller.cli(&["backend", "disable", "other/cp1"])?;
    let all = scene.yaml(&controller, &Settings::default());
    let renamed = all.replace("name: other", "name: another");
    controller.write_config(&renamed)?;
    controller.reload()?;
    let said = overrides(&controller)?;
    ensure!(said[0]["configured"] == false && said[0]["service"] == "other", "{said}");
    let text = controller.cli(&["status"])?;
    ensure!(text.contains("no such backend: fairlead backend reset other/cp1"), "{text}");
    controller.write_config(&all)?;
    controller.reload()?;
    let states = controller.status()?;
    ensure!(states["services"][1]["backends"][0]["state"] == "disabled", "{states}");
    controller.write_config(&renamed)?;
    controller.reload()?;
    controller.cli(&["backend", "reset", "other/cp1"])?;
    ensure!(overrides(&controller)? == Value::Array(Vec::new()));
    let refused = controller.cli(&["backend", "drain", "other/cp1"]);
    ensure!(refused.is_err(), "a backend that nobody knows was drained");

    controller.cli(&["backend", "drain", "api/cp1"])?;
    let status = controller.status()?;
    let file = status["state_file"]["path"].as_str().context("no state file")?.to_owned();
    ensure!(fs::metadata(&file).is_ok(), "{file} is not there");
    controller.signal(Signal::SIGKILL)?;
    controller.wait_exit(PATIENCE)?;
    fs::write(&file, "{\"version\":1,\"overr")?;
    controller.start()?;
    ensure!(controller.log().contains(&format!("{file} is damaged")), "{}", controller.log());
    ensure!(fs::metadata(format!("{file}.damaged")).is_ok(), "it is not kept");
    let alarm = controller.cli(&["events", "--json"])?;
    ensure!(alarm.contains("\"kind\":\"alarm\""), "{alarm}");
    scene.wait_all_up(&controller)
}

/// From the first answer on: same overrides, same authors and times, and nobody new at the drained one.
fn still_so(scene: &Scene, controller: &Controller<'_>, said: &Value) -> Result<()> {
    ensure!(overrides(controller)? == *said, "{}", overrides(controller)?);
    ensure!(controller.backend_state("cp1")? == "draining");
    let weight =
        || Ok(controller.status()?["services"][0]["backends"][1]["effective_weight"].clone());
    eventually_is("the weight in use", PATIENCE, weight, |weight| *weight == 7)?;
    controller.wait_backend("cp3", "up", PATIENCE)?;
    let target = scene.target();
    let servers = scene.lab.client.netns.on_thread(|| {
        let connect = |_| {
            let client = EchoClient::connect(target, None)?;
            let server = client.server.clone();
            client.close()?;
            Ok(server)
        };
        (0..30).map(connect).collect::<Result<Vec<_>>>()
    })?;
    ensure!(!servers.iter().any(|server| server == "cp1"), "{servers:?}");
    Ok(())
}

fn overrides(controller: &Controller<'_>) -> Result<Value> {
    Ok(controller.status()?["overrides"].clone())
}
