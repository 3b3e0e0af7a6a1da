//! `cargo xtask lab`: a cluster's control plane in network namespaces, to play with or to be shown.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use lb_tests::topology::Arms;

pub(crate) mod binary;
mod demo;
mod hidden;
pub(crate) mod interrupt;
mod servers;
mod up;

/// What cannot be done without root ends with this.
const NEEDS_ROOT: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a lab that stays: client, LB node and three apiservers in namespaces
    Up(LabOptions),
    /// Remove what `up` built
    Down,
    /// Kill, drain and restart things under load, and count what is lost (about 40 s)
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Apiserver(hidden::ApiserverArgs),
    /// Load from inside a lab's client namespace; one line of JSON each second
    #[command(hide = true)]
    Load(hidden::LoadArgs),
}

/// What `up` and `demo` have in common.
#[derive(Debug, Args)]
struct LabOptions {
    /// Clients and backends on subnets of their own, joined only by the LB
    #[arg(long)]
    two_arm: bool,
    /// The controller to run, instead of building it
    #[arg(long, value_name = "PATH")]
    fairlead: Option<PathBuf>,
}

impl LabOptions {
    fn arms(&self) -> Arms {
        if self.two_arm { Arms::Two } else { Arms::One }
    }
}

/// Runs a subcommand of `lab`.
pub(crate) fn run(args: LabArgs) -> Result<ExitCode> {
    let needs_root = match &args.command {
        Command::Up(_) | Command::Down | Command::Demo(_) => true,
        Command::Apiserver(_) | Command::Load(_) => false,
    };
    if needs_root && !lb_tests::command::is_root() {
        eprintln!("The lab is made of network namespaces: run this as root.");
        return Ok(ExitCode::from(NEEDS_ROOT));
    }
    match args.command {
        Command::Up(options) => up::up(&options),
        Command::Down => up::down(),
        Command::Demo(args) => demo::run(&args),
        Command::Apiserver(args) => hidden::apiserver(&args),
        Command::Load(args) => hidden::load(&args),
    }
}
