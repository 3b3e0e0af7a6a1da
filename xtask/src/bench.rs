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
    },
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let Bench::Ns { json } = &args.bench;
    if !is_root() {
        bail!("measuring the XDP program needs root: run this as root");
    }
    setup::toolchain()?;
    let bench = ["bench", "--package", "lb-tests", "--bench", "ns"];
    step("compile", || capture(cargo(bench).arg("--no-run")))?;
    let mut command = cargo(bench);
    command.arg("--quiet");
    if let Some(json) = json {
        // Cargo runs it in the package's directory.
        let json = absolute(json).with_context(|| format!("find {}", json.display()))?;
        command.args(["--", "--json"]).arg(json);
    }
    stream(&mut command)
}
