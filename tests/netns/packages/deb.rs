//! The Debian package, in a root of its own: this machine's below, and what dpkg writes above it in memory. systemd is
//! stood in for by `systemctl.sh`. So the package's dependencies are those that this machine has; they are only read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::{output, run};
use serde_json::Value;

use super::overlay::Overlay;
use super::package;
use crate::scene::{Scene, Settings, Traces};

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn the_package_is_installed_upgraded_under_load_removed_and_purged() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let before = Traces::of(scene.node())?;
    let root = Root::mount(&scene)?;

    root.dpkg(&["--install", &package("0.0.1")?])?;
    ensure!(!root.is_active()?, "it runs without a configuration");
    ensure!(root.has("/etc/systemd/system/multi-user.target.wants/fairlead.service"));

    let mut controller = scene.controller(&Settings::default())?;
    fs::copy(controller.config_file(), root.path("/etc/fairlead/fairlead.yaml"))?;
    root.run("systemctl", &["start", "fairlead.service"])?;
    controller.wait_ready()?;
    scene.wait_all_up(&controller)?;
    let pid = |status: &Value| status["pid"].as_u64().context("a process");
    let first = pid(&controller.status()?)?;
    let traffic = scene.traffic()?;
    root.dpkg(&["--install", &package("0.0.2")?])?;
    controller.wait_ready()?;
    traffic.goes_on()?;
    ensure!(pid(&controller.status()?)? != first, "the old version still runs");
    // Configured anew, as after an interruption of dpkg.
    root.run("dpkg-reconfigure", &["fairlead"])?;
    controller.wait_ready()?;
    traffic.ensure_nothing_lost("an upgrade by dpkg")?;

    // Also when the last controller left the datapath to nobody.
    controller.cli(&["stop", "--handover"])?;
    ensure!(Traces::of(scene.node())? != before, "the traces show no datapath");
    root.dpkg(&["--remove", "fairlead"])?;
    assert_eq!(Traces::of(scene.node())?, before);
    ensure!(root.has("/etc/fairlead/fairlead.yaml.example"), "a conffile went before the purge");
    root.dpkg(&["--purge", "fairlead"])?;
    ensure!(root.has("/etc/fairlead/fairlead.yaml"), "the operator's file is gone");
    let left = root.written()?;
    ensure!(left == ["/etc/fairlead", "/etc/fairlead/fairlead.yaml"], "left: {left:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn the_package_has_manual_and_completions() -> Result<()> {
    let listed = run(Command::new("dpkg-deb").args(["--contents", &package("0.0.1")?]))?;
    for file in [
        "./usr/sbin/fairlead\n",
        "./usr/share/man/man8/fairlead.8.gz\n",
        "./usr/share/man/man8/fairlead-flows-list.8.gz\n",
        "./usr/share/bash-completion/completions/fairlead\n",
        "./usr/share/zsh/vendor-completions/_fairlead\n",
        "./usr/share/fish/vendor_completions.d/fairlead.fish\n",
        "./usr/lib/tmpfiles.d/fairlead.conf\n",
        "./etc/fairlead/fairlead.yaml.example\n",
        "./usr/share/fairlead/alerts.yaml\n",
        "./usr/share/fairlead/dashboard.json\n",
    ] {
        ensure!(listed.contains(file), "no {file} in {listed}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn the_package_depends_on_what_the_program_is_linked_to() -> Result<()> {
    let depends = run(Command::new("dpkg-deb").args(["--field", &package("0.0.1")?, "Depends"]))?;
    let names: Vec<_> =
        depends.split(", ").filter_map(|word| word.split_whitespace().next()).collect();
    ensure!(names.contains(&"libc6"), "{depends}");
    ensure!(names.iter().all(|name| ["libc6", "libgcc-s1"].contains(name)), "{depends}");
    Ok(())
}

/// A changed root on the LB node, as it is where systemd runs.
struct Root<'a> {
    scene: &'a Scene,
    overlay: Overlay,
}

impl<'a> Root<'a> {
    fn mount(scene: &'a Scene) -> Result<Self> {
        let root = Self { scene, overlay: Overlay::mount(scene.lab.directory())? };
        run(Command::new("mount").args(["-t", "proc", "proc"]).arg(root.path("/proc")))?;
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(root.path("/run")))?;
        // The library that loads the program looks there for the number of CPUs.
        run(Command::new("mount").args(["-t", "sysfs", "sysfs"]).arg(root.path("/sys")))?;
        let bpffs = root.path("/sys/fs/bpf");
        for (from, to) in
            [(Path::new("/dev"), root.path("/dev")), (scene.node().bpffs.path(), bpffs)]
        {
            run(Command::new("mount").arg("--bind").arg(from).arg(to))?;
        }
        // As systemd would have it.
        fs::create_dir_all(root.path("/run/systemd/system"))?;
        let systemctl = root.path("/usr/local/sbin/systemctl");
        fs::write(&systemctl, include_str!("systemctl.sh"))?;
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
        Ok(root)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.overlay.path(inside)
    }

    fn has(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.scene.node().host.netns.command("chroot");
        command.arg(self.path("/")).arg(program).env("DEBIAN_FRONTEND", "noninteractive");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        run(self.command(program).args(words))
    }

    fn dpkg(&self, words: &[&str]) -> Result<()> {
        // The packages are not below the new root.
        if let Some(file) = words.iter().find(|word| word.ends_with(".deb")) {
            fs::copy(file, self.path("/fairlead.deb"))?;
        }
        let words =
            words.iter().map(|word| if word.ends_with(".deb") { "/fairlead.deb" } else { word });
        let said = output(self.command("dpkg").args(words))?;
        let errors = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "{errors}");
        Ok(())
    }

    fn is_active(&self) -> Result<bool> {
        let words = ["is-active", "fairlead.service"];
        Ok(output(self.command("systemctl").args(words))?.status.success())
    }

    /// What there is of ours, besides what dpkg keeps of every package that it has known.
    fn written(&self) -> Result<Vec<String>> {
        let find = ["find", "/etc", "/usr", "/lib", "/var", "/run", "-path", "*fairlead*"];
        let found = self.run(find[0], &find[1..])?;
        let mut left: Vec<_> = found
            .lines()
            .filter(|path| self.overlay.is_written(path) || path.starts_with("/run"))
            .map(str::to_owned)
            .collect();
        left.sort();
        Ok(left)
    }
}

impl Drop for Root<'_> {
    fn drop(&mut self) {
        // A controller that a failure left ends with its namespace; nothing better can be done here.
        let _ = self.run("systemctl", &["stop", "fairlead.service"]);
    }
}
