//! One peer's turn in a round: each kind of work once, timed, with what it cost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::bulk::{self, Moved};
use lb_tests::connects;
use lb_tests::paced::{Latencies, Paced};
use lb_tests::transfer::Way;

use super::cpu::{self, Busy};
use super::effort::Effort;
use super::lab::Standing;
use super::metric::Metric;
use super::samples::Turn;
use super::wrk::{self, Use};

/// Connections of wrk, and of the paced load.
const CONNECTIONS: u32 = 64;
/// Bulk transfers at the same time.
const STREAMS: usize = 2;
/// Requests each second of an unloaded server, over so many connections.
const UNLOADED_RATE: u32 = 1000;
const UNLOADED_CONNECTIONS: usize = 4;
/// More requests without an answer, or connections, are a failure.
const UNANSWERED_MOST: f64 = 0.001;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n";

/// Work, and what it cost.
struct Costs<T> {
    work: T,
    machine: f64,
    processes: f64,
}

/// Says in `notes` what is no figure.
pub(super) fn take(
    standing: &Standing<'_>,
    effort: &Effort,
    loaded_rate: u32,
    notes: &mut Vec<String>,
) -> Result<Turn> {
    let mut turn = Turn::new();
    throughput(standing, effort.bulk, &mut turn).context("measuring throughput")?;
    short_connections(standing, effort.wrk, &mut turn).context("measuring short connections")?;
    requests(standing, effort.wrk, &mut turn).context("measuring keep-alive requests")?;
    latency(standing, effort.paced, loaded_rate, &mut turn).context("measuring latency")?;
    connect_time(standing, effort.connects, &mut turn, notes).context("measuring connect time")?;
    Ok(turn)
}

/// How many requests for a few bytes a second this peer answers, roughly: to find a rate for all.
pub(super) fn capacity(standing: &Standing<'_>) -> Result<f64> {
    Ok(run_wrk(standing, Use::KeptSmall, Duration::from_secs(1))?.per_second())
}

fn throughput(standing: &Standing<'_>, span: Duration, turn: &mut Turn) -> Result<()> {
    let client = &standing.lab.client.netns;
    let (mut bytes, mut machine, mut processes) = (0, 0.0, 0.0);
    for (way, metric) in [(Way::Download, Metric::Download), (Way::Upload, Metric::Upload)] {
        let costs =
            with_costs(standing, || bulk::run(client, standing.bulk(), way, STREAMS, span))?;
        let moved: Moved = costs.work;
        turn.insert(metric, moved.gbit_s());
        bytes += moved.bytes;
        machine += costs.machine;
        processes += costs.processes;
    }
    let gigabytes = bytes as f64 / 1e9;
    ensure!(gigabytes > 0.0, "nothing was moved");
    turn.insert(Metric::MachinePerGb, machine / gigabytes);
    turn.insert(Metric::ProcessPerGb, processes / gigabytes);
    Ok(())
}

fn short_connections(standing: &Standing<'_>, span: Duration, turn: &mut Turn) -> Result<()> {
    let costs = with_costs(standing, || run_wrk(standing, Use::Once, span))?;
    turn.insert(Metric::Connections, costs.work.per_second());
    let hundred_thousands = costs.work.requests / 1e5;
    turn.insert(Metric::MachinePer100k, costs.machine / hundred_thousands);
    turn.insert(Metric::ProcessPer100k, costs.processes / hundred_thousands);
    Ok(())
}

fn requests(standing: &Standing<'_>, span: Duration, turn: &mut Turn) -> Result<()> {
    let costs = with_costs(standing, || run_wrk(standing, Use::Kept, span))?;
    turn.insert(Metric::Requests, costs.work.per_second());
    let small = run_wrk(standing, Use::KeptSmall, Duration::from_secs(1))?;
    turn.insert(Metric::SmallRequests, small.per_second());
    let millions = costs.work.requests / 1e6;
    turn.insert(Metric::MachinePerMillion, costs.machine / millions);
    turn.insert(Metric::ProcessPerMillion, costs.processes / millions);
    Ok(())
}

fn latency(standing: &Standing<'_>, span: Duration, rate: u32, turn: &mut Turn) -> Result<()> {
    const LOADED: [Metric; 3] = [Metric::LoadedP50, Metric::LoadedP99, Metric::LoadedP999];
    const UNLOADED: [Metric; 3] = [Metric::UnloadedP50, Metric::UnloadedP99, Metric::UnloadedP999];
    let connections = usize::try_from(CONNECTIONS)?;
    for (metrics, rate, connections) in
        [(LOADED, rate, connections), (UNLOADED, UNLOADED_RATE, UNLOADED_CONNECTIONS)]
    {
        let load = Paced { target: standing.web(), rate, connections, span, request: REQUEST };
        let latencies = load.run(&standing.lab.client.netns)?;
        let all = latencies.sorted.len() + latencies.unanswered;
        let unanswered = latencies.unanswered as f64 / all as f64;
        ensure!(unanswered <= UNANSWERED_MOST, "{unanswered:.3} of {all} got no answer");
        for (metric, rank) in metrics.into_iter().zip([500, 990, 999]) {
            turn.insert(metric, microseconds(&latencies, rank));
        }
    }
    Ok(())
}

fn connect_time(
    standing: &Standing<'_>,
    count: usize,
    turn: &mut Turn,
    notes: &mut Vec<String>,
) -> Result<()> {
    let connects = connects::run(&standing.lab.client.netns, standing.web(), count)?;
    let failed = connects.failed as f64 / count as f64;
    let why = connects.why.as_deref().unwrap_or_default();
    ensure!(failed <= UNANSWERED_MOST, "{} of {count} failed: {why}", connects.failed);
    if connects.failed > 0 {
        let label = standing.peer.label();
        notes.push(format!("{label}: {} of {count} connections failed: {why}", connects.failed));
    }
    turn.insert(Metric::ConnectP50, microseconds(&connects.connect, 500));
    turn.insert(Metric::ConnectP99, microseconds(&connects.connect, 990));
    turn.insert(Metric::AnswerP50, microseconds(&connects.first_answer, 500));
    turn.insert(Metric::AnswerP99, microseconds(&connects.first_answer, 990));
    Ok(())
}

fn microseconds(latencies: &Latencies, rank: usize) -> f64 {
    latencies.per_mille(rank) as f64 / 1e3
}

fn run_wrk(standing: &Standing<'_>, of: Use, span: Duration) -> Result<wrk::Done> {
    let lab = standing.lab;
    wrk::measure(&lab.client.netns, standing.web(), of, CONNECTIONS, span, lab.directory())
}

fn with_costs<T>(standing: &Standing<'_>, work: impl FnOnce() -> Result<T>) -> Result<Costs<T>> {
    let pids = standing.pids();
    let (busy, own) = (Busy::now()?, cpu::of_processes(&pids));
    let work = work()?;
    let machine = Busy::now()?.since(busy).seconds;
    Ok(Costs { work, machine, processes: cpu::of_processes(&pids) - own })
}
