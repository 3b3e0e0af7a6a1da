//! `fairlead cleanup`. I/O.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{print, print_json};
use crate::daemon;

/// Remove what a killed controller left: the XDP and tcx programs, their maps, the VIPs.
///
/// Ends all connections that it still forwards. Refused while a controller runs. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead cleanup")]
pub(super) struct Arguments {
    /// What was removed, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let removed = daemon::cleanup()?;
    if arguments.json {
        return print_json(&json!({ "removed": removed }));
    }
    if removed.is_empty() {
        return print("nothing was left behind\n");
    }
    print(&removed.iter().map(|what| format!("removed {what}\n")).collect::<String>())
}
