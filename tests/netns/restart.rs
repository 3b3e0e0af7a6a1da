//! Controllers come and go; connections stay.

use anyhow::{Result, ensure};
use lb_tests::command::Signal;
use lb_tests::eventually::eventually_is;

use super::scene::{PATIENCE, Scene, Settings};

/// How often each restart is repeated.
const TIMES: usize = 20;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn no_connection_is_lost_when_the_controller_is_killed_and_started_twenty_times() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    for _ in 0..TIMES {
        controller.kill9()?;
        traffic.goes_on()?;
        controller.start()?;
        traffic.goes_on()?;
    }
    traffic.ensure_nothing_lost("SIGKILL")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn no_connection_is_lost_at_twenty_handovers() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    for _ in 0..TIMES {
        ensure!(controller.stop(true)?.success());
        traffic.goes_on()?;
        controller.start()?;
        traffic.goes_on()?;
    }
    traffic.ensure_nothing_lost("handover")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn no_connection_is_lost_at_twenty_reloads_that_concern_another_service() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    for time in 0..TIMES {
        let other_weight = u16::try_from(1 + time)?;
        let settings = Settings { other_weight, ..Settings::default() };
        controller.write_config(&scene.yaml(&controller, &settings))?;
        controller.signal(Signal::SIGHUP)?;
        let weight = || Ok(controller.status()?["services"][1]["backends"][0]["weight"].clone());
        eventually_is("the new weight", PATIENCE, weight, |weight| *weight == other_weight)?;
        traffic.goes_on()?;
    }
    traffic.ensure_nothing_lost("SIGHUP")
}
