//! Established connections survive the death of a load balancer, whatever kills it, and its return. Two of our
//! nodes with kernel TCP at both ends, in every mode and both families at once.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::Signal;
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::{Seen, eventually, eventually_is};
use lb_tests::family::Family;
use lb_tests::recorder::Recorder;
use lb_tests::server_thread::ServerThread;
use lb_tests::topology::{API_PORT, Backends, Plan, Topology};
use lb_tests::transfer::TransferServer;
use serde_json::Value;

use super::modes::{DNAT, DSR, NAT};
use super::scene::{PATIENCE, binary};
use traffic::{Amount, Traffic};

mod identity;
mod logged;
mod scraped;
mod traffic;

/// Streams go to another port, so to another service.
const STREAM_PORT: u16 = 7443;
const SYNC_PORT: u16 = 7946;
const ADVERTS: Duration = Duration::from_millis(100);
const CLOSING: Duration = Duration::from_secs(3);
/// What is over goes with the next pass, and with the other node's word.
const SWEEP: Duration = Duration::from_secs(3);
/// Short connections that a node which dies has told of, and whose end it does not live to tell: 100 are opened a
/// second, and each lasts up to 100 ms on a busy machine. Of others there are many more.
const UNHEARD: u64 = 10;

/// How a node ends, or what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Its link goes down.
    Cut,
    /// Its controller is killed.
    Kill,
    /// Its controller stops to run, and goes on later.
    Stall,
    Drain,
    /// It is asked to end, and releases everything.
    End,
    /// Its controller hands over to a successor.
    Upgrade,
}

impl Death {
    const ALL: [Self; 6] =
        [Self::Cut, Self::Kill, Self::Stall, Self::Drain, Self::End, Self::Upgrade];

    /// It has no time for last words.
    const fn is_sudden(self) -> bool {
        match self {
            Self::Cut | Self::Kill | Self::Stall => true,
            Self::Drain | Self::End | Self::Upgrade => false,
        }
    }
}

/// Two nodes of ours, the first of which is to be Active.
struct Pair {
    lab: Topology,
    key: PathBuf,
    _echo: Vec<ServerThread>,
    _streams: Vec<TransferServer>,
}

impl Pair {
    fn build(backends_are: Backends) -> Result<Self> {
        let plan = Plan { lb_nodes: 2, backends: 3, backends_are, ..Plan::default() };
        let lab = Topology::build(&plan)?;
        let mut echo = Vec::new();
        let mut streams = Vec::new();
        for host in &lab.backends {
            echo.push(echo::start(&host.netns, &host.name, &host.listens(API_PORT)[..])?);
            streams.push(TransferServer::start(&host.netns, &host.listens(STREAM_PORT)[..])?);
        }
        let key = lab.directory().join("sync-key");
        let pair = Self { lab, key, _echo: echo, _streams: streams };
        pair.write_key(&["11".repeat(16) + &"22".repeat(16)])?;
        Ok(pair)
    }

    fn write_key(&self, keys: &[String]) -> Result<()> {
        write_secret(&self.key, &(keys.join("\n") + "\n"))
    }

    fn address(&self, node: usize) -> IpAddr {
        self.lab.lbs[node].host.address.into()
    }

    fn yaml(&self, node: usize, key: &std::path::Path, socket: &std::path::Path) -> String {
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
    health: {{ type: tcp, interval: 500ms, timeout: 1s }}
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
{}{}sync:
  listen: {}
  peers: [{}]
  key_file: {}
admin:
  socket: {}
",
            service("echo", API_PORT),
            service("streams", STREAM_PORT),
            instance(Family::V4, 77),
            instance(Family::V6, 78),
            SocketAddr::new(self.address(node), SYNC_PORT),
            SocketAddr::new(self.address(1 - node), SYNC_PORT),
            key.display(),
            socket.display(),
        )
    }

    fn controller(&self, node: usize) -> Result<Controller<'_>> {
        let controller = Controller::new(&self.lab.lbs[node], &binary(), self.lab.directory());
        controller.write_config(&self.yaml(node, &self.key, controller.socket()))?;
        Ok(controller)
    }

    /// Both nodes, once the first is Active and the second knows what it knows.
    fn start(&self) -> Result<[Controller<'_>; 2]> {
        let mut nodes = [self.controller(0)?, self.controller(1)?];
        self.start_nodes(&mut nodes)?;
        Ok(nodes)
    }

    fn start_nodes(&self, nodes: &mut [Controller<'_>; 2]) -> Result<()> {
        for node in &mut *nodes {
            node.start()?;
        }
        for node in &*nodes {
            for name in ["cp1", "cp2", "cp3", "cp1-v6", "cp2-v6", "cp3-v6"] {
                node.wait_backend(name, "up", PATIENCE)?;
            }
        }
        wait_active(&nodes[0])?;
        nodes.iter().try_for_each(wait_synced)
    }

    fn link(&self, node: usize, up: bool) -> Result<()> {
        let words = if up { "up" } else { "down" };
        self.lab.fabric.ip(&format!("link set lb{} {words}", node + 1)).map(drop)
    }

    /// Whether the nodes cannot hear each other; all others hear both.
    fn part(&self, parted: bool) -> Result<()> {
        let words = if parted { "on" } else { "off" };
        for port in ["lb1", "lb2"] {
            self.lab.fabric.run("bridge", ["link", "set", "dev", port, "isolated", words])?;
        }
        Ok(())
    }

    fn target(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.vip_of(family), port)
    }
}

fn write_secret(path: &std::path::Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // In one step, for whoever reads it at this moment.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path).context("renaming the key")
}

fn states(controller: &Controller<'_>) -> Result<Vec<String>> {
    let status = controller.status()?;
    let instances = status["vrrp"].as_array().context("no VRRP")?;
    Ok(instances.iter().map(|it| it["state"].as_str().unwrap_or_default().to_owned()).collect())
}

fn wait_active(controller: &Controller<'_>) -> Result<()> {
    wait_state(controller, "active")
}

fn wait_state(controller: &Controller<'_>, state: &str) -> Result<()> {
    let all = |seen: &Vec<String>| seen.iter().all(|seen| seen == state);
    eventually_is(&format!("to be {state}"), PATIENCE, || states(controller), all).map(drop)
}

fn wait_synced(controller: &Controller<'_>) -> Result<()> {
    let sync = || Ok(controller.status()?["sync"].clone());
    let is_synced = |sync: &Value| sync["warm"] == true && sync["peers"][0]["state"] == "synced";
    eventually_is("the peer to be synced", PATIENCE, sync, is_synced).map(drop)
}

/// Lets the first node die and come back, under traffic. When the VIPs moved away and when they came back: from the
/// cause until the other one, or its successor, was seen Active.
fn die_and_return(
    pair: &Pair,
    nodes: &mut [Controller<'_>; 2],
    death: Death,
    clock: &Recorder,
) -> Result<[Range<Duration>; 2]> {
    let began = clock.now();
    let [first, second] = nodes;
    match death {
        Death::Cut => {
            pair.link(0, false)?;
            wait_active(second)?;
        }
        Death::Kill => {
            first.kill9()?;
            wait_active(second)?;
        }
        Death::Stall => {
            first.signal(Signal::SIGSTOP)?;
            wait_active(second)?;
        }
        Death::Drain => {
            first.cli(&["drain"])?;
            wait_active(second)?;
        }
        Death::End => {
            first.sigterm()?;
            first.wait_exit(PATIENCE)?;
            wait_active(second)?;
        }
        Death::Upgrade => {
            let said = first.log().len();
            ensure!(first.stop(true)?.success());
            first.start()?;
            wait_active(first)?;
            let adopted = || {
                let log = first.log();
                Ok(log[said..].matches("goes on where its predecessor ended").count())
            };
            let all = |count: &usize| *count == Family::ALL.len();
            eventually_is("both families to go on as before", PATIENCE, adopted, all)?;
        }
    }
    let away = began..clock.now();
    // Connections come and go that the first node does not hear of.
    std::thread::sleep(Duration::from_millis(1500));
    let began = clock.now();
    match death {
        Death::Cut => pair.link(0, true)?,
        Death::Kill | Death::End => first.start()?,
        Death::Stall => first.signal(Signal::SIGCONT)?,
        Death::Drain => drop(first.cli(&["drain", "--resume"])?),
        Death::Upgrade => {}
    }
    wait_active(first)?;
    wait_state(second, "backup")?;
    let back = began..clock.now();
    nodes.iter().try_for_each(wait_synced)?;
    Ok([away, back])
}

#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn now() -> Instant {
    Instant::now()
}

/// Everything that can happen to a node, one after the other.
fn survive(backends_are: Backends, deaths: &[Death]) -> Result<()> {
    let pair = Pair::build(backends_are)?;
    let mut nodes = pair.start()?;
    let mut traffic = Traffic::start(&pair, Amount::from_environment())?;
    for death in deaths {
        let what = format!("{} {death:?}", pair.lab.mode);
        let before = traffic.begin();
        let [away, back] = die_and_return(&pair, &mut nodes, *death, traffic.clock())
            .with_context(|| logs(&what, &nodes))?;
        let took = away.end - away.start;
        // A successor takes over a datapath that never pauses.
        if *death != Death::Upgrade {
            traffic.moved([away, back]);
        }
        traffic.ensure_unbroken(&what, before).with_context(|| logs(&what, &nodes))?;
        super::measured(&format!("{what}: the VIPs were served again after {took:?} at most"));
    }
    traffic.finish()?;
    ensure_same_flows(&nodes, deaths.iter().filter(|death| death.is_sudden()).count())
}

/// Every death in an order of its own; by hand ten of them.
fn in_a_row() -> Vec<Death> {
    let seed = std::env::var("FAIRLEAD_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut state: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    super::measured(&format!("FAIRLEAD_SEED={state}"));
    let mut left = Death::ALL.to_vec();
    let mut row = Vec::new();
    let length = if traffic::is_full() { 10 } else { left.len() };
    while row.len() < length {
        if left.is_empty() {
            left = Death::ALL.to_vec();
        }
        // Knuth's MMIX.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap_or(0) % left.len();
        row.push(left.remove(at));
    }
    row
}

/// Both nodes hold the same, and nothing of what has ended but for connections whose end no controller heard of.
fn ensure_same_flows(nodes: &[Controller<'_>; 2], sudden: usize) -> Result<()> {
    let most = u64::try_from(sudden)? * UNHEARD;
    let began = now();
    let left = eventually("no flow to be left", PATIENCE, || {
        let (one, other) = (established(&nodes[0])?, established(&nodes[1])?);
        let may_be_left = if began.elapsed() < CLOSING + SWEEP { 0 } else { most };
        Ok(if one == other && one <= may_be_left {
            Seen::Done(one)
        } else {
            Seen::Pending(format!("{one} and {other}"))
        })
    })?;
    super::measured(&format!("{left} flows are left whose end no controller heard of"));
    Ok(())
}

fn established(node: &Controller<'_>) -> Result<u64> {
    let count: Value = serde_json::from_str(&node.cli(&["flows", "count", "--json"])?)?;
    let (flows, half_open) = (count["flows"].as_u64(), count["half_open"].as_u64());
    let both = flows.zip(half_open).with_context(|| format!("no counts in {count}"))?;
    Ok(both.0 - both.1)
}

fn logs(what: &str, nodes: &[Controller<'_>; 2]) -> String {
    let tail = |node: &Controller<'_>| {
        let log = node.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    };
    format!("{what}\nfirst:\n{}\nsecond:\n{}", tail(&nodes[0]), tail(&nodes[1]))
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_survive_whatever_happens_to_the_active_node() -> Result<()> {
    survive(NAT, &in_a_row())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_survive_in_dnat() -> Result<()> {
    survive(DNAT, &[Death::Kill, Death::Cut])
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_survive_in_dsr() -> Result<()> {
    survive(DSR, &[Death::Kill, Death::Cut])
}

/// Nobody hears the other, and both serve. Then the first one's connections go on, and those that came to the second
/// are told that they are over, if they cannot go on.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn after_a_partition_nobody_hangs() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let nodes = pair.start()?;
    // A stream that is opened while both serve is the losing side's, and may end.
    let mut traffic = Traffic::start(&pair, Amount { streams: 0, ..Amount::small() })?;
    pair.part(true)?;
    wait_active(&nodes[1])?;
    wait_active(&nodes[0])?;
    std::thread::sleep(partition());
    // By the last announcement these come to the second node.
    let mut theirs = traffic::open(&pair, 40)?;
    ensure!(established(&nodes[1])? >= 40, "the second node has none of them");
    let before = traffic.begin();
    pair.part(false)?;
    wait_state(&nodes[1], "backup")?;
    wait_active(&nodes[0])?;
    nodes.iter().try_for_each(wait_synced)?;
    traffic.ensure_unbroken("a partition", before).with_context(|| logs("partition", &nodes))?;
    let mut told = 0;
    for stream in &mut theirs {
        // At its next segment, if it was not told before.
        if traffic::ended(stream)? || traffic::is_reset(&traffic::echo(stream, "still here\n"))? {
            told += 1;
        }
    }
    super::measured(&format!(
        "of 40 connections of the losing side {told} were told that they are over"
    ));
    drop(theirs);
    traffic.finish()?;
    ensure_same_flows(&nodes, 1)
}

/// How long: half a minute by hand.
fn partition() -> Duration {
    Duration::from_secs(if traffic::is_full() { 30 } else { 4 })
}
