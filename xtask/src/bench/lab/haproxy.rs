//! HAProxy in TCP mode, as its manual has it: a thread for each core, splicing, redispatch.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use lb_tests::command::Process;
use lb_tests::netns::Netns;

use super::Service;

/// A running one; the processes that it replaced live as long as their connections.
#[derive(Debug)]
pub(crate) struct Haproxy {
    netns: Netns,
    config: PathBuf,
    log: PathBuf,
    process: Process,
    replaced: Vec<Process>,
}

impl Haproxy {
    /// Its files go to `directory`.
    pub(crate) fn start(netns: &Netns, directory: &Path, services: &[Service]) -> Result<Self> {
        let netns = Netns::open(netns.name())?;
        let config = directory.join(format!("{}-haproxy.cfg", netns.name()));
        let log = config.with_extension("log");
        fs::write(&config, text(services)?)?;
        let process = Process::spawn(&mut command(&netns, &config, &log)?)?;
        Ok(Self { netns, config, log, process, replaced: Vec::new() })
    }

    /// A new process takes over the ports (`-sf`), the old one ends with its last connection.
    pub(crate) fn reload(&mut self, services: &[Service]) -> Result<()> {
        fs::write(&self.config, text(services)?)?;
        let mut command = command(&self.netns, &self.config, &self.log)?;
        command.arg("-sf").arg(self.process.pid().to_string());
        let old = std::mem::replace(&mut self.process, Process::spawn(&mut command)?);
        self.replaced.push(old);
        Ok(())
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.replaced.iter().chain([&self.process]).map(Process::pid).collect()
    }
}

fn command(netns: &Netns, config: &Path, log: &Path) -> Result<Command> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = netns.command("haproxy");
    command.arg("-db").arg("-f").arg(config).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// Of the 20,000 files that a process may have here it wants two for each connection and for each pipe to splice
/// through, and one for each listener and each check.
fn text(services: &[Service]) -> Result<String> {
    let threads = std::thread::available_parallelism().context("counting cores")?;
    let others: usize = services.iter().map(|service| 1 + service.backends.len()).sum();
    let connections = 9_860_usize.saturating_sub(others);
    let mut text = format!(
        "global
  maxconn {connections}
  maxpipes 32
  nbthread {threads}
defaults
  mode tcp
  option splice-auto
  option redispatch
  retries 3
  timeout connect 5s
  timeout client 1h
  timeout server 1h
"
    );
    for service in services {
        let Service { name, vip, port, backends } = service;
        write!(text, "listen {name}\n  bind {vip}:{port}\n  balance roundrobin\n")?;
        for (name, address) in backends {
            writeln!(text, "  server {name} {address} check inter 1s rise 2 fall 3")?;
        }
    }
    Ok(text)
}
