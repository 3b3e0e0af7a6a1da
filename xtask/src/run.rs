//! `cargo xtask run`: builds all and becomes `fairlead run`, as root.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::command::{find, is_root, show};
use crate::{build, setup};

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Interface that XDP attaches to; may be repeated
    #[arg(long, required = true)]
    iface: Vec<String>,
    /// Configuration [default: /etc/fairlead/fairlead.yaml]
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &RunArgs) -> Result<()> {
    setup::toolchain()?;
    println!("building fairlead (release)");
    let binary = build::release()?;
    let mut command = if is_root() {
        Command::new(&binary)
    } else if let Some(sudo) = find("sudo") {
        let mut command = Command::new(sudo);
        command.arg(&binary);
        command
    } else {
        bail!("fairlead needs root, and there is no sudo: run this as root");
    };
    command.arg("run");
    for interface in &args.iface {
        command.args(["--iface", interface]);
    }
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    println!("$ {}", show(&command));
    // In place of this process, so that signals reach the controller. It returns only if it fails.
    Err(command.exec()).with_context(|| format!("start {}", binary.display()))
}
