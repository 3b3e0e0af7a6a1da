//! `cargo xtask bench`: Fairlead beside HAProxy, the kernel's NAT and nothing at all, in one run.

#![expect(clippy::disallowed_methods, reason = "what measures time reads the clock")]

mod chart;
mod correct;
mod cpu;
mod effort;
mod failover;
mod findings;
pub(crate) mod form;
mod goals;
mod growth;
mod lab;
mod looking;
mod machine;
mod memory;
mod metric;
mod ns;
mod number;
mod observed;
mod packets;
mod page;
mod peer;
mod progress;
mod samples;
mod section;
mod stats;
mod table;
mod traffic;
mod turn;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use lb_tests::topology;

use self::effort::Effort;
use self::findings::Findings;
use self::lab::Fabric;
use self::machine::Machine;
use self::peer::Peer;
use self::progress::Progress;
use crate::build;
use crate::command::is_root;
use crate::lab::binary;
use crate::setup;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    alone: Option<Alone>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Alone {
    /// Nanoseconds per packet of the XDP program alone, in full; needs root
    Ns(ns::NsArgs),
}

/// What to measure, and where the figures go.
#[derive(Args)]
struct Options {
    /// Fewer and shorter rounds: two minutes at most in place of ten
    #[arg(long)]
    quick: bool,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write index.html, with charts and all figures, into this directory
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    only: Vec<Part>,
    /// Only these peers in the rounds
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEER,…")]
    peers: Vec<Peer>,
    /// How many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// What runs at the bridge's ends of all links in the rounds
    #[arg(long, value_enum, default_value_t)]
    fabric: Fabric,
    /// The controller to run, instead of building it
    #[arg(long, value_name = "PATH")]
    fairlead: Option<PathBuf>,
    /// One round, as short as can be: to see that all works
    #[arg(long, hide = true)]
    least: bool,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput, connections, requests, latency, CPU
    Traffic,
    /// Nanoseconds per packet
    Ns,
    /// Packets a second on one core
    Packets,
    /// What counting, scrapes and following packets cost; with it, packets a second
    Looking,
    /// How cost grows with flows, backends and services
    Growth,
    /// What outages cost
    Failover,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if !is_root() {
        bail!("measuring needs root, for network namespaces and XDP: run this as root");
    }
    match &args.alone {
        Some(Alone::Ns(args)) => ns::run(args),
        None => compare(&args.options),
    }
}

impl Options {
    fn effort(&self) -> Effort {
        let effort = match (self.least, self.quick) {
            (true, _) => Effort::LEAST,
            (false, true) => Effort::QUICK,
            (false, false) => Effort::FULL,
        };
        Effort { rounds: self.rounds.unwrap_or(effort.rounds), ..effort }
    }

    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn peers(&self) -> Vec<Peer> {
        let wanted = |peer: &Peer| self.peers.is_empty() || self.peers.contains(peer);
        Peer::ALL.into_iter().filter(wanted).collect()
    }
}

fn compare(options: &Options) -> Result<()> {
    let effort = options.effort();
    ensure!(effort.rounds > 0, "--rounds 0 measures nothing");
    setup::everything()?;
    let binary = binary::fairlead(options.fairlead.as_deref())?;
    if [Part::Ns, Part::Growth, Part::Looking].iter().any(|part| options.has(*part)) {
        println!("Building the bench of the XDP program …");
        ns::compile()?;
    }
    topology::remove_stale()?;
    let progress = Progress::start(effort.limit)?;
    let mut findings = Findings {
        machine: Machine::look()?,
        versions: machine::versions(&binary),
        started: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        quick: options.quick,
        peers: options.peers(),
        fabric: options.fabric,
        ..Findings::default()
    };
    if !machine::has_ipvs() {
        findings.unavailable.insert("ipvs", "this kernel has no IPVS");
    }
    measure(options, &effort, &binary, &progress, &mut findings)?;
    findings.seconds = progress.elapsed().as_secs_f64();
    progress.end();
    write(options, &findings)
}

fn measure(
    options: &Options,
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    findings: &mut Findings,
) -> Result<()> {
    if options.has(Part::Traffic) {
        traffic::run(findings, effort, binary, progress)?;
    }
    let quick = effort.rounds < Effort::FULL.rounds;
    // With the seconds that each takes at most, in a quick run and else.
    let parts: [(Part, [u64; 2], Measure); 5] = [
        (Part::Packets, [6, 15], measure_packets),
        (Part::Looking, [50, 90], measure_looking),
        (Part::Ns, [25, 90], measure_ns),
        (Part::Failover, [45, 50], measure_failover),
        (Part::Growth, [90, 90], measure_growth),
    ];
    for (part, [short, long], measure) in parts {
        let least = Duration::from_secs(if quick { short } else { long });
        // What is asked for by name is measured, however short the run.
        let is_wanted = options.only.contains(&part) || (options.has(part) && !options.least);
        let is_long = [Part::Growth, Part::Looking].contains(&part);
        let is_left_out = quick && options.only.is_empty() && is_long;
        if !is_wanted || is_left_out {
            continue;
        }
        if !progress.has(least) {
            findings.notes.push(format!("{part:?}: not measured: no time left"));
            continue;
        }
        if let Err(error) = measure(effort, binary, progress, findings) {
            // Unless somebody wants it all to end.
            progress.step("")?;
            findings.notes.push(format!("{part:?}: not measured: {error:#}"));
        }
    }
    Ok(())
}

/// Measures a part of a run.
type Measure = fn(&Effort, &Path, &Progress, &mut Findings) -> Result<()>;

fn measure_ns(effort: &Effort, _: &Path, progress: &Progress, found: &mut Findings) -> Result<()> {
    progress.part("nanoseconds per packet")?;
    let family = (effort.rounds < Effort::FULL.rounds).then_some(4);
    found.ns_per_packet = ns::brief(effort.ns_runs, family)?;
    Ok(())
}

fn measure_packets(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    progress.part("packets a second")?;
    found.packets = packets::run(binary, effort.rounds, effort.packets, progress)?;
    Ok(())
}

fn measure_looking(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    progress.part("what looking costs")?;
    let uncounted = build::uncounted()?;
    if found.packets.is_empty() {
        measure_packets(effort, binary, progress, found)?;
    }
    found.looking = looking::run(binary, &uncounted, effort.ns_runs, progress)?;
    Ok(())
}

fn measure_failover(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    found.outages = failover::run(binary, effort.outage, progress)?;
    Ok(())
}

fn measure_growth(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    let few = effort.rounds < Effort::FULL.rounds;
    found.growth = growth::run(binary, few, progress, &mut found.notes)?;
    progress.part("growth: flows and tables, of the XDP program")?;
    (found.ns_by_flows, found.tables) = ns::growth(effort.ns_runs)?;
    Ok(())
}

fn write(options: &Options, findings: &Findings) -> Result<()> {
    println!("{}\n\n{}", findings.machine.describe(), table::render(findings));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&findings.json())? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(directory) = &options.report {
        let path = directory.join("index.html");
        let page = page::render(findings)?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, page))
            .with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
