use std::process::ExitCode;

use clap::Parser;

mod lab;

#[derive(Parser)]
enum Cli {
    Lab(lab::LabArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse() {
        Cli::Lab(args) => lab::run(args),
    }
}
