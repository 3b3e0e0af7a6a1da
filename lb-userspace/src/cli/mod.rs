//! The command line: one file for each subcommand. Called by `main`. I/O.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::admin::client::Client;
use crate::config::{DEFAULT_PATH, DEFAULT_SOCKET};

mod backend;
mod check;
mod cleanup;
mod drain;
mod events;
mod reload;
mod run;
mod status;
mod stop;

/// Load balancer for kube-apiservers: XDP forwards, a controller decides.
#[derive(Debug, Parser)]
#[command(name = "fairlead", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Status(status::Arguments),
    #[command(subcommand)]
    Backend(backend::Command),
    Reload(reload::Arguments),
    Events(events::Arguments),
    Drain(drain::Arguments),
    Stop(stop::Arguments),
    Cleanup(cleanup::Arguments),
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
    /// Does what the command says; an error ends the program with 1.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run(arguments) => run::run(arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Status(arguments) => status::run(&arguments),
            Command::Backend(command) => backend::run(command),
            Command::Reload(arguments) => reload::run(&arguments),
            Command::Events(arguments) => events::run(&arguments),
            Command::Drain(arguments) => drain::run(&arguments),
            Command::Stop(arguments) => stop::run(&arguments),
            Command::Cleanup(arguments) => cleanup::run(&arguments),
        }
    }
}

/// Asks the controller at `socket`.
fn ask<T>(socket: &Path, question: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?
        .block_on(question(Client::new(socket)))
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
