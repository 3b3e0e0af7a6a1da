//! What cargo has no verb for: set-up, tests that need root, the lab.

#![expect(clippy::print_stdout, reason = "its reader sits at a terminal")]

mod bench;
mod build;
mod check;
mod command;
mod dist;
mod lab;
#[path = "../../lb-userspace/build/object.rs"]
mod object;
mod purity;
mod run;
mod setup;
mod test;
#[path = "../../lb-userspace/build/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
enum Task {
    /// Install what building and testing need, where it is missing
    Setup,
    /// Build the controller, XDP program included
    Build(build::BuildArgs),
    /// Build all and run the controller as root
    Run(run::RunArgs),
    /// Make the manual, completions and the Debian package
    Dist(dist::DistArgs),
    /// Run the tests; datapath, netns and packages need root
    Test(test::TestArgs),
    /// Run what CI runs before the tests that need root
    Check,
    /// Check that the files marked pure are
    Purity,
    /// Compare Fairlead with HAProxy, nftables and nothing on the same work; needs root
    ///
    /// All peers take turns in every round (A B C D, A B C D, …); printed are medians, and what differs too much
    /// between the rounds is marked. Loaded latency is measured by an open loop at one rate of requests for
    /// every peer, 60 % of what HAProxy can: a request's latency counts from when it was due. All run on this
    /// machine's CPUs; what a balancer needs is what they were busy longer than without one, for the same work.
    Bench(bench::BenchArgs),
    /// Build a lab of namespaces, or run the demonstration in it
    Lab(lab::LabArgs),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Setup => setup::run(),
        Task::Build(args) => build::run(&args),
        Task::Run(args) => run::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Check => check::run(),
        Task::Purity => purity::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Lab(args) => return lab(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lab(args: lab::LabArgs) -> ExitCode {
    lab::run(args).unwrap_or_else(|error| {
        println!("\nxtask: {error:#}");
        ExitCode::FAILURE
    })
}
