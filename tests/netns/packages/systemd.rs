//! A systemd that is the first process, on an LB node: in namespaces of its own, with a root of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lb_tests::cgroup::Cgroup;
use lb_tests::command::{Process, output, run};
use lb_tests::eventually::{Seen, eventually, eventually_is};
use lb_tests::topology::LbNode;
use serde_json::Value;

use super::overlay::Overlay;
use super::package;
use crate::scene::PATIENCE;

pub(super) const CONFIG: &str = "/etc/fairlead/fairlead.yaml";
pub(super) const SOCKET: &str = "/run/fairlead/admin.sock";

/// It, running; killed on drop, with all that it started.
pub(super) struct Booted {
    // In the order in which they go.
    _systemd: Process,
    first: String,
    cgroup: Cgroup,
    pub(super) overlay: Overlay,
}

impl Booted {
    /// `lab`: a directory that is there under its own path.
    pub(super) fn start(node: &LbNode, lab: &Path) -> Result<Self> {
        let overlay = Overlay::mount(lab)?;
        let script = overlay.path("/systemd.sh");
        fs::write(&script, include_str!("systemd.sh"))?;
        let cgroup = Cgroup::of_processes("systemd")?;
        let mut command = node.host.netns.command("sh");
        command.args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup.path());
        command.args(["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]);
        command.args(["--kill-child", "--cgroup", "--ipc", "--uts", "sh"]);
        command.arg(script).arg(overlay.path("/")).arg(node.bpffs.path());
        let mut systemd = Process::spawn(&mut command)?;
        let init = cgroup.path().join("init.scope/cgroup.procs");
        let first = eventually("systemd's own cgroup", PATIENCE, || {
            if let Some(status) = systemd.exited()? {
                bail!("systemd did not start: {status}");
            }
            let processes = fs::read_to_string(&init).unwrap_or_default();
            Ok(match processes.lines().next() {
                Some(first) => Seen::Done(first.to_owned()),
                None => Seen::Pending("nobody is in it".to_owned()),
            })
        })?;
        let booted = Self { _systemd: systemd, first, cgroup, overlay };
        let is_up = || {
            let said = output(booted.command("systemctl").arg("is-system-running"))?;
            Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
        };
        // `degraded`: something of this machine's does not run in a container.
        eventually_is("systemd", PATIENCE, is_up, |it| ["running", "degraded"].contains(&&**it))?;
        Ok(booted)
    }

    /// Inside all of its namespaces.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first, "--mount", "--pid", "--net", "--cgroup", "--ipc"]);
        command.args(["--uts", "--root", "--wd", "env", "-i", "DEBIAN_FRONTEND=noninteractive"]);
        command
            .args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", program]);
        command
    }

    pub(super) fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        run(self.command(program).args(words))
    }

    /// A line for the shell, as an operator types it.
    pub(super) fn sh(&self, line: &str) -> Result<String> {
        self.run("sh", &["-e", "-c", line]).or_else(|error| {
            let journal = ["--no-pager", "--output=cat", "--lines=20"];
            Err(error.context(self.run("journalctl", &journal)?))
        })
    }

    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.overlay.path(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    pub(super) fn install(&self, version: &str) -> Result<()> {
        fs::copy(package(version)?, self.overlay.path("/fairlead.deb"))?;
        self.run("dpkg", &["--install", "/fairlead.deb"]).map(drop)
    }

    /// Of our unit.
    pub(super) fn property(&self, name: &str) -> Result<String> {
        let said = self.run("systemctl", &["show", "--value", "--property", name, "fairlead"])?;
        Ok(said.trim().to_owned())
    }

    pub(super) fn state(&self) -> Result<[String; 2]> {
        Ok([self.property("ActiveState")?, self.property("SubState")?])
    }

    pub(super) fn wait_state(&self, wanted: &str) -> Result<()> {
        let state = || self.property("ActiveState");
        eventually_is("the unit", PATIENCE, state, |state| state == wanted).map(drop)
    }

    pub(super) fn pid(&self) -> Result<String> {
        self.property("MainPID")
    }

    pub(super) fn status(&self) -> Result<Value> {
        let said = self.run("fairlead", &["status", "--json"])?;
        serde_json::from_str(&said).context("parsing the status")
    }

    /// All three of the first service.
    pub(super) fn wait_all_up(&self) -> Result<()> {
        let states = || {
            let status = self.status()?;
            let backends = status["services"][0]["backends"].as_array().context("no backends")?;
            Ok(backends.iter().map(|it| it["state"].clone()).collect::<Vec<_>>())
        };
        let all = |states: &Vec<Value>| states.len() == 3 && states.iter().all(|it| *it == "up");
        eventually_is("backends that are up", PATIENCE, states, all).map(drop)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // What a failure here leaves is removed with other stale things.
        let _ = fs::write(self.cgroup.path().join("cgroup.kill"), "1");
        let events = || Ok(fs::read_to_string(self.cgroup.path().join("cgroup.events"))?);
        let _ = eventually_is("the end of all", PATIENCE, events, |it| it.contains("populated 0"));
    }
}
