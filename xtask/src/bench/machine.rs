//! What the run was made on, and with.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use lb_tests::command::run;
use serde::Serialize;

use super::cpu::Busy;
use crate::command::root;

/// How long the machine is watched before anything is measured.
const WATCHED: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    pub(crate) virtual_machine: bool,
    /// Part of its CPUs that others used before the run began.
    pub(crate) busy_before: f64,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let kilobytes = field(&memory, "MemTotal").and_then(|text| text.split(' ').next());
        let before = Busy::now()?;
        sleep(WATCHED);
        Ok(Self {
            cpu: field(&cpus, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: kilobytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            system: quoted(&release, "PRETTY_NAME=").unwrap_or("unknown").to_owned(),
            virtual_machine: cpus.contains(" hypervisor"),
            busy_before: Busy::now()?.since(before).share(),
        })
    }

    /// In one line.
    pub(crate) fn describe(&self) -> String {
        let Self { cpu, cores, memory_mib, kernel, system, virtual_machine, .. } = self;
        let kind = if *virtual_machine { "virtual" } else { "physical" };
        format!("{cpu}, {cores} {kind} cores, {memory_mib} MiB; {system}, Linux {kernel}")
    }
}

/// Of all that takes part; what does not say has none.
pub(crate) fn versions(fairlead: &std::path::Path) -> BTreeMap<&'static str, String> {
    let mut commit = Command::new("git");
    commit.args(["describe", "--always", "--dirty"]).current_dir(root());
    let mut versions = BTreeMap::new();
    for (name, mut command) in [
        ("fairlead", with(fairlead, "--version")),
        ("commit", commit),
        ("haproxy", with("haproxy", "-v")),
        ("nftables", with("nft", "--version")),
        ("keepalived", with("keepalived", "--version")),
        ("nginx", with("nginx", "-v")),
        ("wrk", with("wrk", "-v")),
    ] {
        // Some say it on stderr, and wrk with a failure.
        if let Ok(output) = command.output() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            if let Some(line) = said.lines().find(|line| !line.trim().is_empty()) {
                versions.insert(name, line.trim().to_owned());
            }
        }
    }
    versions
}

/// Whether the kernel has IPVS, built in or as a module that can be loaded.
pub(crate) fn has_ipvs() -> bool {
    fs::exists("/proc/net/ip_vs").unwrap_or(false)
        || run(Command::new("modprobe").args(["--dry-run", "ip_vs"])).is_ok()
}

fn with(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(argument);
    command
}

fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_once(':')).map(|(_, value)| value.trim())
}

fn quoted<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_names() {
        let text = "processor\t: 0\nmodel name\t: A CPU\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name"), Some("A CPU"));
        assert_eq!(field(text, "MemTotal"), Some("2048 kB"));
        assert_eq!(quoted("NAME=x\nPRETTY_NAME=\"A B\"\n", "PRETTY_NAME="), Some("A B"));
    }
}
