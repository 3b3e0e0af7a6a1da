//! `fairlead reload`. I/O.

use anyhow::{Result, bail};
use clap::Args;

use super::{SocketOption, ask, print};

/// Have the controller read its configuration again, and print what changed.
///
/// A configuration with errors changes nothing: they are printed as FILE:LINE:COLUMN, and the exit code
/// is 1. So it is if something changed that only a new start can change.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead reload --dry-run
  fairlead reload")]
pub(super) struct Arguments {
    /// Print what would change, and change nothing.
    #[arg(long, visible_alias = "diff")]
    dry_run: bool,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { dry_run, json, socket } = arguments;
    let reloaded = ask(&socket.socket, async |client| client.reload(*dry_run).await)?;
    if *json {
        print(&(serde_json::to_string_pretty(&reloaded)? + "\n"))?;
    } else if reloaded.changes.is_empty() {
        print(if *dry_run { "nothing would change\n" } else { "nothing changed\n" })?;
    } else {
        print(&(reloaded.changes.join("\n") + "\n"))?;
    }
    match reloaded.refused {
        Some(why) => bail!("a reload would be refused: {why}"),
        None => Ok(()),
    }
}
