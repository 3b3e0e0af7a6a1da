//! The VIP leaves a live node: what its own backend serves goes on, or is told that it is over. Two nodes, each
//! with a backend, of which the first is to be Active.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::plain::EchoClient;
use lb_tests::recorder::Report;
use lb_tests::server_thread::ServerThread;
use lb_tests::topology::{API_PORT, Plan, Topology};
use rstest::rstest;
use serde_json::Value;

use crate::scene::{PATIENCE, binary};

const SYNC_PORT: u16 = 7946;
/// Of each family; about half of them are of either backend.
const CLIENTS: usize = 24;
/// What is told once a millisecond is told by then.
const TOLD: Duration = Duration::from_millis(500);

struct Pair {
    lab: Topology,
    key: PathBuf,
    has_sync: bool,
    _servers: Vec<ServerThread>,
}

impl Pair {
    fn build(has_sync: bool) -> Result<Self> {
        let lab = Topology::build(&Plan { lb_nodes: 2, backends: 0, ..Plan::default() })?;
        let listens = SocketAddr::from((Family::V6.unspecified(), API_PORT));
        let servers = lab.lbs.iter().map(|lb| echo::start(&lb.host.netns, &lb.host.name, listens));
        let servers = servers.collect::<Result<_>>()?;
        let key = lab.directory().join("sync-key");
        write_secret(&key, "1111111111111111111111111111111122222222222222222222222222222222\n")?;
        Ok(Self { lab, key, has_sync, _servers: servers })
    }

    fn yaml(&self, node: usize, socket: &Path) -> String {
        let backends = self.lab.lbs.iter().flat_map(|lb| {
            Family::ALL.map(|family| {
                let suffix = family.pick("", "-v6");
                let address = lb.host.address_of(family);
                format!("{{ name: {}{suffix}, address: \"{address}\" }}", lb.host.name)
            })
        });
        let vips = Family::ALL.map(|family| format!("\"{}\"", self.lab.vip_of(family)));
        let instance = |family: Family, vrid: u8| {
            format!(
                "  - {{ name: {}, interface: eth0, vrid: {vrid}, priority: {}, advert_interval: 100ms, \
                 vips: [\"{}\"], sync_group: both }}\n",
                family.pick("v4", "v6"),
                250 - node,
                self.lab.vip_of(family),
            )
        };
        let at = |node: usize| SocketAddr::from((self.lab.lbs[node].host.address, SYNC_PORT));
        let sync = format!(
            "sync:\n  listen: {}\n  peers: [{}]\n  key_file: {}\n",
            at(node),
            at(1 - node),
            self.key.display(),
        );
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 16384, half_open: 8192 }}
services:
  - name: api
    vips: [{}]
    port: {API_PORT}
    backends: [{}]
    health: {{ type: tcp, interval: 500ms, timeout: 1s }}
vrrp:
{}{}{}admin:
  socket: {}
",
            vips.join(", "),
            backends.collect::<Vec<_>>().join(", "),
            instance(Family::V4, 77),
            instance(Family::V6, 78),
            if self.has_sync { &sync } else { "" },
            socket.display(),
        )
    }

    /// Both nodes, once the first is Active and the second knows what it knows.
    fn start(&self) -> Result<[Controller<'_>; 2]> {
        let controller = |node: usize| {
            let controller = Controller::new(&self.lab.lbs[node], &binary(), self.lab.directory());
            controller.write_config(&self.yaml(node, controller.socket()))?;
            anyhow::Ok(controller)
        };
        let mut nodes = [controller(0)?, controller(1)?];
        for node in &mut nodes {
            node.start()?;
        }
        for node in &nodes {
            for name in ["lb1", "lb2", "lb1-v6", "lb2-v6"] {
                node.wait_backend(name, "up", PATIENCE)?;
            }
        }
        wait_state(&nodes[0], "active")?;
        if self.has_sync {
            nodes.iter().try_for_each(wait_synced)?;
        }
        Ok(nodes)
    }

    fn target(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.lab.vip_of(family), API_PORT)
    }

    /// Connections of both families: to the first node's backend, and to the second's.
    fn connect(&self) -> Result<[Vec<EchoClient>; 2]> {
        let clients = self.lab.client.netns.on_thread(|| {
            let targets = Family::ALL.iter().flat_map(|family| vec![self.target(*family); CLIENTS]);
            targets.map(|target| EchoClient::connect(target, None)).collect::<Result<Vec<_>>>()
        })?;
        let (first, second): (Vec<_>, Vec<_>) =
            clients.into_iter().partition(|client| client.server == "lb1");
        ensure!(first.len() > 5 && second.len() > 5, "{} and {}", first.len(), second.len());
        let mut both = [first, second];
        both.iter_mut().flatten().try_for_each(|client| client.exchange("question"))?;
        std::thread::sleep(TOLD);
        Ok(both)
    }

    /// Short connections by way of whoever is Active, none of which may fail.
    fn many(&self) -> Result<()> {
        for report in self.reports()? {
            ensure!(report.by_server.len() == 2, "{:?}", report.by_server);
        }
        Ok(())
    }

    fn reports(&self) -> Result<Vec<Report>> {
        const MANY: u64 = 300;
        let mut reports = Vec::new();
        for family in Family::ALL {
            let load = Load {
                target: self.target(family),
                talk: Talk::Plain { server_closes_first: false },
                pace: Pace::Closed { connections: MANY, workers: 8 },
                watches: 0,
            };
            let recorder = load.start(&self.lab.client.netns.handle())?.wait()?;
            let report = recorder.report(&(Duration::ZERO..Duration::MAX));
            ensure!(report.answered as u64 == MANY, "{report:?}");
            reports.push(report);
        }
        Ok(reports)
    }
}

/// How the first node loses the VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Drain,
    /// Its controller is killed; the kernel has the VIPs still.
    Kill,
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn with_sync_connections_to_the_node_s_own_backend_go_on(
    #[values(Loss::Drain, Loss::Kill)] loss: Loss,
) -> Result<()> {
    let pair = Pair::build(true)?;
    let [mut first, second] = pair.start()?;
    pair.many()?;
    let [mut own, others] = pair.connect()?;
    match loss {
        Loss::Drain => drop(first.cli(&["drain"])?),
        Loss::Kill => first.kill9()?,
    }
    wait_state(&second, "active")?;
    for _ in 0..3 {
        own.iter_mut()
            .try_for_each(|client| client.exchange("again"))
            .with_context(|| format!("{loss:?}\n{}\n{}", first.log(), second.log()))?;
    }
    // What the first node sent to the second as from the VIP has no way there now.
    others.into_iter().try_for_each(ensure_told)?;
    match loss {
        Loss::Drain => pair.many()?,
        // Nothing is new to its own backend by way of the other node while its kernel has the VIP.
        Loss::Kill => drop(pair.reports()?),
    }
    let rest = own.split_off(own.len() / 2);
    rest.into_iter().try_for_each(EchoClient::close)?;

    match loss {
        Loss::Drain => drop(first.cli(&["drain", "--resume"])?),
        Loss::Kill => first.start()?,
    }
    wait_state(&first, "active")?;
    own.iter_mut().try_for_each(|client| client.exchange("back"))?;
    own.into_iter().try_for_each(EchoClient::close)?;
    pair.many()
}

/// What the first node sent to the second's backend as from the VIP has no way there when the VIP is the second
/// node's own: the controller tells whoever has no next word.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn with_sync_clients_that_only_listen_are_told_that_it_is_over(
    #[values(Loss::Drain, Loss::Kill)] loss: Loss,
) -> Result<()> {
    let pair = Pair::build(true)?;
    let [mut first, second] = pair.start()?;
    let [mut own, mut others] = pair.connect()?;
    match loss {
        Loss::Drain => drop(first.cli(&["drain"])?),
        Loss::Kill => first.kill9()?,
    }
    wait_state(&second, "active")?;
    let silent = || {
        for client in std::mem::take(&mut others) {
            if !client.is_over()? {
                others.push(client);
            }
        }
        Ok(others.len())
    };
    eventually_is("a RST to each of them", PATIENCE, silent, |silent| *silent == 0)?;
    own.iter_mut().try_for_each(|client| client.exchange("again"))
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_sync_clients_are_told_that_their_connections_are_over() -> Result<()> {
    let pair = Pair::build(false)?;
    let [first, second] = pair.start()?;
    let [own, others] = pair.connect()?;
    first.cli(&["drain"])?;
    wait_state(&second, "active")?;
    own.into_iter().chain(others).try_for_each(ensure_told)?;
    pair.many()
}

/// The next word of a client gets a RST: not nothing.
fn ensure_told(mut client: EchoClient) -> Result<()> {
    let Err(error) = client.exchange("is anybody there?") else {
        bail!("{} goes on", client.server);
    };
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    ensure!(kind == Some(ErrorKind::ConnectionReset), "{}: {error:#}", client.server);
    Ok(())
}

fn wait_state(controller: &Controller<'_>, state: &str) -> Result<()> {
    let states = || {
        let status = controller.status()?;
        let instances = status["vrrp"].as_array().context("no VRRP")?;
        Ok(instances.iter().map(|it| it["state"].clone()).collect::<Vec<Value>>())
    };
    let all = |seen: &Vec<Value>| seen.iter().all(|seen| seen == state);
    eventually_is(&format!("to be {state}"), PATIENCE, states, all).map(drop)
}

fn wait_synced(controller: &Controller<'_>) -> Result<()> {
    let sync = || Ok(controller.status()?["sync"].clone());
    let is_synced = |sync: &Value| sync["warm"] == true && sync["peers"][0]["state"] == "synced";
    eventually_is("the peer to be synced", PATIENCE, sync, is_synced).map(drop)
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}
