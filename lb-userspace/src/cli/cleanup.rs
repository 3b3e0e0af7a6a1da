//! `fairlead cleanup`. I/O.

use anyhow::Result;
use clap::Args;

use super::print;
use crate::daemon;

/// Remove what a killed controller left: the XDP program, its maps, the VIPs.
///
/// Ends all connections that it still forwards. Refused while a controller runs. Needs root.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(Arguments {}: &Arguments) -> Result<()> {
    let removed = daemon::cleanup()?;
    if removed.is_empty() {
        return print("nothing was left behind\n");
    }
    print(&removed.iter().map(|what| format!("removed {what}\n")).collect::<String>())
}
