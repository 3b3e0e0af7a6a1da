//! `cargo xtask bench ns`: nanoseconds per packet of the XDP program.
//!
//! Each frame is run once, as it came: a program that is repeated works on what it has just rewritten,
//! and takes a cheaper path. The time is the kernel's own (BPF_ENABLE_STATS), less that of a program
//! that does nothing but send, which runs on the same frames in turns with ours.

#![expect(clippy::print_stdout, reason = "its reader sits at a terminal")]

mod beside;
mod compare;
mod datapath;
mod flow;
mod lookups;
mod measure;
mod observed;
mod rebuild;
mod reference;
mod report;
mod scenario;
mod table;
mod traffic;

use std::env;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use lb_common::nat::Kind;
use lb_tests::bpf;
use lb_tests::family::Family;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::lookups::Lookups;
use crate::observed::Observed;
use crate::report::{Ratio, Report};
use crate::scenario::Scenario;
use crate::table::{Bench, Extent};

/// Known flows whose numbers show how cost grows; three backends would have ports for 193,000 of them.
const GROWTH: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() -> Result<()> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    ensure!(geteuid().is_root(), "loading a BPF program needs root: run this as root");
    let _measured = bpf::measure_run_time().context("switching run-time statistics on")?;
    let floor = bpf::Program::load(&bpf::XDP_TX).context("loading an XDP_TX program")?;
    if let Some(uncounted) = &arguments.uncounted {
        return observe(&arguments, floor.as_fd(), uncounted);
    }
    let object = arguments.object.as_deref().map_or_else(
        || Ok(fairlead::datapath::OBJECT.to_vec()),
        |path| fs::read(path).with_context(|| format!("reading {}", path.display())),
    )?;
    let beside = arguments.beside.as_deref().map(Beside::open).transpose()?;
    let mut reports = vec![];
    let extent = arguments.extent.unwrap_or(Extent::Full);
    for scenario in arguments.scenarios() {
        let is_compared = scenario.family == Family::V4 && scenario.is_usual();
        let beside = beside.as_ref().filter(|_| is_compared);
        let report = Bench { floor: floor.as_fd(), object: &object, beside, extent }
            .report(&scenario)
            .with_context(|| format!("measuring {scenario}"))?;
        println!("{report}");
        reports.push(report);
    }
    if extent == Extent::Full {
        println!("{Lookups}");
    }
    let ratios = compare::all(&reports);
    ratios.iter().for_each(|ratio| println!("{ratio}"));
    arguments.json.map_or(Ok(()), |path| write(&path, &reports, &ratios))
}

fn write(path: &Path, reports: &[Report], ratios: &[Ratio]) -> Result<()> {
    let json = json!({
        "reports": reports.iter().map(Report::json).collect::<Vec<_>>(),
        "ratios": ratios.iter().map(Ratio::json).collect::<Vec<_>>(),
        "tables": rebuild::all(),
    });
    write_json(path, &json)
}

fn write_json(path: &Path, json: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// What looking costs, and nothing else.
fn observe(arguments: &Arguments, floor: BorrowedFd<'_>, uncounted: &Path) -> Result<()> {
    let object = fs::read(uncounted).with_context(|| format!("reading {}", uncounted.display()))?;
    let runs = match arguments.extent {
        Some(Extent::Brief(runs)) => runs,
        None | Some(Extent::Full | Extent::Known(_)) => measure::RUNS,
    };
    let observed = observed::all(floor, &object, runs)?;
    let [what, with, without, more] = ["ns per packet, floor included", "with", "without", "more"];
    println!("{what:<64}{with:>8}{without:>8}{more:>8}");
    observed.iter().for_each(|observed| println!("{observed}"));
    let json = json!({ "observed": observed.iter().map(Observed::json).collect::<Vec<_>>() });
    arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &json))
}

/// Each family with each mode.
fn usual() -> impl Iterator<Item = Scenario> {
    let modes = [Kind::Nat, Kind::Dnat, Kind::Dsr];
    Family::ALL.into_iter().flat_map(move |family| modes.map(|mode| Scenario::new(family, mode)))
}

fn family(name: &str) -> Result<Family> {
    match name {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => bail!("there is no family {name}"),
    }
}

#[derive(Default)]
struct Arguments {
    json: Option<PathBuf>,
    /// Another build of the program, in place of the one that is released.
    object: Option<PathBuf>,
    beside: Option<PathBuf>,
    /// An object that counts nothing: what that saves is all that is measured.
    uncounted: Option<PathBuf>,
    only: Option<String>,
    family: Option<Family>,
    extent: Option<Extent>,
}

impl Arguments {
    /// Cargo adds `--bench`.
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = args.filter(|arg| arg != "--bench");
        let mut arguments = Self::default();
        while let Some(arg) = args.next() {
            let value = args.next().with_context(|| format!("{arg} needs a value"))?;
            match arg.as_str() {
                "--json" => arguments.json = Some(value.into()),
                "--object" => arguments.object = Some(value.into()),
                "--beside" => arguments.beside = Some(value.into()),
                "--uncounted" => arguments.uncounted = Some(value.into()),
                "--only" => arguments.only = Some(value),
                "--family" => arguments.family = Some(family(&value)?),
                "--brief" => arguments.extent = Some(Extent::Brief(value.parse()?)),
                "--growth" => arguments.extent = Some(Extent::Known(value.parse()?)),
                _ => bail!(
                    "unknown argument {arg}; there are --json FILE, --object FILE, \
                     --beside DIRECTORY, --uncounted FILE, --only NAME, --family 4|6, --brief RUNS and --growth RUNS"
                ),
            }
        }
        Ok(arguments)
    }

    /// In order; those that were asked for.
    fn scenarios(&self) -> Vec<Scenario> {
        let nat = Scenario::new(Family::V4, Kind::Nat);
        let all: Vec<Scenario> = match self.extent.unwrap_or(Extent::Full) {
            Extent::Full => {
                let large = Scenario { flows: 1_000_000, backends: 1000, ..nat };
                usual().chain([large]).collect()
            }
            Extent::Brief(_) => usual().collect(),
            Extent::Known(_) => GROWTH.map(|flows| Scenario { flows, backends: 100, ..nat }).into(),
        };
        let is_wanted = |scenario: &Scenario| {
            self.only.as_ref().is_none_or(|only| scenario.to_string() == *only)
                && self.family.is_none_or(|family| scenario.family == family)
        };
        all.into_iter().filter(is_wanted).collect()
    }
}
