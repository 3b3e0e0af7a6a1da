//! Two nodes that elect who holds the VIPs and share their flows, and what they say of it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::server_thread::ServerThread;
use lb_tests::standstill;
use lb_tests::topology::{API_PORT, Backends, Plan, Topology};
use lb_tests::transfer::TransferServer;
use serde_json::Value;

use super::{CLOSING, STREAM_PORT};
use crate::scene::{PATIENCE, binary};

pub(super) const SYNC_PORT: u16 = 7946;
const ADVERTS: Duration = Duration::from_millis(100);
/// Backends never die here; with both cores taken by streams they are slow to answer a probe.
const PATIENT: u32 = 30;

/// Two nodes of ours, the first of which is to be Active.
pub(super) struct Pair {
    pub(super) lab: Topology,
    pub(super) key: PathBuf,
    /// Whether each tells the other of its flows.
    pub(super) shares: bool,
    _echo: Vec<ServerThread>,
    _streams: Vec<TransferServer>,
}

impl Pair {
    pub(super) fn build(backends_are: Backends) -> Result<Self> {
        standstill::watch()?;
        let plan = Plan { lb_nodes: 2, backends: 3, backends_are, ..Plan::default() };
        let lab = Topology::build(&plan)?;
        let mut echo = Vec::new();
        let mut streams = Vec::new();
        for host in &lab.backends {
            echo.push(echo::start(&host.netns, &host.name, &host.listens(API_PORT)[..])?);
            streams.push(TransferServer::start(&host.netns, &host.listens(STREAM_PORT)[..])?);
        }
        let key = lab.directory().join("sync-key");
        let pair = Self { lab, key, shares: true, _echo: echo, _streams: streams };
        pair.write_key(&["11".repeat(16) + &"22".repeat(16)])?;
        Ok(pair)
    }

    pub(super) fn write_key(&self, keys: &[String]) -> Result<()> {
        write_secret(&self.key, &(keys.join("\n") + "\n"))
    }

    pub(super) fn address(&self, node: usize) -> IpAddr {
        self.lab.lbs[node].host.address.into()
    }

    pub(super) fn yaml(
        &self,
        node: usize,
        key: &std::path::Path,
        socket: &std::path::Path,
    ) -> String {
        let mode = self.lab.mode;
        let service = |name: &str, port: u16| {
            let backends: Vec<String> = Family::ALL
                .iter()
                .flat_map(|family| {
                    let suffix = family.pick("", "-v6");
                    let hosts = self.lab.backends.iter();
                    hosts.map(move |host| {
                        let address = host.address_of(*family);
                        format!("{{ name: {}{suffix}, address: \"{address}\" }}", host.name)
                    })
                })
                .collect();
            let vips = Family::ALL.map(|family| format!("\"{}\"", self.lab.vip_of(family)));
            format!(
                "  - name: {name}
    vips: [{}]
    port: {port}
    mode: {mode}
    backends: [{}]
    timeouts: {{ closing: {closing}s, half_closed: {closing}s }}
    health: {{ type: tcp, interval: 500ms, timeout: 1s, fall: {PATIENT} }}
",
                vips.join(", "),
                backends.join(", "),
                closing = CLOSING.as_secs(),
            )
        };
        let instance = |family: Family, vrid: u8| {
            let vip = self.lab.vip_of(family);
            let (name, priority) = (family.pick("v4", "v6"), 250 - node);
            format!(
                "  - {{ name: {name}, interface: eth0, vrid: {vrid}, priority: {priority}, advert_interval: {}ms, vips: [\"{vip}\"], sync_group: both }}\n",
                ADVERTS.as_millis()
            )
        };
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 16384, half_open: 8192 }}
services:
{}{}vrrp:
{}{}{}admin:
  socket: {}
",
            service("echo", API_PORT),
            service("streams", STREAM_PORT),
            instance(Family::V4, 77),
            instance(Family::V6, 78),
            if self.shares { self.sync(node, key) } else { String::new() },
            socket.display(),
        )
    }

    fn sync(&self, node: usize, key: &std::path::Path) -> String {
        let listen = SocketAddr::new(self.address(node), SYNC_PORT);
        let peer = SocketAddr::new(self.address(1 - node), SYNC_PORT);
        let key_file = key.display();
        format!("sync:\n  listen: {listen}\n  peers: [{peer}]\n  key_file: {key_file}\n")
    }

    pub(super) fn controller(&self, node: usize) -> Result<Controller<'_>> {
        let controller = Controller::new(&self.lab.lbs[node], &binary(), self.lab.directory());
        controller.write_config(&self.yaml(node, &self.key, controller.socket()))?;
        Ok(controller)
    }

    /// Both nodes, once the first is Active and the second knows what it knows.
    pub(super) fn start(&self) -> Result<[Controller<'_>; 2]> {
        let mut nodes = [self.controller(0)?, self.controller(1)?];
        self.start_nodes(&mut nodes)?;
        Ok(nodes)
    }

    pub(super) fn start_nodes(&self, nodes: &mut [Controller<'_>; 2]) -> Result<()> {
        for node in &mut *nodes {
            node.start()?;
        }
        for node in &*nodes {
            for name in ["cp1", "cp2", "cp3", "cp1-v6", "cp2-v6", "cp3-v6"] {
                node.wait_backend(name, "up", PATIENCE)?;
            }
        }
        wait_active(&nodes[0])?;
        if self.shares {
            nodes.iter().try_for_each(wait_synced)?;
        }
        Ok(())
    }

    pub(super) fn link(&self, node: usize, up: bool) -> Result<()> {
        let words = if up { "up" } else { "down" };
        self.lab.fabric.ip(&format!("link set lb{} {words}", node + 1)).map(drop)
    }

    /// Whether the nodes cannot hear each other; all others hear both.
    pub(super) fn part(&self, parted: bool) -> Result<()> {
        let words = if parted { "on" } else { "off" };
        for port in ["lb1", "lb2"] {
            self.lab.fabric.run("bridge", ["link", "set", "dev", port, "isolated", words])?;
        }
        Ok(())
    }

    pub(super) fn target(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.vip_of(family), port)
    }
}

pub(super) fn write_secret(path: &std::path::Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // In one step, for whoever reads it at this moment.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path).context("renaming the key")
}

pub(super) fn states(controller: &Controller<'_>) -> Result<Vec<String>> {
    let status = controller.status()?;
    let instances = status["vrrp"].as_array().context("no VRRP")?;
    Ok(instances.iter().map(|it| it["state"].as_str().unwrap_or_default().to_owned()).collect())
}

pub(super) fn wait_active(controller: &Controller<'_>) -> Result<()> {
    wait_state(controller, "active")
}

pub(super) fn wait_state(controller: &Controller<'_>, state: &str) -> Result<()> {
    let all = |seen: &Vec<String>| seen.iter().all(|seen| seen == state);
    eventually_is(&format!("to be {state}"), PATIENCE, || states(controller), all).map(drop)
}

pub(super) fn wait_synced(controller: &Controller<'_>) -> Result<()> {
    wait_synced_in(controller, PATIENCE)
}

pub(super) fn wait_synced_in(controller: &Controller<'_>, within: Duration) -> Result<()> {
    let sync = || Ok(controller.status()?["sync"].clone());
    let is_synced = |sync: &Value| sync["warm"] == true && sync["peers"][0]["state"] == "synced";
    eventually_is("the peer to be synced", within, sync, is_synced).map(drop)
}
