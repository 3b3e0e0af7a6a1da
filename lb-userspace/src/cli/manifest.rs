//! `fairlead manifest`. I/O; its parts are not.

use std::env;
use std::fs;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::{ConfigOption, print, warn};
use crate::config::load::load_with_files;

mod containerfile;
mod static_pod;
mod systemd;

/// Where the packages and images have the program.
const PROGRAM: &str = "/usr/sbin/fairlead";

/// Print what runs the controller: a unit, a pod, or the image for the pod.
///
/// For this configuration as it is on this node. Nothing is changed or installed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead manifest systemd > /etc/systemd/system/fairlead.service
  fairlead manifest containerfile | podman build -t fairlead -f - /
  fairlead manifest static-pod --image registry.example/fairlead:0.1.0 > /etc/kubernetes/manifests/fairlead.yaml")]
pub(super) struct Arguments {
    kind: Kind,
    /// Not read for a Containerfile.
    #[command(flatten)]
    config: ConfigOption,
    /// The image of the static pod.
    #[arg(long, default_value = concat!("localhost/fairlead:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// The static pod hands its connections to its successor whenever it is stopped, also when it is
    /// removed: then end it by `fairlead cleanup`.
    #[arg(long)]
    handover: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A pod that the kubelet runs by itself
    StaticPod,
    /// A hardened unit, as in the Debian package
    Systemd,
    /// An image of this program and this machine's libraries, whose context is `/`
    Containerfile,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    if matches!(arguments.kind, Kind::Containerfile) {
        let maps = fs::read_to_string("/proc/self/maps").context("reading /proc/self/maps")?;
        return print(&containerfile::containerfile(&maps, &program()?)?);
    }
    let path = absolute(&arguments.config.path).context("making the path absolute")?;
    let (config, files) = load_with_files(&path)?;
    match arguments.kind {
        Kind::StaticPod => {
            for program in &files.run {
                warn(&format!("{}, which `notify` runs, must be in the image", program.display()));
            }
            let pod = static_pod::Pod {
                config: &config,
                path: &path,
                files: &files,
                image: &arguments.image,
                handover: arguments.handover,
            };
            print(&pod.yaml()?)
        }
        Kind::Systemd => print(&systemd::unit(&config, &path, &files, &program()?)?),
        Kind::Containerfile => Ok(()),
    }
}

/// This program, where it will be run.
fn program() -> Result<PathBuf> {
    env::current_exe().context("asking where this program is")
}

/// The directory of a file, which is what has to be there: files may be replaced.
fn directory(file: &Path) -> Result<&Path> {
    let parent = file.parent().filter(|parent| parent.parent().is_some());
    parent.with_context(|| format!("{} is in the root directory; move it", file.display()))
}
