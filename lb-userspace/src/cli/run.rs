//! `fairlead run`. I/O.

use anyhow::Result;
use clap::Args;

use super::ConfigOption;
use crate::daemon::{self, RunOptions};

/// Run the controller until SIGTERM, SIGINT or `fairlead stop`.
///
/// Loads the XDP program, owns the VIPs and probes the backends. SIGHUP reads the configuration
/// again; SIGUSR1 ends it and leaves the datapath for a successor. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead run --config /etc/fairlead/fairlead.yaml
  fairlead run --iface eth0 --iface eth1")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Attach XDP here instead of to the configuration's `interfaces`; may be repeated.
    #[arg(long = "iface", value_name = "IFACE")]
    interfaces: Vec<String>,
}

pub(super) fn run(Arguments { config, interfaces }: Arguments) -> Result<()> {
    daemon::run(&RunOptions { config: config.path, interfaces })
}
