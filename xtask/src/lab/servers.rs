//! The apiserver stand-ins as processes of their own, so that they can be killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::apiserver::CONTROL;
use lb_tests::command::Process;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::http::request_inside;
use lb_tests::pki::Pki;
use lb_tests::topology::{API_PORT, Host, Topology};

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The servers that run, by their name.
#[derive(Debug)]
pub(super) struct Servers<'lab> {
    lab: &'lab Topology,
    pki: Pki,
    running: BTreeMap<String, Process>,
}

impl<'lab> Servers<'lab> {
    /// Makes their certificates and starts them all; `detached` ones may outlive this process.
    pub(super) fn start_all(lab: &'lab Topology, detached: bool) -> Result<Self> {
        let names: Vec<_> =
            lab.backends.iter().map(|host| (host.name.as_str(), host.address)).collect();
        let pki = Pki::create(&lab.directory().join("pki"), &names, &[lab.vip()])?;
        let mut servers = Self { lab, pki, running: BTreeMap::new() };
        for host in &lab.backends {
            servers.spawn(host, detached)?;
        }
        for host in &lab.backends {
            servers.wait_listening(host)?;
        }
        Ok(servers)
    }

    pub(super) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Starts one that was killed.
    pub(super) fn start(&mut self, name: &str) -> Result<()> {
        let host = self.lab.backend(name)?;
        self.spawn(host, false)?;
        self.wait_listening(host)
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        let mut server =
            self.running.remove(name).with_context(|| format!("{name} is not running"))?;
        server.kill()
    }

    /// Leaves them all running.
    pub(super) fn forget(self) {
        for server in self.running.into_values() {
            server.forget();
        }
    }

    fn spawn(&mut self, host: &Host, detached: bool) -> Result<()> {
        let program = std::env::current_exe().context("looking for this program")?;
        let listen = SocketAddr::from((host.address, API_PORT)).to_string();
        let mut command: Command = host.netns.command(program);
        command
            .args(["lab", "apiserver", "--name", &host.name, "--listen", &listen, "--pki"])
            .arg(self.pki.directory())
            .stdout(Stdio::null());
        let server = if detached {
            Process::spawn_detached(command.stderr(Stdio::null()))?
        } else {
            Process::spawn(&mut command)?
        };
        self.running.insert(host.name.clone(), server);
        Ok(())
    }

    fn wait_listening(&mut self, host: &Host) -> Result<()> {
        let server = self.running.get_mut(&host.name).context("a server that was not started")?;
        eventually(&format!("{} to listen", host.name), START_TIMEOUT, || {
            if let Some(status) = server.exited()? {
                bail!("{} ended: {status}", host.name);
            }
            Ok(match request_inside(&host.netns, CONTROL, "GET", "/mode") {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::Pending(format!("{error:#}")),
            })
        })
    }
}
