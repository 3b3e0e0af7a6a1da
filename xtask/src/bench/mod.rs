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
mod part;
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
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use lb_tests::topology;

use self::effort::Effort;
use self::findings::Findings;
use self::lab::Fabric;
use self::machine::Machine;
use self::part::Part;
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
    /// Traffic, packets and nanoseconds alone, in fewer and shorter rounds: two minutes at most in
    /// place of ten
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

    /// What is asked for by name is measured, however short the run.
    fn wants(&self, part: Part) -> bool {
        if !self.only.is_empty() {
            return self.only.contains(&part);
        }
        if self.least { part == Part::Traffic } else { part.is_usual(self.quick) }
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
    if [Part::Ns, Part::Growth, Part::Looking].into_iter().any(|part| options.wants(part)) {
        println!("Building the bench of the XDP program …");
        ns::compile()?;
    }
    if options.wants(Part::Looking) {
        // Again when it is measured, which finds it built: what is built by then takes none of the time.
        build::uncounted()?;
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
    for part in Part::order(options.quick) {
        if options.wants(part) {
            part.measure_in_time(&effort, &binary, &progress, &mut findings)?;
        }
    }
    findings.seconds = progress.elapsed().as_secs_f64();
    progress.end();
    write(options, &findings)?;
    let is_empty = options.wants(Part::Traffic) && findings.samples.rounds() == 0;
    ensure!(!is_empty, "no peer could be measured: {}", findings.notes.join("; "));
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
