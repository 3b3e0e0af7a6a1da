//! `fairlead drain`. I/O.

use anyhow::{Result, bail};
use clap::Args;

use super::SocketOption;

/// Give the VIPs to the other node and keep running. Not available yet: it needs VRRP.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(_: &Arguments) -> Result<()> {
    bail!(
        "drain needs VRRP, which is not available yet: no other node could take the VIPs; to take \
         one backend out, use `fairlead backend drain SERVICE/BACKEND`"
    )
}
