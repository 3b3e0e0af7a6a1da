//! `fairlead backend …`. I/O.

use std::str::FromStr;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{SocketOption, ask, print};
use crate::admin::model::{Admin, BackendChange};

/// Take backends out, put them back, or change their share.
///
/// Lasts until the next command for the backend. A name is SERVICE/BACKEND, as `status` shows it.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// No new connections; those there are go on.
    Drain(Target),
    /// Undo `drain` and `disable`.
    Enable(Target),
    /// As if the backend were down, whatever its probes say.
    Disable(Target),
    /// Set the share of new connections: 100 is the usual one, 0 none.
    Weight(Weight),
}

#[derive(Debug, Args)]
pub(super) struct Target {
    #[arg(value_name = "SERVICE/BACKEND")]
    name: Name,
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Args)]
pub(super) struct Weight {
    #[command(flatten)]
    target: Target,
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    weight: u16,
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
    let admin = |admin| BackendChange { admin: Some(admin), weight: None };
    let (target, change) = match command {
        Command::Drain(target) => (target, admin(Admin::Draining)),
        Command::Enable(target) => (target, admin(Admin::Enabled)),
        Command::Disable(target) => (target, admin(Admin::Disabled)),
        Command::Weight(Weight { target, weight }) => {
            (target, BackendChange { admin: None, weight: Some(weight) })
        }
    };
    let Name { service, backend } = &target.name;
    ask(&target.socket.socket, async |client| client.set_backend(service, backend, &change).await)?;
    let said = match (change.admin, change.weight) {
        (Some(admin), _) => admin.as_str().to_owned(),
        (None, Some(weight)) => format!("weight {weight}"),
        (None, None) => "unchanged".to_owned(),
    };
    print(&format!("{service}/{backend}: {said}\n"))
}
