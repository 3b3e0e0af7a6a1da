//! `cargo xtask bench ns`: nanoseconds per packet of the XDP program.
//!
//! Each frame is run once, as it came: a program that is repeated works on what it has just rewritten,
//! and takes a cheaper path. The time is the kernel's own (BPF_ENABLE_STATS), less that of a program
//! that does nothing but send, which runs on the same frames in turns with ours.

#![expect(clippy::print_stdout, reason = "its reader sits at a terminal")]

mod datapath;
mod measure;
mod reference;
mod report;
mod scenario;
mod traffic;

use std::env;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use lb_tests::bpf;
use nix::unistd::geteuid;

use crate::datapath::Datapath;
use crate::measure::{DROP, PASS, Round, TX};
use crate::reference::Reference;
use crate::report::{Figure, Goal, Report};
use crate::scenario::{SCENARIOS, Scenario, Step};
use crate::traffic::{Frames, Voices};

const FLOWS: u16 = 60_000;
const MIX_PACKETS: usize = 200_000;
/// Each needs a program of its own, whose tables are empty.
const MIX_ROUNDS: usize = 5;

fn main() -> Result<()> {
    let json = json_path(env::args().skip(1))?;
    ensure!(geteuid().is_root(), "loading a BPF program needs root: run this as root");
    let _measured = bpf::measure_run_time().context("switching run-time statistics on")?;
    let floor = bpf::Program::load(&bpf::XDP_TX).context("loading an XDP_TX program")?;
    let mut reports = vec![];
    for scenario in SCENARIOS {
        let report = report(scenario, floor.as_fd())
            .with_context(|| format!("measuring {}", scenario.name))?;
        println!("{report}");
        reports.push(report.json());
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&reports)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The argument of `--json`. Cargo adds `--bench`.
fn json_path(args: impl Iterator<Item = String>) -> Result<Option<PathBuf>> {
    let mut args = args.filter(|arg| arg != "--bench");
    let Some(arg) = args.next() else {
        return Ok(None);
    };
    if arg != "--json" {
        bail!("unknown argument {arg}; there is --json FILE");
    }
    Ok(Some(args.next().context("--json needs a file")?.into()))
}

fn report(scenario: Scenario, floor: BorrowedFd<'_>) -> Result<Report> {
    let hot = Goal { most: Some(58.0), aim: Some(43.0) };
    let known = Goal { most: Some(150.0), aim: None };
    let mixed = Goal { most: Some(400.0), aim: Some(290.0) };
    let not_ours = Goal { most: Some(15.0), aim: None };

    let datapath = Datapath::load(scenario)?;
    let program = datapath.program()?;
    let flows = traffic::open(program, FLOWS).context("opening flows")?;
    let one = |step| Ok::<_, anyhow::Error>(Frames::one(&flows[0].frame(step).context("no flow")?));
    let requests = traffic::scattered(&flows, Step::Request)?;
    let replies = traffic::scattered(&flows, Step::Reply)?;
    let mut figures = reference(floor, &requests, &replies).context("measuring one lookup")?;
    let steady = [
        ("hot flow, request", hot, one(Step::Request)?, TX),
        ("hot flow, reply", hot, one(Step::Reply)?, TX),
        ("60,000 flows, requests", known, requests, TX),
        ("60,000 flows, replies", known, replies, TX),
        ("not for a VIP", not_ours, Frames::one(&scenario::to_another()), PASS),
        ("not IP", not_ours, Frames::one(&scenario::arp()), PASS),
        ("dropped: a fragment to a VIP", Goal::default(), Frames::one(&scenario::fragment()), DROP),
    ];
    for (name, goal, frames, action) in steady {
        let rounds = measure::rounds(program, floor, &frames, action).context(name)?;
        figures.push(Figure { name, goal, rounds });
    }
    let size = bpf::info(program)?;
    for (name, voices) in
        [("mix, 30 % new", Voices::Both), ("mix, 30 % new, clients alone", Voices::Client)]
    {
        let rounds = mix(scenario, floor, voices).context(name)?;
        figures.push(Figure { name, goal: mixed, rounds });
    }
    Ok(Report::new(scenario.name, size, figures))
}

/// One lookup alone, of one flow and of many.
fn reference(floor: BorrowedFd<'_>, requests: &Frames, replies: &Frames) -> Result<Vec<Figure>> {
    let reference = Reference::load(&[requests, replies])?;
    let hot = requests.iter().next().map(Frames::one).context("no frames")?;
    let hot = measure::rounds(reference.program(), floor, &hot, TX)?;
    let known = measure::rounds(reference.program(), floor, requests, TX)?;
    let figure = |name, rounds| Figure { name, goal: Goal::default(), rounds };
    Ok(vec![
        figure("(one lookup alone, hot)", hot),
        figure("(one lookup alone, 60,000 flows)", known),
    ])
}

/// Recorded on one program, then run on others that have not seen any of it.
fn mix(scenario: Scenario, floor: BorrowedFd<'_>, voices: Voices) -> Result<Vec<Round>> {
    let teacher = Datapath::load(scenario)?;
    let frames = traffic::mix(teacher.program()?, FLOWS, MIX_PACKETS, voices)?;
    drop(teacher);
    (0..MIX_ROUNDS)
        .map(|_| {
            let datapath = Datapath::load(scenario)?;
            measure::once(datapath.program()?, floor, &frames)
        })
        .collect()
}
