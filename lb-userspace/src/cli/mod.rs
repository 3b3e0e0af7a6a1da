//! The command line: one file for each subcommand. Called by `main`. I/O.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::admin::client::Client;
use crate::config::{DEFAULT_PATH, DEFAULT_SOCKET};

mod backend;
mod capture;
mod check;
mod cleanup;
mod completions;
mod config;
mod csv;
mod doctor;
mod drain;
mod events;
mod exit;
mod flows;
mod import;
mod man;
mod manifest;
mod packet_filters;
mod reload;
mod run;
mod status;
mod stop;
mod table;
mod top;
mod trace;
mod watch;

pub use exit::code;
use exit::{Negative, Usage};

/// Load balancer for kube-apiservers: XDP forwards, a controller decides.
#[derive(Debug, Parser)]
#[command(name = "fairlead", version, arg_required_else_help = true, after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Doctor(doctor::Arguments),
    Status(status::Arguments),
    Top(top::Arguments),
    #[command(subcommand)]
    Backend(backend::Command),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Flows(flows::Command),
    Trace(trace::Arguments),
    Capture(capture::Arguments),
    Reload(reload::Arguments),
    Events(events::Arguments),
    Drain(drain::Arguments),
    Stop(stop::Arguments),
    Cleanup(cleanup::Arguments),
    Import(import::Arguments),
    Manifest(manifest::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

#[derive(Debug, Args)]
struct ConfigOption {
    /// The configuration.
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_PATH)]
    path: PathBuf,
}

#[derive(Debug, Args)]
struct SocketOption {
    /// The controller's admin socket, `admin.socket` in its configuration.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

impl Cli {
    /// Does what the command says; [`code`] says what an error ends the program with.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run(arguments) => run::run(arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Doctor(arguments) => doctor::run(&arguments),
            Command::Status(arguments) => status::run(&arguments),
            Command::Top(arguments) => top::run(&arguments),
            Command::Backend(command) => backend::run(command),
            Command::Config(command) => config::run(&command),
            Command::Flows(command) => flows::run(command),
            Command::Trace(arguments) => trace::run(&arguments),
            Command::Capture(arguments) => capture::run(&arguments),
            Command::Reload(arguments) => reload::run(&arguments),
            Command::Events(arguments) => events::run(&arguments),
            Command::Drain(arguments) => drain::run(&arguments),
            Command::Stop(arguments) => stop::run(&arguments),
            Command::Cleanup(arguments) => cleanup::run(&arguments),
            Command::Import(arguments) => import::run(&arguments),
            Command::Manifest(arguments) => manifest::run(&arguments),
            Command::Completions(arguments) => completions::run(&arguments),
            Command::Man(arguments) => man::run(&arguments),
        }
    }
}

/// Completes a command line and ends the program, if it was started for that.
pub fn complete() {
    use clap::CommandFactory as _;
    clap_complete::CompleteEnv::with_factory(Cli::command).var(completions::VARIABLE).complete();
}

/// Asks the controller at `socket`.
fn ask<T>(socket: &Path, question: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?
        .block_on(question(Client::new(socket)))
}

/// Writes JSON to stdout, for programs and for eyes.
fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes to stdout. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

/// Says something on stderr that is not the end.
#[expect(clippy::print_stderr, reason = "where warnings of commands belong")]
fn warn(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests;
