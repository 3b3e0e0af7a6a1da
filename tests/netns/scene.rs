//! A lab with echo servers and a plain load: what the tests of restarts and attachments play in.

use std::collections::BTreeSet;
use std::env;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fairlead::datapath::sys;
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::Seen;
use lb_tests::eventually::eventually;
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::recorder::Report;
use lb_tests::server_thread::ServerThread;
use lb_tests::standstill;
use lb_tests::steady::Steady;
use lb_tests::topology::{API_PORT, LbNode, Plan, Topology};

/// New connections a second.
const RATE: u32 = 300;
/// Connections that are open all the time.
pub(super) const STEADY: usize = 50;
/// What takes longer was lost on its way, and sent again.
const STALL: Duration = Duration::from_millis(900);
/// After a SYN that was lost: the second one is sent after a second.
const SYN_AGAIN: Duration = Duration::from_millis(1500);
/// What must happen at all happens within this, on a machine with other work to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Three echo servers behind an LB node, and nobody who balances.
pub(super) struct Scene {
    pub(super) lab: Topology,
    pub(super) servers: Vec<ServerThread>,
}

/// What a configuration says beyond what all of them say.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Weight of the one backend of a service that nobody uses.
    pub(super) other_weight: u16,
    pub(super) flows: u32,
    pub(super) xdp_mode: &'static str,
    pub(super) interface: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { other_weight: 100, flows: 16_384, xdp_mode: "auto", interface: "eth0" }
    }
}

/// The controller to test.
pub(super) fn binary() -> PathBuf {
    from_environment("FAIRLEAD_BIN")
}

/// The same controller, whose flows have another layout.
pub(super) fn second_layout_binary() -> PathBuf {
    from_environment("FAIRLEAD_SECOND_LAYOUT_BIN")
}

fn from_environment(name: &str) -> PathBuf {
    env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: cargo xtask test netns")).into()
}

impl Scene {
    pub(super) fn build() -> Result<Self> {
        let lab = Topology::build(&Plan::default())?;
        let servers = lab
            .backends
            .iter()
            .map(|host| {
                echo::start(&host.netns, &host.name, SocketAddr::from((host.address, API_PORT)))
            })
            .collect::<Result<_>>()?;
        Ok(Self { lab, servers })
    }

    pub(super) fn node(&self) -> &LbNode {
        &self.lab.lbs[0]
    }

    /// What clients connect to.
    pub(super) fn target(&self) -> SocketAddr {
        SocketAddr::from((self.lab.vip(), API_PORT))
    }

    pub(super) fn yaml(&self, controller: &Controller<'_>, settings: &Settings) -> String {
        let backends: Vec<String> = self
            .lab
            .backends
            .iter()
            .map(|host| format!("{{ name: {}, address: {} }}", host.name, host.address))
            .collect();
        let health = "{ type: tcp, interval: 500ms, fast_interval: 200ms, timeout: 1s, fall: 3 }";
        format!(
            "version: 1
interfaces: [{interface}]
xdp_mode: {xdp_mode}
limits: {{ flows: {flows}, half_open: 8192 }}
services:
  - name: api
    vips: [{vip}]
    port: {API_PORT}
    backends: [{backends}]
    health: {health}
  - name: other
    vips: [{vip}]
    port: 7443
    backends: [{{ name: cp1, address: {other}, port: {API_PORT}, weight: {other_weight} }}]
    health: {health}
admin:
  socket: {socket}
",
            interface = settings.interface,
            xdp_mode = settings.xdp_mode,
            flows = settings.flows,
            vip = self.lab.vip(),
            backends = backends.join(", "),
            other = self.lab.backends[0].address,
            other_weight = settings.other_weight,
            socket = controller.socket().display(),
        )
    }

    /// The controller, with a configuration; it does not run.
    pub(super) fn controller(&self, settings: &Settings) -> Result<Controller<'_>> {
        let controller = Controller::new(self.node(), &binary(), self.lab.directory());
        controller.write_config(&self.yaml(&controller, settings))?;
        Ok(controller)
    }

    /// A controller that runs, and whose backends are up.
    pub(super) fn balanced(&self) -> Result<Controller<'_>> {
        let mut controller = self.controller(&Settings::default())?;
        controller.start()?;
        self.wait_all_up(&controller)?;
        Ok(controller)
    }

    pub(super) fn wait_all_up(&self, controller: &Controller<'_>) -> Result<()> {
        self.lab
            .backends
            .iter()
            .try_for_each(|host| controller.wait_backend(&host.name, "up", PATIENCE))
    }

    /// Starts both kinds of load.
    pub(super) fn traffic(&self) -> Result<Traffic> {
        standstill::watch()?;
        let netns = self.lab.client.netns.handle();
        let steady = Steady::start(&netns, self.target(), STEADY)?;
        let load = Load {
            target: self.target(),
            talk: Talk::Plain { server_closes_first: false },
            pace: Pace::Open { per_second: RATE },
            watches: 0,
        };
        Ok(Traffic { steady, running: load.start(&netns)? })
    }

    /// Lets the node's own kernel meet everyone: their neighbour entries are not the controller's.
    pub(super) fn meet_neighbours(&self) -> Result<()> {
        for host in std::iter::once(&self.lab.client).chain(&self.lab.backends) {
            // Nobody listens there; whether that is said does not matter.
            let nobody = SocketAddr::from((host.address, 1));
            self.node().host.netns.on_thread(|| {
                drop(TcpStream::connect_timeout(&nobody, Duration::from_secs(1)));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One connection through the VIP is answered, sooner or later.
    pub(super) fn wait_served(&self, timeout: Duration) -> Result<()> {
        eventually("an answer through the VIP", timeout, || {
            let report = self.some_connections(1)?;
            Ok(match report.answered {
                1 => Seen::Done(()),
                _ => Seen::Pending(format!("{:?}", report.failures)),
            })
        })
    }

    /// So many connections, one after the other.
    pub(super) fn some_connections(&self, connections: u64) -> Result<Report> {
        let load = Load {
            target: self.target(),
            talk: Talk::Plain { server_closes_first: false },
            pace: Pace::Closed { connections, workers: 1 },
            watches: 0,
        };
        let recorder = load.start(&self.lab.client.netns.handle())?.wait()?;
        Ok(recorder.report(&(Duration::ZERO..Duration::MAX)))
    }
}

/// New connections at a rate, and old ones that stay.
pub(super) struct Traffic {
    pub(super) steady: Steady,
    running: Running,
}

impl Traffic {
    /// New connections that were answered so far.
    pub(super) fn answered(&self) -> usize {
        self.running.recorder.report(&(Duration::ZERO..Duration::MAX)).answered
    }

    /// Goes on for a moment, in which connections of both kinds must be served.
    pub(super) fn goes_on(&self) -> Result<()> {
        let (answered, exchanges) = (self.answered(), self.steady.state().exchanges);
        eventually("traffic to go on", PATIENCE, || {
            self.steady.ensure_unbroken()?;
            let more = (self.answered() - answered, self.steady.state().exchanges - exchanges);
            let enough = more.0 >= 50 && more.1 >= STEADY as u64;
            Ok(if enough { Seen::Done(()) } else { Seen::Pending(format!("{more:?} more")) })
        })
    }

    /// Goes on for a moment and ends: nothing may have been lost, neither of the new connections nor of
    /// the old ones.
    pub(super) fn ensure_nothing_lost(self, what: &str) -> Result<()> {
        self.ensure_lost_at_most(0, what)
    }

    /// Likewise, but for so many new connections that were opening while maps were changed: they may
    /// fail, or have to send their SYN again. Of the old ones none may be lost.
    #[expect(clippy::print_stdout, reason = "figures of a test, shown by --nocapture")]
    pub(super) fn ensure_lost_at_most(self, opening: usize, what: &str) -> Result<()> {
        self.goes_on()?;
        let recorder = self.running.stop()?;
        let stood = standstill::lately(recorder.now());
        let report = recorder.report(&(Duration::ZERO..Duration::MAX));
        let steady = self.steady.finish()?;
        println!(
            "{what}: {} connections, connect p99 {:?} max {:?}; {} exchanges on {} connections, \
             longest {:?}; the machine stood still for {stood:?}",
            report.sent,
            report.connect_p99,
            report.connect_max,
            steady.exchanges,
            steady.opened,
            steady.longest,
        );
        let lost = report.failed_total();
        ensure!(lost <= opening, "{what}: lost {:?}", report.failures);
        ensure!(report.answered + lost == report.sent && report.sent > 0, "{what}: {report:?}");
        // A SYN that is lost is sent again after 1 s, a segment after 0.2 s, 0.4 s, 0.8 s.
        let most = if opening == 0 { STALL } else { SYN_AGAIN };
        let slowest = recorder.slowest_to_connect();
        ensure!(slowest < most, "{what}: connecting took {slowest:?}");
        ensure!(steady.longest < STALL + stood, "{what}: an answer took {:?}", steady.longest);
        Ok(())
    }
}

/// What a controller may change on a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traces {
    pins: Vec<PathBuf>,
    addresses: BTreeSet<String>,
    neighbours: BTreeSet<String>,
    routes: BTreeSet<String>,
    links: BTreeSet<String>,
    gro: String,
    record: bool,
}

impl Traces {
    pub(super) fn of(node: &LbNode) -> Result<Self> {
        let netns = &node.host.netns;
        let set = |text: String| text.lines().map(|line| line.trim().to_owned()).collect();
        let neighbours = netns.ip("-o -4 neigh")?;
        // Without their state, which changes by itself: the last word.
        let neighbours = neighbours
            .lines()
            .map(|line| line.trim().rsplit_once(' ').map_or(line, |(rest, _)| rest).to_owned())
            .collect();
        // The kernel makes those of a link itself, a moment after the link came up.
        let mut addresses: BTreeSet<String> = set(netns.ip("-o addr")?);
        addresses.retain(|line| !line.contains(" inet6 fe80:"));
        let cookie =
            netns.on_thread(|| sys::namespace_cookie().context("the namespace's cookie"))?;
        Ok(Self {
            pins: node.bpffs.pins()?,
            addresses,
            neighbours,
            routes: set(netns.ip("route show table all")?),
            links: set(netns.ip("-o link")?),
            gro: offload(node, "generic-receive-offload")?,
            record: PathBuf::from(format!("/run/fairlead/changes-{cookie}.json")).exists(),
        })
    }
}

/// `on` or `off`.
pub(super) fn offload(node: &LbNode, name: &str) -> Result<String> {
    let said = node.host.netns.run("ethtool", ["-k", "eth0"])?;
    let line = said.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    let words = line.with_context(|| format!("no {name} in {said}"))?;
    Ok(words.split(' ').next().unwrap_or_default().to_owned())
}

/// The XDP program of the node's eth0, and where it runs: `xdp` or `xdpgeneric`.
pub(super) fn xdp(node: &LbNode) -> Result<Option<(u32, String)>> {
    let said = node.host.netns.ip("-o -d link show eth0")?;
    let mut words = said.split_whitespace().skip_while(|word| *word != "prog/xdp");
    let mode = said.split_whitespace().find(|word| word.starts_with("xdp"));
    let id = words.nth(2).map(str::parse).transpose()?;
    Ok(id.map(|id| (id, mode.unwrap_or("xdp").to_owned())))
}

/// A command on the node: in its network namespace, with its bpffs.
pub(super) fn run_on(node: &LbNode, words: &[&str]) -> Command {
    let mut command = node.host.netns.command(words[0]);
    node.bpffs.show_to(&mut command);
    command.args(&words[1..]);
    command
}
