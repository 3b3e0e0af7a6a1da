//! Builds the controller, with cargo's progress on the terminal.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::cargo;

/// The controller's binary: the given one, or one built from this tree.
pub(crate) fn fairlead(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| format!("no controller at {}", path.display()));
    }
    eprintln!("Building the controller …");
    let output = cargo(["build", "--release", "--package", "lb-userspace", "--bin", "fairlead"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "the controller does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    // Where it is depends on the target directory, which the user may have moved.
    let built = messages.lines().rev().find_map(executable);
    built.context("cargo did not say where the controller is")
}

fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_it = message["target"]["name"] == "fairlead";
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}
