//! What leads them outlives its controller, and goes with a stop.

use std::fs;

use lb_tests::command::output;

use super::*;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn clients_are_led_without_the_controller_and_a_successor_adopts_them() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let mut controller = nodes.start(1)?;
    let mut client = nodes.on(1, || Client::connect(nodes.vip(Family::V4)))?;
    for kill in [true, false] {
        if kill {
            controller.kill9()?;
        } else {
            ensure!(controller.stop(true)?.success());
        }
        nodes.who_answers(1, Family::V6, 10)?;
        let before = hooks(&nodes.cgroups[1])?;
        ensure!(before.len() == 4, "{before:?}");
        controller.start()?;
        let after = hooks(&nodes.cgroups[1])?;
        ensure!(after.len() == 4 && after.is_disjoint(&before), "{before:?} {after:?}");
        nodes.who_answers(1, Family::V4, 10)?;
        // What is kept with a socket is known to every program after the one that kept it.
        ensure!(client.stream.get_ref().peer_addr()? == nodes.vip(Family::V4));
        ensure!(client.ask("still there\n")? == "still there");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_stop_and_a_cleanup_leave_nothing_on_the_cgroup() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let nothing = hooks(&nodes.cgroups[1])?;
    ensure!(nothing.is_empty(), "{nothing:?}");
    for kill in [false, true] {
        let mut controller = nodes.start(1)?;
        nodes.who_answers(1, Family::V4, 1)?;
        ensure!(hooks(&nodes.cgroups[1])?.len() == 4);
        if kill {
            controller.kill9()?;
            let fairlead = binary();
            let words = [fairlead.to_str().context("a path in UTF-8")?, "cleanup"];
            let done = output(&mut run_on(nodes.node(1), &words))?;
            let said = String::from_utf8_lossy(&done.stdout);
            ensure!(done.status.success(), "{done:?}");
            ensure!(said.contains("removed programs for local clients"), "{said}");
        } else {
            ensure!(controller.stop(false)?.success());
        }
        ensure!(hooks(&nodes.cgroups[1])?.is_empty());
        let left = nodes.controller(1, "{}")?.leftovers(&nodes.lab)?;
        ensure!(left.is_empty(), "{left:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_reload_moves_the_programs_and_takes_them_off() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let controller = nodes.start(1)?;
    let other = Cgroup::unique("other")?;
    let there = format!("{{ enabled: true, cgroup: {} }}", other.shown().display());
    for (local_clients, here, elsewhere) in [(&*there, 0, 4), ("{ enabled: false }", 0, 0)] {
        controller.write_config(&nodes.yaml(1, &controller, local_clients))?;
        controller.reload()?;
        ensure!(hooks(&nodes.cgroups[1])?.len() == here);
        ensure!(hooks(&other)?.len() == elsewhere);
    }
    ensure!(local_clients(&controller)?["state"] == "off");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_that_is_down_is_not_chosen() -> Result<()> {
    let mut nodes = Nodes::build(2)?;
    drop(nodes.servers.remove("cp1"));
    let mut controller = nodes.controller(1, &nodes.own_processes(1))?;
    controller.start()?;
    for (state, name) in [("up", "cp2"), ("up", "cp3"), ("down", "cp1")] {
        controller.wait_backend(name, state, PATIENCE)?;
    }
    let others = BTreeSet::from(["cp2".to_owned(), "cp3".to_owned()]);
    let answered = nodes.who_answers(1, Family::V4, MANY)?;
    ensure!(answered == others, "{answered:?}");
    // A cgroup that is gone takes its programs along, and the controller goes on.
    let gone = Cgroup::unique("gone")?;
    let there = format!("{{ enabled: true, cgroup: {} }}", gone.shown().display());
    controller.write_config(&nodes.yaml(1, &controller, &there))?;
    controller.reload()?;
    fs::remove_dir(gone.path())?;
    let failed = |said: &serde_json::Value| said["state"] == "failed";
    eventually_is("a word about it", PATIENCE, || local_clients(&controller), failed)?;
    ensure!(controller.status()?["services"][0]["backends"][0]["state"] == "down");
    Ok(())
}
