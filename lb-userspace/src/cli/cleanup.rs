//! `fairlead cleanup`. I/O.

use anyhow::Result;
use clap::Args;

use crate::daemon;

/// Remove what a killed controller left: the XDP program, its maps, the VIPs.
///
/// Ends all connections that it still forwards. Refused while a controller runs. Needs root.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(Arguments {}: &Arguments) -> Result<()> {
    let removed = daemon::cleanup()?;
    if removed.is_empty() {
        println!("nothing was left behind");
    }
    for what in removed {
        println!("removed {what}");
    }
    Ok(())
}
