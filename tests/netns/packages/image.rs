//! The image, built by podman without a registry and run by runc without `--privileged`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::{output, run};
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use serde_json::json;

use super::{capabilities, of_unit, package};
use crate::measured;
use crate::scene::{PATIENCE, Scene, Settings, Traces};

/// The program, its libraries, and nothing else.
const MOST_BYTES: u64 = 40_000_000;

const IMAGE: &str = "localhost/fairlead:test";

/// The second container takes over from the first, with the unit's system calls. podman's own list of
/// Debian 12 has bpf(2) only for CAP_SYS_ADMIN.
#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn the_image_balances_without_privileges_and_hands_over() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let before = Traces::of(scene.node())?;
    let controller = scene.controller(&Settings::default())?;
    let engine = Engine::new(&scene)?;
    engine.build()?;

    let mut container = engine.start("first", &controller, "unconfined")?;
    scene.wait_all_up(&controller)?;
    let traffic = scene.traffic()?;
    controller.cli(&["stop", "--handover"])?;
    container.wait_end()?;
    traffic.goes_on()?;
    let calls = engine.seccomp()?;
    let mut container = engine.start("second", &controller, &calls)?;
    traffic.goes_on()?;
    traffic.ensure_nothing_lost("from one container to the next")?;

    controller.cli(&["stop"])?;
    container.wait_end()?;
    assert_eq!(Traces::of(scene.node())?, before);
    Ok(())
}

/// podman with a storage of its own, on the LB node.
struct Engine<'a> {
    scene: &'a Scene,
    storage: tempfile::TempDir,
}

/// `podman run` in the foreground, as the kubelet's runtime would keep it.
struct Container(lb_tests::command::Process);

impl<'a> Engine<'a> {
    fn new(scene: &'a Scene) -> Result<Self> {
        let storage = tempfile::tempdir()?;
        for directory in ["run", "state"] {
            fs::create_dir(storage.path().join(directory))?;
        }
        Ok(Self { scene, storage })
    }

    /// In the node's network, and the machine's mounts: runc wants its control groups.
    fn podman(&self) -> Command {
        let mut command = self.scene.node().host.netns.command("podman");
        for (option, name) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.storage.path().join(name));
        }
        command.args(["--storage-driver", "vfs", "--runtime", "runc"]);
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command
    }

    /// Of the program as it is packed, without what debuggers want.
    fn build(&self) -> Result<()> {
        let (file, files) =
            (self.storage.path().join("Containerfile"), self.storage.path().join("deb"));
        run(Command::new("dpkg-deb").args(["--extract", &package("0.0.1")?]).arg(&files))?;
        let mut program = Command::new(files.join("usr/sbin/fairlead"));
        fs::write(&file, run(program.args(["manifest", "containerfile"]))?)?;
        let mut build = self.podman();
        build.args(["build", "--quiet", "--tag", IMAGE, "--file"]).arg(file).arg("/");
        run(&mut build)?;
        let size = run(self.podman().args(["image", "inspect", "--format", "{{.Size}}", IMAGE]))?;
        measured(&format!("an image of {} bytes", size.trim()));
        ensure!(size.trim().parse::<u64>()? < MOST_BYTES, "an image of {size} bytes");
        Ok(())
    }

    fn start(&self, name: &str, controller: &Controller<'_>, seccomp: &str) -> Result<Container> {
        let mut command = self.podman();
        command.args(["run", "--rm", "--name", name, "--cgroups=no-conmon", "--network=host"]);
        command.args(["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1000:1000"]);
        command.args([
            "--read-only",
            "--read-only-tmpfs=false",
            "--security-opt=no-new-privileges",
        ]);
        command.arg("--cap-drop=all");
        command.args(capabilities()?.iter().map(|name| format!("--cap-add={name}")));
        command.arg(format!("--security-opt=seccomp={seccomp}"));
        let lab = self.scene.lab.directory().display().to_string();
        let mounted =
            |name: &str, at: &str| format!("{}:{at}", self.storage.path().join(name).display());
        for volume in [
            format!("{}:/sys/fs/bpf", self.scene.node().bpffs.path().display()),
            mounted("run", "/run/fairlead"),
            mounted("state", "/var/lib/fairlead"),
            format!("{lab}:{lab}"),
        ] {
            command.args(["--volume", &volume]);
        }
        command.args([IMAGE, "run", "--config"]).arg(controller.config_file());
        let log = self.storage.path().join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let mut container = Container(lb_tests::command::Process::spawn(&mut command)?);
        eventually("an answer of the container", PATIENCE, || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            ensure!(container.0.exited()?.is_none(), "{name} ended: {said}");
            Ok(match controller.status() {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::Pending(format!("{error:#}: {said}")),
            })
        })?;
        Ok(container)
    }

    /// The unit's system calls as podman takes them.
    fn seccomp(&self) -> Result<String> {
        let mut calls = BTreeSet::new();
        for word in of_unit("SystemCallFilter")?.split(' ') {
            expand(word, &mut calls)?;
        }
        ensure!(calls.len() > 100 && calls.contains("bpf"), "{calls:?}");
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{ "names": calls, "action": "SCMP_ACT_ALLOW" }],
        });
        let path = self.storage.path().join("seccomp.json");
        fs::write(&path, profile.to_string())?;
        Ok(path.display().to_string())
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // What a failure left; nothing better can be done here.
        let _ = output(self.podman().args(["rm", "--all", "--force", "--time", "0"]));
    }
}

/// A system call, or a set of them, of systemd.exec(5).
fn expand(word: &str, calls: &mut BTreeSet<String>) -> Result<()> {
    if !word.starts_with('@') {
        calls.insert(word.to_owned());
        return Ok(());
    }
    let said =
        output(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter", word]))?;
    let said = String::from_utf8(said.stdout).context("sets of system calls in UTF-8")?;
    let members = said.lines().skip(1).map(str::trim);
    members
        .filter(|member| !member.is_empty() && !member.starts_with('#'))
        .try_for_each(|member| expand(member, calls))
}

impl Container {
    fn wait_end(&mut self) -> Result<()> {
        let status = self.0.wait(PATIENCE)?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}
