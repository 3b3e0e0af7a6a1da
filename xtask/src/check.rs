//! `cargo xtask check`: what CI runs before the tests that need root, in its order.

use std::process::Command;

use anyhow::Result;

use crate::command::{capture, cargo, find, root, step};
use crate::{purity, setup};

pub(crate) fn run() -> Result<()> {
    setup::toolchain()?;
    steps(None)
}

/// From the cheapest to the dearest; the first that fails ends it.
pub(crate) fn steps(filter: Option<&str>) -> Result<()> {
    step("fmt", || silent(cargo(["fmt", "--all", "--check"])))?;
    step("purity", purity::check)?;
    // The XDP program is linted as host code; its own compiler has the last word when it is built.
    step("clippy", || {
        let host = ["clippy", "--workspace", "--exclude", "lb-ebpf", "--all-targets"];
        silent(deny_warnings(cargo(host)))?;
        // By itself: the others would switch on features that need std.
        silent(deny_warnings(cargo(["clippy", "--package", "lb-ebpf"])))
    })?;
    unit(filter)?;
    step("docs", || {
        let host = ["--workspace", "--exclude", "lb-ebpf"];
        silent(doc(&host))?;
        silent(doc(&["--package", "lb-ebpf"]))
    })?;
    optional("deny", "cargo-deny", || silent(cargo(["deny", "check", "--hide-inclusion-graph"])))?;
    optional("typos", "typos", || {
        let mut typos = Command::new("typos");
        typos.current_dir(root());
        silent(typos)
    })
}

/// The tests of the crates and of their documentation.
pub(crate) fn unit(filter: Option<&str>) -> Result<()> {
    let said = step("unit", || capture(cargo(["test"]).args(filter)))?;
    for line in said.lines().filter(|line| line.starts_with("test result:")) {
        println!("    {line}");
    }
    Ok(())
}

fn optional(name: &str, program: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if find(program).is_none() {
        println!("{name:<9} skipped: {program} is not installed");
        return Ok(());
    }
    step(name, work)
}

fn deny_warnings(mut clippy: Command) -> Command {
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

fn doc(packages: &[&str]) -> Command {
    let mut doc = cargo(["doc", "--no-deps", "--document-private-items"]);
    doc.args(packages).env("RUSTDOCFLAGS", "-D warnings");
    doc
}

fn silent(mut command: Command) -> Result<()> {
    capture(&mut command).map(drop)
}
