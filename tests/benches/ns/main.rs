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
mod measure;
mod reference;
mod report;
mod scenario;
mod table;
mod traffic;

use std::env;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use lb_common::nat::Kind;
use lb_tests::bpf;
use lb_tests::family::Family;
use nix::unistd::geteuid;
use serde_json::json;

use crate::beside::Beside;
use crate::report::{Ratio, Report};
use crate::scenario::Scenario;
use crate::table::Bench;

fn main() -> Result<()> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    ensure!(geteuid().is_root(), "loading a BPF program needs root: run this as root");
    let _measured = bpf::measure_run_time().context("switching run-time statistics on")?;
    let floor = bpf::Program::load(&bpf::XDP_TX).context("loading an XDP_TX program")?;
    let beside = arguments.beside.as_deref().map(Beside::open).transpose()?;
    let mut reports = vec![];
    for scenario in scenarios(arguments.only.as_deref()) {
        let is_compared = scenario.family == Family::V4 && scenario.is_usual();
        let beside = beside.as_ref().filter(|_| is_compared);
        let report = Bench { floor: floor.as_fd(), beside }
            .report(&scenario)
            .with_context(|| format!("measuring {scenario}"))?;
        println!("{report}");
        reports.push(report);
    }
    let ratios = compare::all(&reports);
    ratios.iter().for_each(|ratio| println!("{ratio}"));
    arguments.json.map_or(Ok(()), |path| write(&path, &reports, &ratios))
}

/// All, or the one of this name.
fn scenarios(only: Option<&str>) -> Vec<Scenario> {
    let modes = [Kind::Nat, Kind::Dnat, Kind::Dsr];
    let usual =
        Family::ALL.into_iter().flat_map(|family| modes.map(|mode| Scenario::new(family, mode)));
    let large =
        Scenario { flows: 1_000_000, backends: 1000, ..Scenario::new(Family::V4, Kind::Nat) };
    usual
        .chain([large])
        .filter(|scenario| only.is_none_or(|only| scenario.to_string() == only))
        .collect()
}

fn write(path: &Path, reports: &[Report], ratios: &[Ratio]) -> Result<()> {
    let json = json!({
        "reports": reports.iter().map(Report::json).collect::<Vec<_>>(),
        "ratios": ratios.iter().map(Ratio::json).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&json)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[derive(Default)]
struct Arguments {
    json: Option<PathBuf>,
    beside: Option<PathBuf>,
    only: Option<String>,
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
                "--beside" => arguments.beside = Some(value.into()),
                "--only" => arguments.only = Some(value),
                _ => bail!("unknown argument {arg}; there are --json, --beside and --only"),
            }
        }
        Ok(arguments)
    }
}
