//! The `fairlead` program: parses the command line and does what it says. I/O.

use std::process::ExitCode;

use clap::Parser as _;
use env_logger::{Env, Target};
use fairlead::cli::Cli;

#[expect(clippy::print_stderr, reason = "where the errors of commands belong")]
fn main() -> ExitCode {
    fairlead::cli::complete();
    let cli = Cli::parse();
    // Colours only on a terminal; RUST_LOG chooses what is logged.
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .target(Target::Stderr)
        .init();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, is_said) = fairlead::cli::code(&error);
            if is_said {
                eprintln!("{error:#}");
            }
            ExitCode::from(code)
        }
    }
}
