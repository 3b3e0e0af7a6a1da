//! `fairlead reload`. I/O.

use anyhow::Result;
use clap::Args;

use super::{SocketOption, ask, print};

/// Have the controller read its configuration again, and print what changed.
///
/// A configuration with errors changes nothing: they are printed, and the exit code is 1.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let changes = ask(&arguments.socket.socket, async |client| client.reload().await)?;
    if changes.is_empty() {
        return print("nothing changed\n");
    }
    print(&(changes.join("\n") + "\n"))
}
