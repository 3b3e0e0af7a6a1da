//! `fairlead backend …`. I/O.

use std::str::FromStr;

use anyhow::Result;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use super::{SocketOption, ask, completions, print, print_json, warn};
use crate::admin::model::{Admin, BackendChange};

/// Take backends out, put them back, or change their share.
///
/// Lasts until it is undone, over reloads, restarts and upgrades; `status` shows what is overridden, by
/// whom and since when. A name is SERVICE/BACKEND, as `status` shows it.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  fairlead backend drain kube-apiserver/cp1
  fairlead backend weight kube-apiserver/cp1 50
  fairlead backend enable kube-apiserver/cp1 --json")]
pub(super) enum Command {
    /// No new connections; those there are go on.
    Drain(Target),
    /// Undo `drain` and `disable`.
    ///
    /// Works for a backend that is no longer configured too, and forgets it.
    Enable(Target),
    /// As if the backend were down, whatever its probes say.
    Disable(Target),
    /// Set the share of new connections: 100 is the usual one, 0 none.
    Weight(Weight),
    /// Undo everything that was said of a backend.
    Reset(Target),
}

#[derive(Debug, Args)]
pub(super) struct Target {
    #[arg(value_name = "SERVICE/BACKEND", add = ArgValueCandidates::new(completions::backends))]
    name: Name,
    /// What was changed, as JSON; its keys stay as they are, and others may come.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Args)]
pub(super) struct Weight {
    #[command(flatten)]
    target: Target,
    #[arg(
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(0..=1000),
        required_unless_present = "reset",
    )]
    weight: Option<u16>,
    /// Go back to the configured weight.
    #[arg(long, conflicts_with = "weight")]
    reset: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    service: String,
    backend: String,
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((service, backend))
                if !service.is_empty() && !backend.is_empty() && !backend.contains('/') =>
            {
                Ok(Self { service: service.to_owned(), backend: backend.to_owned() })
            }
            _ => Err("give SERVICE/BACKEND, such as kube-apiserver/cp1"),
        }
    }
}

pub(super) fn run(command: Command) -> Result<()> {
    let nothing = BackendChange::default();
    let admin = |admin| BackendChange { admin: Some(admin), ..nothing };
    let (target, change) = match command {
        Command::Drain(target) => (target, admin(Admin::Draining)),
        Command::Enable(target) => (target, admin(Admin::Enabled)),
        Command::Disable(target) => (target, admin(Admin::Disabled)),
        Command::Weight(Weight { target, weight, reset }) => {
            (target, BackendChange { weight, reset_weight: reset, ..nothing })
        }
        Command::Reset(target) => {
            (target, BackendChange { reset_weight: true, ..admin(Admin::Enabled) })
        }
    };
    let Name { service, backend } = &target.name;
    let changed = ask(&target.socket.socket, async |client| {
        client.set_backend(service, backend, &change).await
    })?;
    if target.json {
        return print_json(&serde_json::to_value(&changed)?);
    }
    print(&format!("{service}/{backend}: {}\n", describe(&change)))?;
    if let Some(why) = changed.not_kept {
        warn(&format!(
            "done, but it will be forgotten when the controller is started again: {why}"
        ));
    }
    Ok(())
}

fn describe(change: &BackendChange) -> String {
    let words = [
        change.admin.map(|admin| admin.as_str().to_owned()),
        change.weight.map(|weight| format!("weight {weight}")),
        change.reset_weight.then(|| "weight as configured".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
