//! `cargo xtask build`: the controller, after what it needs has been installed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::command::{capture, cargo, stream, target_dir};
use crate::object::Programs;
use crate::toolchain::{Toolchain, find_linker};
use crate::{command, setup};

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Build with optimisations
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &BuildArgs) -> Result<()> {
    setup::toolchain()?;
    let mut command = cargo(["build", "--package", "lb-userspace"]);
    let profile = if args.release { "release" } else { "debug" };
    if args.release {
        command.arg("--release");
    }
    stream(&mut command)?;
    println!("{}", target_dir()?.join(profile).join("fairlead").display());
    Ok(())
}

/// The released binary.
pub(crate) fn release() -> Result<PathBuf> {
    capture(&mut cargo(["build", "--release", "--package", "lb-userspace"]))?;
    Ok(target_dir()?.join("release/fairlead"))
}

/// A released binary that lays out its flows differently: upgrades from one layout to the other
/// are tested with it. Built where the other is, since all but two crates are shared, then copied.
pub(crate) fn second_layout() -> Result<PathBuf> {
    let features = ["--features", "second-layout"];
    let mut command = cargo(["build", "--release", "--package", "lb-userspace"]);
    capture(command.args(features))?;
    let target = target_dir()?;
    let directory = target.join("second-layout");
    let binary = directory.join("fairlead");
    fs::create_dir_all(&directory)
        .and_then(|()| fs::copy(target.join("release/fairlead"), &binary))
        .with_context(|| format!("copy to {}", binary.display()))?;
    Ok(binary)
}

/// The XDP program that counts nothing: what counting costs is measured beside it. Nothing else is built.
pub(crate) fn uncounted() -> Result<PathBuf> {
    let (toolchain, linker) = (Toolchain::find()?, find_linker()?);
    let programs = Programs {
        toolchain: &toolchain,
        linker: &linker,
        root: command::root(),
        target_dir: &target_dir()?.join("uncounted"),
        arch: std::env::consts::ARCH,
        feature: Some("uncounted"),
    };
    programs.build()?;
    Ok(programs.built("fairlead-xdp"))
}
