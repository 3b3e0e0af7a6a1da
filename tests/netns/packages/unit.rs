//! The systemd unit, without systemd: what the unit takes away is taken away by other means.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use lb_tests::command::{output, run};

use super::capabilities;
use crate::scene::{PATIENCE, Scene, Settings, Traces, binary};

/// Of `systemd-analyze security`, times ten.
const EXPOSURE: &str = "40";

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn the_unit_is_valid_and_exposes_little() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.controller(&Settings::default())?;
    let words = ["manifest", "systemd", "--config"];
    let unit = run(Command::new(binary()).args(words).arg(controller.config_file()))?;
    ensure!(unit.contains(&format!("ExecStart={} run", binary().display())), "{unit}");
    let file = scene.lab.directory().join("fairlead.service");
    fs::write(&file, unit)?;

    let verified = output(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file))?;
    let words = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.success() && words.is_empty(), "{words}");
    let words = ["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE];
    let found = run(Command::new("systemd-analyze").args(words).arg(&file))?;
    ensure!(found.contains("Overall exposure level"), "{found}");
    Ok(())
}

/// In every way in which one controller follows another, into other maps too: nothing needs CAP_SYS_ADMIN.
#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn with_the_capabilities_of_the_unit_nothing_is_lost_and_nothing_left() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let before = Traces::of(scene.node())?;
    let mut controller = scene.controller(&Settings::default())?;
    let bounding = format!("--bounding-set=-all,+{}", capabilities()?.join(",+"));
    controller.set_wrapper(&["setpriv", &bounding, "--inh-caps=-all", "--no-new-privs"]);
    controller.start()?;
    scene.wait_all_up(&controller)?;
    let traffic = scene.traffic()?;
    for _ in 0..2 {
        ensure!(controller.stop(true)?.success());
        traffic.goes_on()?;
        controller.start()?;
        traffic.goes_on()?;
        controller.kill9()?;
        traffic.goes_on()?;
        controller.start()?;
        traffic.goes_on()?;
    }
    ensure!(controller.stop(true)?.success());
    let settings = Settings { flows: 32_768, ..Settings::default() };
    controller.write_config(&scene.yaml(&controller, &settings))?;
    controller.start()?;
    // One of those that were opening when the maps were changed.
    traffic.ensure_lost_at_most(1, "with the unit's capabilities")?;
    let log = controller.log();
    ensure!(log.contains("into maps of the new layout"), "nothing was migrated: {log}");
    ensure!(!log.contains("no pinned table"), "{log}");

    controller.sigterm()?;
    ensure!(controller.wait_exit(PATIENCE)?.success());
    assert_eq!(Traces::of(scene.node())?, before);
    ensure!(!controller.socket().exists(), "the admin socket is left");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn the_maintainer_scripts_have_no_faults() -> Result<()> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../lb-userspace/packaging/deb");
    let scripts = ["postinst", "prerm", "postrm"].map(|name| directory.join(name));
    run(Command::new("shellcheck").args(scripts)).map(drop)
}
