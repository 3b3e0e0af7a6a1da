//! Floods from random sources: who is connected stays, who wants to connect can.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use fairlead::datapath::table::FlowTable;
use lb_common::addr::{Ipv4Be, Ports};
use lb_common::flow::FlowKey;
use lb_common::map;
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::flood::{self, Flood, Kind};
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::plain;
use lb_tests::recorder::{Outcome, Recorder};
use lb_tests::standstill;
use lb_tests::steady::Steady;
use lb_tests::topology::{Plan, Topology};
use rstest::rstest;
use serde_json::Value;

use crate::follow::mac_of;
use crate::measured;
use crate::scene::PATIENCE;

const RATE: u32 = 100_000;
const FLOOD: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 1000;
/// Between two lines on each of them: a busy client, and not a load of its own.
const PAUSE: Duration = Duration::from_millis(500);
/// New connections a second.
const NEWCOMERS: u32 = 50;
/// For the controller to say what was counted.
const SETTLED: Duration = Duration::from_secs(2);
/// For a newcomer: two SYNs may be lost.
const PROMISED: Duration = Duration::from_millis(3500);

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_syn_flood_harms_no_connection_and_keeps_nobody_out(#[values(V4, V6)] family: Family) {
    stand(Kind::Syn, family);
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn an_ack_flood_harms_no_connection_and_keeps_nobody_out(#[values(V4, V6)] family: Family) {
    stand(Kind::Ack, family);
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_flood_of_garbage_harms_no_connection_and_keeps_nobody_out(#[values(V4, V6)] family: Family) {
    stand(Kind::Garbage, family);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn with_a_full_map_a_syn_flood_harms_no_connection_and_newcomers_are_refused() {
    stand_full(Kind::Syn);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn with_a_full_map_an_ack_flood_harms_no_connection_and_newcomers_are_refused() {
    stand_full(Kind::Ack);
}

fn stand(kind: Kind, family: Family) {
    standstill::watch().unwrap();
    let lab = lab().unwrap();
    let target = plain::target_of(&lab, family);
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up_of(&lab, family).unwrap();
    let steady = connect(&lab, target, CONNECTIONS).unwrap();
    let before = Snapshot::of(&controller).unwrap();
    let newcomers = newcomers(&lab, target, NEWCOMERS).unwrap();
    let flooded = flood_for(&lab, target, kind, FLOOD).unwrap();
    let recorder = newcomers.stop().unwrap();
    sleep(SETTLED);
    let after = Snapshot::of(&controller).unwrap();

    measured(&format!("{family:?}, {kind:?}: {:.0}/s, {flooded:?}", flooded.per_second()));
    measured(&format!("{family:?}, {kind:?}: {}", before.until(&after)));
    let (sent, kept) = promised(&recorder);
    let report = recorder.report(&EVER);
    measured(&format!(
        "{family:?}, {kind:?}: {kept} of {sent} newcomers within {PROMISED:?}, to connect p50 {:?} p99 {:?} max \
         {:?}, failed {:?}",
        report.connect_p50, report.connect_p99, report.connect_max, report.failed,
    ));
    let state = steady.finish().unwrap();
    measured(&format!("{family:?}, {kind:?}: {state:?}"));
    let stood = standstill::lately(FLOOD).as_secs_f64() / FLOOD.as_secs_f64();
    let least = (0.4 - stood) * f64::from(RATE);
    assert!(flooded.per_second() >= least, "a machine too busy for a flood");
    assert!(kept * 100 >= sent * 99, "{kept} of {sent}: {:?}", report.failed);
    assert!(after.memory < before.memory * 1.2, "{}", before.until(&after));
}

/// A table in which there is no room for any more.
fn stand_full(kind: Kind) {
    const FLOWS: usize = 1024;
    let lab = lab().unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary().unwrap(), lab.directory());
    let yaml = plain::config(&lab, &plain::backends(&lab), controller.socket());
    let limits = format!("limits: {{ flows: {FLOWS}, half_open: {FLOWS} }}\n");
    controller.write_config(&(yaml + &limits)).unwrap();
    controller.start().unwrap();
    for host in &lab.backends {
        controller.wait_backend(&host.name, "up", PATIENCE).unwrap();
    }
    let target = plain::target(&lab);
    let steady = connect(&lab, target, FLOWS).unwrap();
    let established = || Ok(Snapshot::of(&controller)?.established);
    eventually_is("all flows", PATIENCE, established, |flows| *flows == FLOWS as u64).unwrap();
    crowd(&lab).unwrap();

    let before = Snapshot::of(&controller).unwrap();
    let newcomers = newcomers(&lab, target, NEWCOMERS).unwrap();
    let flooded = flood_for(&lab, target, kind, FLOOD / 2).unwrap();
    let report = newcomers.stop().unwrap().report(&EVER);
    sleep(SETTLED);
    let after = Snapshot::of(&controller).unwrap();
    measured(&format!("full, {kind:?}: {:.0}/s, {flooded:?}", flooded.per_second()));
    measured(&format!("full, {kind:?}: {}", before.until(&after)));
    measured(&format!("full, {kind:?}: {} newcomers, failed {:?}", report.sent, report.failed));
    let state = steady.finish().unwrap();
    measured(&format!(
        "full, {kind:?}: {} exchanges, longest {:?}",
        state.exchanges, state.longest
    ));
    assert_eq!(report.answered, 0);
    let refused = after.counter("reset_table_full") - before.counter("reset_table_full");
    assert!(refused >= report.sent as u64 * 9 / 10, "{refused} of {} counted", report.sent);
}

/// Fills what room the table has beyond the flows that it is for.
fn crowd(lab: &Topology) -> Result<()> {
    let node = &lab.lbs[0].bpffs;
    let pins = node.pins()?;
    let pin = pins.iter().find(|pin| pin.ends_with(map::FLOWS)).context("no table")?;
    let table = FlowTable::open(&MapData::from_pin(node.path().join(pin))?)?;
    let mut of_some_flow = None;
    table.all::<Ipv4Be>(|key, half| {
        if half.is_original() {
            of_some_flow = Some((*key, *half));
        }
    });
    let (key, half) = of_some_flow.context("no flow")?;
    // So many are at home in each of some thousand places again and again.
    for ports in 0..200_000 {
        let filler = FlowKey::new(key.src, key.dst, Ports::from_word(ports));
        let _ = table.store(&filler, &half, false);
    }
    Ok(())
}

const EVER: Range<Duration> = Duration::ZERO..Duration::MAX;

/// Backends that answer a flood with SYN cookies, as kernels do unless they are told not to.
fn lab() -> Result<Topology> {
    let lab = Topology::build(&Plan::default())?;
    for host in &lab.backends {
        host.netns.sysctl("ipv4/tcp_syncookies", "1")?;
        host.netns.sysctl("ipv4/tcp_max_syn_backlog", "4096")?;
    }
    Ok(lab)
}

fn connect(lab: &Topology, target: SocketAddr, connections: usize) -> Result<Steady> {
    Steady::start_paced(&lab.client.netns.handle(), target, connections, PAUSE)
}

fn newcomers(lab: &Topology, target: SocketAddr, per_second: u32) -> Result<Running> {
    let load = Load {
        target,
        talk: Talk::Plain { server_closes_first: false },
        pace: Pace::Open { per_second },
        watches: 0,
    };
    load.start(&lab.client.netns.handle())
}

/// Onto the wire to the LB node, for a while.
fn flood_for(
    lab: &Topology,
    target: SocketAddr,
    kind: Kind,
    how_long: Duration,
) -> Result<flood::Sent> {
    let flood = Flood {
        kind,
        per_second: RATE,
        target,
        target_mac: parse_mac(&mac_of(&lab.lbs[0].host.netns)?)?,
    };
    let running = flood.start(&lab.fabric.handle(), &lab.lbs[0].host.name)?;
    sleep(how_long);
    running.stop()
}

pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("a MAC of another length")
}

/// How many newcomers there were, and how many of them were answered in time.
fn promised(recorder: &Recorder) -> (usize, usize) {
    let samples = recorder.samples();
    let in_time = |end: &Option<(Duration, Outcome)>, start: Duration| matches!(end, Some((at, Outcome::Answered(_))) if *at - start <= PROMISED);
    let kept = samples.iter().filter(|sample| in_time(&sample.finished, sample.started)).count();
    (samples.len(), kept)
}

/// The node at a moment.
struct Snapshot {
    status: Value,
    established: u64,
    /// The controller's resident memory, in KiB. Maps are allocated when they are made.
    memory: f64,
    cpu: Cpu,
    at: Instant,
}

/// Ticks of all CPUs since the machine started.
#[derive(Clone, Copy)]
struct Cpu {
    idle: u64,
    all: u64,
}

impl Snapshot {
    #[expect(clippy::disallowed_methods, reason = "a test is a driver: it reads the clock")]
    fn of(controller: &Controller<'_>) -> Result<Self> {
        let status = controller.status()?;
        let established = status["flows"]["established"].as_u64().context("no flows")?;
        let pid = status["pid"].as_u64().context("no pid")?;
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
        let memory = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.split_whitespace().next());
        let memory = memory.context("no VmRSS")?.parse()?;
        Ok(Self { status, established, memory, cpu: Cpu::read()?, at: Instant::now() })
    }

    fn counter(&self, name: &str) -> u64 {
        self.status["counters"][name].as_u64().unwrap_or_default()
    }

    /// What happened between this and a later one, to be read.
    fn until(&self, later: &Self) -> String {
        let counters = self.status["counters"].as_object().into_iter().flatten();
        let counters: Vec<String> = counters
            .map(|(name, _)| (name, later.counter(name) - self.counter(name)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let all = (later.cpu.all - self.cpu.all).max(1);
        format!(
            "{:.1?}, machine {} % idle, controller {} to {} KiB, {} to {} established, {}",
            later.at - self.at,
            (later.cpu.idle - self.cpu.idle) * 100 / all,
            self.memory,
            later.memory,
            self.established,
            later.established,
            counters.join(", "),
        )
    }
}

impl Cpu {
    /// From the first line of `/proc/stat` (proc(5)): the fourth number is idle time.
    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("an empty /proc/stat")?;
        let numbers: Vec<u64> =
            line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { idle: numbers[3], all: numbers.iter().sum() })
    }
}
