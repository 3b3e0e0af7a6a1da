//! `cargo xtask check`: what CI runs before the tests that need root, in its order.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

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
    let said = step("unit", || {
        let crates = capture(tests().args(["--lib", "--bins"]).args(filter))?;
        Ok(crates + &capture(tests().arg("--doc").args(filter))?)
    })?;
    for line in said.lines().filter(|line| line.starts_with("test result:")) {
        println!("    {line}");
    }
    Ok(())
}

/// `cargo test` of everything but the XDP program. By this one selection every test binary is built: another
/// would switch other features of the dependencies on, and build them all again.
fn tests() -> Command {
    cargo(["test", "--workspace", "--exclude", "lb-ebpf"])
}

/// Test binaries, with the package of each.
pub(crate) struct Executables(Vec<(String, PathBuf)>);

impl Executables {
    /// That of a package, which has one.
    pub(crate) fn of(&self, package: &str) -> Result<&Path> {
        let found = self.0.iter().find(|(name, _)| name == package);
        found.map(|(_, path)| &**path).with_context(|| format!("{package} has no test binary"))
    }
}

/// Compiles the tests of these targets, which it does not run.
pub(crate) fn compile_tests(targets: &[&str]) -> Result<Executables> {
    let said = capture(tests().args(targets).args(["--no-run", "--message-format=json"]))?;
    let executables = said.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"].as_str()?;
        // `path+file:///…/tests#lb-tests@0.1.0`.
        let id = message["package_id"].as_str()?.rsplit('#').next()?;
        Some((id.split('@').next()?.to_owned(), PathBuf::from(executable)))
    });
    Ok(Executables(executables.collect()))
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
