//! `fairlead doctor`. I/O.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{Negative, SocketOption, print, print_json};
use crate::doctor::{self, Options, Severity};

/// Look at the machine, and say what is wrong, why that matters and what to type.
///
/// Works before a controller was ever started (with --config) and beside one that runs, which it asks too.
/// Changes nothing, and takes a few seconds. Run it as root: others may not look at everything. The exit
/// code is 4 if there is a problem; warnings are none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead doctor
  fairlead doctor --config new.yaml --probe --all
  fairlead doctor --json | jq '.findings[] | select(.severity == \"problem\")'")]
pub(super) struct Arguments {
    /// The configuration; not given: what the controller has read, else /etc/fairlead/fairlead.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at this interface instead of the configuration's `interfaces`; may be repeated.
    #[arg(long = "iface", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Ask on the link who has the VIPs (ARP, neighbour solicitations), which others can see.
    #[arg(long)]
    probe: bool,
    /// Show what is as it should be, too.
    #[arg(long)]
    all: bool,
    /// As JSON; its keys and the names of findings stay as they are, and others may come.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { config, interfaces, probe, all, json, socket } = arguments;
    let options = Options {
        config: config.clone(),
        interfaces: interfaces.clone(),
        socket: socket.socket.clone(),
        probe: *probe,
    };
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?
        .block_on(doctor::examine(&options))?;
    if *json {
        print_json(&serde_json::to_value(&report)?)?;
    } else {
        print(&report.show(*all))?;
    }
    if report.count(Severity::Problem) > 0 {
        bail!(Negative);
    }
    Ok(())
}
