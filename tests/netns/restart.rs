//! Controllers come and go; connections stay. And what a controller leaves when it goes for good.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::loaded_maps;
use aya::programs::loaded_programs;
use lb_tests::command::{Signal, output};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::eventually_is;
use lb_tests::topology::LbNode;
use serde_json::Value;

use super::scene::{
    PATIENCE, STEADY, Scene, Settings, Traces, binary, run_on, second_layout_binary, xdp,
};

/// How often each restart is repeated.
const TIMES: usize = 20;
/// How often the layout changes, there and back.
const MIGRATIONS: usize = 5;

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

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_broken_file_is_refused_with_its_place_and_the_running_configuration_stays() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    let running = controller.status()?["configuration"].clone();
    let good = scene.yaml(&controller, &Settings::default());
    let broken = good.replace("port: 7443", "port: 0").replace("weight: 100", "weight: 7");
    controller.write_config(&broken)?;
    let line = 1 + broken.lines().position(|line| line.contains("port: 0")).context("no line")?;
    let place = format!("{}:{line}:11: services[1].port", controller.config_file().display());

    let refused = controller.reload().expect_err("a broken file was taken").to_string();
    ensure!(refused.contains(&place), "no {place} in {refused}");
    controller.signal(Signal::SIGHUP)?;
    let log = || Ok(controller.log());
    let logged = format!("not reloaded: {place}");
    eventually_is("the refusal in the log", PATIENCE, log, |log| log.contains(&logged))?;

    traffic.goes_on()?;
    let status = controller.status()?;
    ensure!(status["configuration"] == running, "{status}");
    ensure!(status["services"][1]["port"] == 7443, "{status}");
    ensure!(status["services"][1]["backends"][0]["weight"] == 100, "{status}");

    // A limit that only a new start can change is refused as a whole too.
    let settings = Settings { flows: 32_768, other_weight: 7, ..Settings::default() };
    controller.write_config(&scene.yaml(&controller, &settings))?;
    let refused = controller.reload().expect_err("other limits were taken").to_string();
    ensure!(refused.contains("stop --handover"), "{refused}");
    ensure!(controller.status()?["services"][1]["backends"][0]["weight"] == 100);
    controller.write_config(&good)?;
    controller.reload()?;
    traffic.ensure_nothing_lost("broken file")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn sigterm_leaves_nothing_on_the_machine() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let before = Traces::of(scene.node())?;
    let mut controller = scene.balanced()?;
    scene.traffic()?.ensure_nothing_lost("before SIGTERM")?;
    let objects = Objects::of(scene.node())?;
    ensure!(Traces::of(scene.node())? != before, "the traces show no controller");

    controller.sigterm()?;
    let status = controller.wait_exit(PATIENCE)?;
    ensure!(status.success(), "{status}");
    assert_eq!(Traces::of(scene.node())?, before);
    ensure!(!controller.socket().exists(), "the admin socket is left");
    objects.wait_gone()
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn cleanup_removes_what_a_killed_controller_left_and_nothing_under_a_running_one() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let before = Traces::of(scene.node())?;
    let mut controller = scene.balanced()?;
    let cleanup = || cleanup(scene.node());

    let traffic = scene.traffic()?;
    let refused = cleanup()?;
    let words = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(words.contains("another controller runs"), "{words}");
    traffic.goes_on()?;
    traffic.ensure_nothing_lost("a refused cleanup")?;

    let objects = Objects::of(scene.node())?;
    controller.kill9()?;
    let done = cleanup()?;
    let words = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "{done:?}");
    let vip = format!("VIP {} on eth0", scene.lab.vip());
    ensure!(words.contains(&vip) && words.contains("XDP program on eth0"), "{words}");
    assert_eq!(Traces::of(scene.node())?, before);
    objects.wait_gone()?;

    let again = cleanup()?;
    ensure!(again.status.success(), "{again:?}");
    ensure!(String::from_utf8_lossy(&again.stdout).contains("nothing was left"), "{again:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_go_on_through_an_upgrade_to_another_layout_and_back() -> Result<()> {
    let scene = Scene::build()?;
    let mut first = scene.balanced()?;
    let mut second = Controller::new(scene.node(), &second_layout_binary(), scene.lab.directory());
    let traffic = scene.traffic()?;
    for _ in 0..MIGRATIONS {
        let maps = Objects::of(scene.node())?;
        ensure!(first.stop(true)?.success());
        traffic.goes_on()?;
        second.start()?;
        traffic.goes_on()?;
        maps.wait_gone()?;
        ensure!(second.stop(true)?.success());
        traffic.goes_on()?;
        first.start()?;
        traffic.goes_on()?;
    }
    // Both write to the same file.
    let migrated = first.log().matches("into maps of the new layout").count();
    ensure!(migrated == 2 * MIGRATIONS, "migrated {migrated} times");
    // One of those that were opening at each of the changes.
    traffic.ensure_lost_at_most(2 * MIGRATIONS, "another layout")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_go_on_when_the_flow_limit_changes_at_a_handover() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    for flows in [32_768, 8_192] {
        ensure!(controller.stop(true)?.success());
        let settings = Settings { flows, ..Settings::default() };
        controller.write_config(&scene.yaml(&controller, &settings))?;
        controller.start()?;
        traffic.goes_on()?;
        ensure!(controller.status()?["flows"]["capacity"]["established"] == flows);
    }
    traffic.ensure_lost_at_most(2, "another limit")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn a_successor_knows_what_its_predecessor_knew() -> Result<()> {
    let mut scene = Scene::build()?;
    drop(scene.servers.pop());
    let mut controller = scene.controller(&Settings::default())?;
    controller.start()?;
    controller.wait_backend("cp3", "down", PATIENCE)?;
    controller.wait_backend("cp1", "up", PATIENCE)?;
    controller.wait_backend("cp2", "up", PATIENCE)?;
    let traffic = scene.traffic()?;
    let of_steady = |status: &Value| {
        let counts = connections(status);
        // Each new connection is established for a moment, and the count is of the last pass.
        counts["cp3"] == 0 && counts.values().sum::<u64>() >= STEADY as u64
    };
    eventually_is("the connections", PATIENCE, || controller.status(), of_steady)?;
    let expected = [("cp1", "up"), ("cp2", "up"), ("cp3", "down")].map(own);

    for kill in [true, false] {
        if kill {
            controller.kill9()?;
        } else {
            ensure!(controller.stop(true)?.success());
        }
        controller.start()?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(1) {
            let status = controller.status()?;
            ensure!(states(&status) == BTreeMap::from(expected.clone()), "{status}");
        }
        // By the backends' ids in the flows, so these are the same.
        eventually_is("the same connections", PATIENCE, || controller.status(), of_steady)?;
    }
    traffic.goes_on()?;
    traffic.ensure_nothing_lost("with a backend down")?;

    let host = scene.lab.backend("cp3")?;
    let addresses = host.listens(lb_tests::topology::API_PORT);
    let _server = echo::start(&host.netns, "cp3", &addresses[..])?;
    controller.wait_backend("cp3", "up", PATIENCE)
}

fn own((name, state): (&str, &str)) -> (String, String) {
    (name.to_owned(), state.to_owned())
}

/// The first service's backends, as its status says.
fn backends(status: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let backends = status["services"][0]["backends"].as_array().into_iter().flatten();
    backends.map(|backend| (backend["name"].as_str().unwrap_or_default(), backend))
}

fn states(status: &Value) -> BTreeMap<String, String> {
    let state = |backend: &Value| backend["state"].as_str().unwrap_or_default().to_owned();
    backends(status).map(|(name, backend)| (name.to_owned(), state(backend))).collect()
}

fn connections(status: &Value) -> BTreeMap<&str, u64> {
    let count = |backend: &Value| backend["connections"].as_u64().unwrap_or_default();
    backends(status).map(|(name, backend)| (name, count(backend))).collect()
}

fn cleanup(node: &LbNode) -> Result<Output> {
    output(
        run_on(node, &[binary().to_str().context("a path in UTF-8")?, "cleanup"])
            .env("RUST_LOG", "info"),
    )
}

/// What the kernel holds for a controller's datapath.
struct Objects {
    program: u32,
    maps: Vec<u32>,
}

impl Objects {
    fn of(node: &LbNode) -> Result<Self> {
        let (id, _) = xdp(node)?.context("no XDP program")?;
        let mut programs = loaded_programs().filter_map(|program| program.ok());
        let program = programs.find(|program| program.id() == id).context("it is not loaded")?;
        let maps = program.map_ids()?.context("it says nothing of its maps")?;
        ensure!(!maps.is_empty(), "a program without maps");
        Ok(Self { program: id, maps })
    }

    /// The kernel frees what nobody holds any more a little later.
    fn wait_gone(&self) -> Result<()> {
        let left = || {
            let programs = loaded_programs().filter_map(|program| Some(program.ok()?.id()));
            let maps = loaded_maps().filter_map(|map| Some(map.ok()?.id()));
            let programs = programs.filter(|id| *id == self.program).map(|id| ("program", id));
            let maps = maps.filter(|id| self.maps.contains(id)).map(|id| ("map", id));
            Ok(programs.chain(maps).collect::<Vec<_>>())
        };
        eventually_is("the kernel to free everything", PATIENCE, left, Vec::is_empty).map(drop)
    }
}
