//! As many flows as a large cluster has, and new ones as fast as they can come: what the other node knows of them,
//! how soon, and what it costs. Handshakes go through the program at the node's interface, as test runs of it:
//! kernel TCP at both ends would take more than the machine has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::Signal;
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::scrape::wait_sum;
use lb_tests::server_thread::ServerThread;
use lb_tests::standstill;
use lb_tests::topology::{API_PORT, Plan, Topology};
use lb_tests::used::Used;
use serde_json::Value;

use super::opener::Opener;
use super::pair::{SYNC_PORT, wait_active, wait_synced, wait_synced_in, write_secret};
use super::{PATIENCE, now};
use crate::measured;
use crate::scene::binary;

const BACKENDS: usize = 32;
const FLOWS: u32 = 1_000_000;

/// On two cores with nothing else to do it takes less than ten; others may be at work.
const SNAPSHOT: Duration = Duration::from_secs(30);
const PER_SECOND: u32 = 20_000;
const SPAN: Duration = Duration::from_secs(5);
/// The ring has 4 MB, and a record of 112 bytes for each that is established.
const MORE_THAN_THE_RING: u32 = 60_000;
const STOPPED: Duration = Duration::from_millis(1500);
const LAG: Duration = Duration::from_millis(100);
/// What sends waits so long for the clock, then catches up.
const TICK: Duration = Duration::from_millis(5);

struct Nodes {
    lab: Topology,
    key: PathBuf,
    _echo: Vec<ServerThread>,
}

impl Nodes {
    fn build() -> Result<Self> {
        standstill::watch()?;
        let lab = Topology::build(&Plan { lb_nodes: 2, backends: BACKENDS, ..Plan::default() })?;
        let serve = |host: &lb_tests::topology::Host| {
            echo::start(&host.netns, &host.name, &host.listens(API_PORT)[..])
        };
        let echo = lab.backends.iter().map(serve).collect::<Result<_>>()?;
        let key = lab.directory().join("sync-key");
        write_secret(&key, &("5a".repeat(16) + &"c3".repeat(16) + "\n"))?;
        Ok(Self { lab, key, _echo: echo })
    }

    fn controller(&self, node: usize) -> Result<Controller<'_>> {
        let controller = Controller::new(&self.lab.lbs[node], &binary(), self.lab.directory());
        controller.write_config(&self.yaml(node, controller.socket()))?;
        Ok(controller)
    }

    fn yaml(&self, node: usize, socket: &std::path::Path) -> String {
        let hosts = self.lab.backends.iter();
        let backends: Vec<String> =
            hosts.map(|it| format!("{{ name: {}, address: {} }}", it.name, it.address)).collect();
        let sync = |node: usize| SocketAddr::from((self.lab.lbs[node].host.address, SYNC_PORT));
        let vip = self.lab.vip();
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: {room}, half_open: 131072 }}
services:
  - name: kubernetes
    vips: [{vip}]
    port: {API_PORT}
    backends: [{backends}]
    health: {{ type: tcp, interval: 5s, timeout: 4s, fall: 10 }}
vrrp:
  - {{ name: v4, interface: eth0, vrid: 77, priority: {priority}, vips: [{vip}] }}
sync: {{ listen: \"{own}\", peers: [\"{peer}\"], key_file: {key} }}
admin: {{ socket: {socket} }}
",
            room = FLOWS + FLOWS / 5,
            backends = backends.join(", "),
            priority = 250 - node,
            own = sync(node),
            peer = sync(1 - node),
            key = self.key.display(),
            socket = socket.display(),
        )
    }
}

fn used(controller: &Controller<'_>) -> Result<Used> {
    Used::by(controller.pid().context("no controller")?)
}

fn count(node: &Controller<'_>) -> Result<u64> {
    let count: Value = serde_json::from_str(&node.cli(&["flows", "count", "--json"])?)?;
    count["flows"].as_u64().with_context(|| format!("no count in {count}"))
}

/// What a node says of its one peer.
fn peer(node: &Controller<'_>) -> Result<Value> {
    Ok(node.status()?["sync"]["peers"][0].clone())
}

/// The first node, Active, with every backend up.
fn start_first(nodes: &Nodes) -> Result<Controller<'_>> {
    let mut first = nodes.controller(0)?;
    first.start()?;
    wait_active(&first)?;
    for host in &nodes.lab.backends {
        first.wait_backend(&host.name, "up", PATIENCE)?;
    }
    Ok(first)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_node_that_joins_learns_of_a_million_flows() -> Result<()> {
    let nodes = Nodes::build()?;
    let first = start_first(&nodes)?;
    let mut opener = Opener::new(&nodes.lab)?;
    let began = now();
    nodes.lab.lbs[0].host.netns.on_thread(|| opener.open(FLOWS))?;
    measured(&format!(
        "{FLOWS} connections were opened in {:?}; {} more found no SNAT port",
        began.elapsed(),
        opener.refused
    ));
    ensure!(opener.refused < FLOWS / 10_000, "{} found no SNAT port", opener.refused);
    ensure!(count(&first)? == u64::from(FLOWS), "{} flows", count(&first)?);

    let mut second = nodes.controller(1)?;
    second.start()?;
    let (before, began) = ([used(&first)?, used(&second)?], now());
    wait_synced_in(&second, SNAPSHOT)?;
    let took = began.elapsed();
    let after = [used(&first)?, used(&second)?];
    let busy = [0, 1]
        .map(|node| (after[node].cpu_seconds - before[node].cpu_seconds) / took.as_secs_f64());
    measured(&format!(
        "they were there after {took:?}; {:.2} of a core to send, {:.2} to take; resident {} and {} MiB",
        busy[0], busy[1], after[0].resident_mib, after[1].resident_mib
    ));
    // All of them, as it had nothing.
    wait_sum(&second, "fairlead_sync_differing_buckets", &[], |sum| sum == 1024.0)?;
    let (here, there) = (count(&first)?, count(&second)?);
    ensure!(here == there && here == u64::from(FLOWS), "{here} flows here, {there} there");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn twenty_thousand_connections_a_second_are_told_at_once() -> Result<()> {
    let nodes = Nodes::build()?;
    let first = start_first(&nodes)?;
    let mut second = nodes.controller(1)?;
    second.start()?;
    wait_synced(&first)?;
    wait_synced(&second)?;
    let mut opener = Opener::new(&nodes.lab)?;
    let before = [used(&first)?, used(&second)?];
    let (lags, took) = std::thread::scope(|scope| -> Result<_> {
        let node = &nodes.lab.lbs[0].host.netns;
        let opening = scope.spawn(|| node.on_thread(|| keep_opening(&mut opener)));
        let mut lags = Vec::new();
        while !opening.is_finished() {
            let lag = Duration::from_millis(peer(&first)?["lag_ms"].as_u64().context("no lag")?);
            // Which is said once a second.
            lags.push(lag.saturating_sub(standstill::lately(lag + Duration::from_secs(2))));
            std::thread::sleep(LAG / 2);
        }
        Ok((lags, opening.join().expect("no panic")?))
    })?;
    let after = [used(&first)?, used(&second)?];
    let busy = [0, 1]
        .map(|node| (after[node].cpu_seconds - before[node].cpu_seconds) / took.as_secs_f64());
    let longest = lags.iter().max().copied().context("never asked")?;
    let opened = u64::from(opener.opened());
    measured(&format!(
        "{opened} connections in {took:?}: {longest:?} behind at most in {} looks; {:.2} of a core to tell, {:.2} to hear; {} resyncs",
        lags.len(),
        busy[0],
        busy[1],
        peer(&first)?["resyncs"]
    ));
    ensure!(longest < LAG, "{longest:?} behind: {lags:?}");
    ensure_both_have(&first, &second, opened)
}

/// A controller that is stopped reads no changes, for longer than there is room for them.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn changes_that_find_no_room_are_counted_and_found_by_a_comparison() -> Result<()> {
    let nodes = Nodes::build()?;
    let mut first = start_first(&nodes)?;
    let mut second = nodes.controller(1)?;
    second.start()?;
    wait_synced(&first)?;
    wait_synced(&second)?;
    let mut opener = Opener::new(&nodes.lab)?;
    first.signal(Signal::SIGSTOP)?;
    let began = now();
    nodes.lab.lbs[0].host.netns.on_thread(|| opener.open(MORE_THAN_THE_RING))?;
    // The VIP is its own for three intervals, and an advertisement is due after one.
    std::thread::sleep(STOPPED.saturating_sub(began.elapsed()));
    first.signal(Signal::SIGCONT)?;
    wait_sum(&first, "fairlead_sync_lost_changes_total", &[], |lost| lost > 0.0)?;
    wait_sum(&first, "fairlead_sync_resyncs_total", &[], |count| count >= 1.0)?;
    wait_sum(&first, "fairlead_vrrp_worst_lateness_seconds", &[], |late| late > 0.1)?;
    ensure_both_have(&first, &second, u64::from(opener.opened()))
}

fn ensure_both_have(first: &Controller<'_>, second: &Controller<'_>, opened: u64) -> Result<()> {
    eventually("both to have the same flows", PATIENCE, || {
        let both = (count(first)?, count(second)?);
        Ok(if both == (opened, opened) {
            Seen::Done(())
        } else {
            Seen::Pending(format!("{both:?} of {opened}"))
        })
    })
}

/// How long it took.
fn keep_opening(opener: &mut Opener) -> Result<Duration> {
    let began = now();
    let all = PER_SECOND * u32::try_from(SPAN.as_secs())?;
    while opener.opened() < all {
        let due = began.elapsed().as_micros() * u128::from(PER_SECOND) / 1_000_000;
        let due = u32::try_from(due)?;
        opener.open(due.min(all).saturating_sub(opener.opened()))?;
        std::thread::sleep(TICK);
    }
    Ok(began.elapsed())
}
