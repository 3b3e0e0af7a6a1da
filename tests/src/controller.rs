//! The controller as a process in an LB node's namespaces.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bpffs;
use crate::command::{Process, Signal, run};
use crate::eventually::{Seen, eventually};
use crate::family::Family;
use crate::pki::Pki;
use crate::topology::{Dual, LbNode, Topology};

/// A configuration with one service of every backend, checked by TLS.
const TEMPLATE: &str = include_str!("lab.yaml");

/// From the start to an answer of the admin socket.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// `fairlead` on one LB node; killed on drop. What it pinned stays until the node's bpffs goes.
#[derive(Debug)]
pub struct Controller<'lab> {
    lb: &'lab LbNode,
    binary: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    log_elsewhere: Option<PathBuf>,
    /// In place of the machine's, if any.
    resolv_conf: Option<PathBuf>,
    /// The words of a command that becomes it, if any.
    wrapper: Vec<String>,
}

/// The lab's configuration, `lab.yaml`, with this lab's addresses and files.
pub fn config(lab: &Topology, pki: &Pki, socket: &Path) -> String {
    let backends: Vec<String> = lab
        .backends
        .iter()
        .map(|host| format!("{{ name: {}, address: {} }}", host.name, host.address))
        .collect();
    let snat = lab.snat_address().map(|address| format!("snat_address: {address}"));
    TEMPLATE
        .replace("<interfaces>", &format!("[{}]", lab.interfaces().join(", ")))
        .replace("<vip>", &lab.vip().to_string())
        .replace("<snat_address>", &snat.unwrap_or_default())
        .replace("<backends>", &format!("[{}]", backends.join(", ")))
        .replace("<ca_file>", &pki.ca_file().display().to_string())
        .replace("<socket>", &socket.display().to_string())
}

impl<'lab> Controller<'lab> {
    /// Its files go to `directory`; nothing runs, and there is no configuration.
    pub fn new(lb: &'lab LbNode, binary: &Path, directory: &Path) -> Self {
        let file = |suffix: &str| directory.join(format!("{}.{suffix}", lb.host.name));
        Self {
            lb,
            binary: binary.to_owned(),
            config: file("yaml"),
            socket: file("sock"),
            log: file("log"),
            process: None,
            log_elsewhere: None,
            resolv_conf: None,
            wrapper: Vec::new(),
        }
    }

    /// Has it see this text as `/etc/resolv.conf`.
    pub fn set_resolv_conf(&mut self, text: &str) -> Result<()> {
        let path = self.config.with_extension("resolv.conf");
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        self.resolv_conf = Some(path);
        Ok(())
    }

    /// Its next run is of another build.
    pub fn set_binary(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
    }

    /// Has it started by another command, such as `setpriv`, that becomes it.
    pub fn set_wrapper(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Where the configuration must put the admin socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Of the process that runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// What every run of it wrote to stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Has every run write its log there, where nobody reads it.
    pub fn log_to(&mut self, path: &Path) {
        self.log_elsewhere = Some(path.to_owned());
    }

    /// Writes the configuration; a running controller sees it at [`Self::reload`].
    pub fn write_config(&self, yaml: &str) -> Result<()> {
        fs::write(&self.config, yaml).with_context(|| format!("writing {}", self.config.display()))
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.start_only()?;
        self.wait_ready()
    }

    /// Starts it.
    pub fn start_only(&mut self) -> Result<()> {
        let mut command = self.run_command()?;
        self.process = Some(Process::spawn(&mut command)?);
        Ok(())
    }

    /// Starts it so that it can outlive this process, and gives it away.
    pub fn start_detached(mut self) -> Result<Process> {
        let mut command = self.run_command()?;
        self.process = Some(Process::spawn_detached(&mut command)?);
        self.wait_ready()?;
        self.process.take().context("no controller runs")
    }

    fn run_command(&self) -> Result<Command> {
        let log = self.log_elsewhere.as_ref().unwrap_or(&self.log);
        let log = File::options().create(true).append(true).open(log)?;
        let mut words = self.wrapper.iter().map(OsStr::new).chain([self.binary.as_os_str()]);
        let program = words.next().context("no program")?;
        let mut command = self.lb.host.netns.command(program);
        command.args(words);
        self.lb.bpffs.show_to(&mut command);
        if let Some(path) = &self.resolv_conf {
            bpffs::replace_for(&mut command, path, "/etc/resolv.conf");
        }
        // What operators say is kept in the lab's own directory.
        if let Some(directory) = self.config.parent() {
            command.env("STATE_DIRECTORY", directory);
        }
        command.args(["run", "--config"]).arg(&self.config).stdout(log.try_clone()?).stderr(log);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info");
        }
        Ok(command)
    }

    /// Waits until the admin socket answers; fails at once if the process ends.
    pub fn wait_ready(&mut self) -> Result<()> {
        eventually("an answer from the controller", READY_TIMEOUT, || {
            if let Some(process) = &mut self.process
                && let Some(status) = process.exited()?
            {
                bail!("the controller ended ({status}):\n{}", tail(&self.log));
            }
            Ok(match self.status() {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::Pending(format!("{error:#}\n{}", tail(&self.log))),
            })
        })
    }

    /// What `fairlead status --json` says.
    pub fn status(&self) -> Result<Value> {
        let said = self.cli(&["status", "--json"])?;
        serde_json::from_str(&said).with_context(|| format!("parsing the status {said:?}"))
    }

    /// The state of a backend of the first service: `up`, `down` …
    pub fn backend_state(&self, name: &str) -> Result<String> {
        let status = self.status()?;
        let backends = status["services"][0]["backends"].as_array().context("no backends")?;
        let backend = backends.iter().find(|backend| backend["name"] == name);
        let state = backend.with_context(|| format!("no backend {name}"))?["state"].as_str();
        Ok(state.context("a backend without state")?.to_owned())
    }

    /// Waits until a backend of the first service is in `state`.
    pub fn wait_backend(&self, name: &str, state: &str, timeout: Duration) -> Result<()> {
        eventually(&format!("{name} to be {state}"), timeout, || {
            let seen = self.backend_state(name)?;
            Ok(if seen == state { Seen::Done(()) } else { Seen::Pending(seen) })
        })
    }

    /// Runs one of the commands that talk to the admin socket.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        run(Command::new(&self.binary).args(args).arg("--socket").arg(&self.socket))
    }

    /// Starts one of those commands, which goes on by itself; its output goes to files beside `file`, with
    /// the endings `out` and `err`.
    pub fn cli_spawn(&self, args: &[&str], file: &Path) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--socket").arg(&self.socket);
        command.stdout(File::create(file.with_extension("out"))?);
        command.stderr(File::create(file.with_extension("err"))?);
        Process::spawn(&mut command)
    }

    pub fn reload(&self) -> Result<()> {
        self.cli(&["reload"]).map(drop)
    }

    /// `fairlead stop`, and waits for the end. With `handover` the datapath goes on.
    pub fn stop(&mut self, handover: bool) -> Result<ExitStatus> {
        let args: &[&str] = if handover { &["stop", "--handover"] } else { &["stop"] };
        self.cli(args)?;
        self.wait_exit(READY_TIMEOUT)
    }

    /// Asks it to end in order, as systemd does.
    pub fn sigterm(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Any other signal: SIGSTOP makes a controller that hangs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process_mut()?.signal(signal)
    }

    /// Kills it; the datapath stays.
    pub fn kill9(&mut self) -> Result<()> {
        self.process_mut()?.kill()?;
        self.process = None;
        Ok(())
    }

    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let status = self.process_mut()?.wait(timeout)?;
        self.process = None;
        Ok(status)
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process_mut()?.exited()?.is_none())
    }

    fn process_mut(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("no controller runs")
    }

    /// What is left on the node of a controller that was asked to leave nothing: pins, and addresses
    /// beyond the node's own.
    pub fn leftovers(&self, lab: &Topology) -> Result<Vec<String>> {
        let mut left: Vec<String> =
            self.lb.bpffs.pins()?.iter().map(|pin| format!("pin {}", pin.display())).collect();
        let addresses = self.lb.host.netns.ip("-o addr")?;
        let front = Family::ALL.map(|family| lab.vip_of(family));
        let back = lab.backend_vip().map(Dual::both);
        for vip in front.into_iter().chain(back.into_iter().flatten()) {
            if addresses.contains(&format!(" {vip}/")) {
                left.push(format!("address {vip}"));
            }
        }
        for line in self.lb.host.netns.ip("-o link")?.lines().filter(|line| line.contains("xdp")) {
            left.push(format!("XDP on {line}"));
        }
        Ok(left)
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
