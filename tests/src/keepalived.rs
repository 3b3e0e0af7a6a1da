//! A real keepalived as a VRRP peer, in a namespace, with pid files of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::command::{Process, Signal};
use crate::netns::Netns;

/// It ends in order within a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// What its instance is configured as.
#[derive(Clone, Debug)]
pub struct Settings {
    pub version: u8,
    pub vrid: u8,
    pub priority: u8,
    /// In seconds; with a fraction in version 3.
    pub interval: f64,
    pub vips: Vec<IpAddr>,
    pub nopreempt: bool,
    /// Where it sends from, and whom to. None: multicast.
    pub unicast: Option<(IpAddr, Vec<IpAddr>)>,
    pub password: Option<&'static str>,
    /// How often it announces each VIP in a row; meanwhile it says and hears nothing else.
    pub repeat: u8,
}

impl Settings {
    /// Version 3, multicast.
    pub fn new(priority: u8, interval: f64, vips: &[IpAddr]) -> Self {
        Self {
            version: 3,
            vrid: 77,
            priority,
            interval,
            vips: vips.to_vec(),
            nopreempt: false,
            unicast: None,
            password: None,
            repeat: 5,
        }
    }

    /// Its instance, as keepalived.conf(5) has it.
    fn text(&self, name: &str) -> String {
        let mut text = format!(
            "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n virtual_router_id {}\n \
             priority {}\n advert_int {}\n",
            self.vrid, self.priority, self.interval
        );
        let _ = write!(text, " garp_master_repeat {0}\n garp_lower_prio_repeat {0}\n", self.repeat);
        if self.nopreempt {
            text += " nopreempt\n";
        }
        if let Some(password) = self.password {
            let _ =
                write!(text, " authentication {{\n auth_type PASS\n auth_pass {password}\n }}\n");
        }
        if let Some((source, peers)) = &self.unicast {
            let _ = write!(text, " unicast_src_ip {source}\n unicast_peer {{\n");
            for peer in peers {
                let _ = writeln!(text, " {peer}");
            }
            text += " }\n";
        }
        text += " virtual_ipaddress {\n";
        for vip in &self.vips {
            let bits = if vip.is_ipv4() { 32 } else { 128 };
            let _ = writeln!(text, " {vip}/{bits} dev eth0");
        }
        text + " }\n}\n"
    }
}

/// A whole configuration. Several instances are in one sync group.
fn text(instances: &[Settings]) -> String {
    let version = instances.first().map_or(3, |first| first.version);
    let mut text =
        format!("global_defs {{\n vrrp_version {version}\n vrrp_garp_master_delay 1\n}}\n");
    let names: Vec<String> = (0..instances.len()).map(|index| format!("api{index}")).collect();
    if names.len() > 1 {
        let _ =
            write!(text, "vrrp_sync_group edge {{\n group {{\n {}\n }}\n}}\n", names.join("\n "));
    }
    instances.iter().zip(&names).fold(text, |text, (instance, name)| text + &instance.text(name))
}

/// A running keepalived; killed on drop, its child too.
#[derive(Debug)]
pub struct Keepalived {
    process: Process,
    child_file: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

impl Keepalived {
    /// Starts it in `netns`; its files go to `directory`.
    pub fn start(netns: &Netns, directory: &Path, settings: &Settings) -> Result<Self> {
        Self::start_group(netns, directory, std::slice::from_ref(settings))
    }

    /// The same with several instances, which become master together.
    pub fn start_group(netns: &Netns, directory: &Path, instances: &[Settings]) -> Result<Self> {
        let file = |suffix: &str| directory.join(format!("{}-keepalived.{suffix}", netns.name()));
        let (config, log, child_file) = (file("conf"), file("log"), file("vrrp.pid"));
        fs::write(&config, text(instances))?;
        // Of one that was killed.
        let _ = fs::remove_file(&child_file);
        let _ = fs::remove_file(file("pid"));
        let output = File::create(&log)?;
        let mut command = netns.command("keepalived");
        command.args(["--vrrp", "-n", "-l", "-D", "-f"]).arg(&config);
        command.arg("-p").arg(file("pid")).arg("-r").arg(&child_file);
        command.stdout(output.try_clone()?).stderr(output);
        let process = Process::spawn(&mut command)?;
        Ok(Self { process, child_file, config, log })
    }

    /// Another configuration, taken at once.
    pub fn reload(&mut self, settings: &Settings) -> Result<()> {
        fs::write(&self.config, text(std::slice::from_ref(settings)))?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Ends it in order: it gives up with priority 0.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(PATIENCE).map(drop)
    }

    /// SIGKILL for both of its processes, which leaves its VIPs where they are.
    pub fn kill9(&mut self) -> Result<()> {
        let child = self.child()?;
        // The parent would start another child; and the child gives up in order if its parent dies.
        self.process.signal(Signal::SIGSTOP)?;
        kill(child, Signal::SIGKILL).context("killing keepalived's child")?;
        self.process.kill()
    }

    /// The process that speaks VRRP: SIGSTOP makes it hang.
    pub fn child(&self) -> Result<Pid> {
        let text = fs::read_to_string(&self.child_file)
            .with_context(|| format!("reading {}", self.child_file.display()))?;
        Ok(Pid::from_raw(text.trim().parse().context("a process's number")?))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // One that ended in order has removed the file.
        let _ = self.kill9();
    }
}
