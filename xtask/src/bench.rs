//! `cargo xtask bench`: how fast it is.

use std::path::{PathBuf, absolute};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use crate::command::{capture, cargo, is_root, step, stream};
use crate::setup;

#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Nanoseconds per packet of the XDP program; needs root
    Ns {
        /// Write the figures to this file as well
        #[arg(long)]
        json: Option<PathBuf>,
        /// Compare with XDP programs pinned in this directory, which balance the same service: one for
        /// known flows, and for each of five rounds of three mixes one that has seen no flow
        #[arg(long)]
        beside: Option<PathBuf>,
        /// Only the table of this name, as "IPv4 nat"
        #[arg(long)]
        only: Option<String>,
    },
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let Bench::Ns { json, beside, only } = &args.bench;
    if !is_root() {
        bail!("measuring the XDP program needs root: run this as root");
    }
    setup::toolchain()?;
    let bench = ["bench", "--package", "lb-tests", "--bench", "ns"];
    step("compile", || capture(cargo(bench).arg("--no-run")))?;
    let mut command = cargo(bench);
    command.arg("--quiet");
    command.arg("--");
    // Cargo runs it in the package's directory.
    for (option, path) in [("--json", json), ("--beside", beside)] {
        if let Some(path) = path {
            let path = absolute(path).with_context(|| format!("find {}", path.display()))?;
            command.arg(option).arg(path);
        }
    }
    if let Some(only) = only {
        command.arg("--only").arg(only);
    }
    stream(&mut command)
}
