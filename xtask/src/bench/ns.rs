//! Nanoseconds per packet, from the bench of the XDP program: by itself, or as a part of a run.

use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::findings::{NsFigure, Rebuilt};
use super::observed::{self, Timed};
use crate::command::{capture, cargo, step, stream};
use crate::setup;

#[derive(Args)]
pub(crate) struct NsArgs {
    /// Write the figures to this file as well
    #[arg(long)]
    json: Option<PathBuf>,
    /// Compare with XDP programs pinned in this directory, which balance the same service: one for
    /// known flows, and for each of five rounds of three mixes one that has seen no flow
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Only the table of this name, as "IPv4 nat"
    #[arg(long)]
    only: Option<String>,
}

/// The bench by itself.
pub(crate) fn run(args: &NsArgs) -> Result<()> {
    setup::toolchain()?;
    step("compile", compile)?;
    let mut command = bench();
    for (option, path) in [("--json", &args.json), ("--beside", &args.beside)] {
        if let Some(path) = path {
            command.arg(option).arg(resolve(path)?);
        }
    }
    if let Some(only) = &args.only {
        command.arg("--only").arg(only);
    }
    stream(&mut command)
}

pub(crate) fn compile() -> Result<()> {
    capture(cargo(BENCH).arg("--no-run")).map(drop)
}

/// In short, and what it found. `Some(family)`: of that alone.
pub(super) fn brief(runs: u32, family: Option<u8>) -> Result<Vec<NsFigure>> {
    let family = family.map(|family| family.to_string());
    let mut arguments = vec!["--brief".to_owned(), runs.to_string()];
    arguments.extend(family.into_iter().flat_map(|family| ["--family".to_owned(), family]));
    figures(&ask(&arguments)?)
}

/// Known flows, more and more of them; and tables of more and more backends.
pub(super) fn growth(runs: u32) -> Result<(Vec<NsFigure>, Vec<Rebuilt>)> {
    let found = ask(&["--growth".to_owned(), runs.to_string()])?;
    Ok((figures(&found)?, tables(&found)?))
}

/// Known and new flows beside a program that counts nothing, and with another in front that follows packets.
pub(super) fn observed(uncounted: &Path, runs: u32) -> Result<Vec<Timed>> {
    let object = uncounted.to_str().context("a path that is no text")?.to_owned();
    let arguments = ["--uncounted".to_owned(), object, "--brief".to_owned(), runs.to_string()];
    observed::timed(&ask(&arguments)?)
}

/// What the bench writes when it is run with these.
fn ask(arguments: &[String]) -> Result<Value> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ns.json");
    capture(bench().arg("--json").arg(&file).args(arguments))?;
    let text = fs::read_to_string(&file).context("reading what the bench wrote")?;
    serde_json::from_str(&text).context("reading what the bench wrote")
}

const BENCH: [&str; 5] = ["bench", "--package", "lb-tests", "--bench", "ns"];

fn bench() -> Command {
    let mut command = cargo(BENCH);
    command.arg("--quiet").arg("--");
    command
}

/// Cargo runs it in the package's directory.
fn resolve(path: &Path) -> Result<PathBuf> {
    absolute(path).with_context(|| format!("find {}", path.display()))
}

fn figures(json: &Value) -> Result<Vec<NsFigure>> {
    let mut figures = Vec::new();
    for report in json["reports"].as_array().context("no reports")? {
        let mode = report["mode"].as_str().context("a report without a mode")?;
        let family = report["family"].as_u64().context("a report without a family")?;
        for figure in report["figures"].as_array().context("a report without figures")? {
            let number = |value: &Value| value.as_f64().context("a figure that is no number");
            figures.push(NsFigure {
                mode: mode.to_owned(),
                family: u8::try_from(family)?,
                path: figure["kind"].as_str().context("a path without a kind")?.to_owned(),
                flows: figure["flows"].as_u64().context("a path without flows")?,
                ns: number(&figure["net"])?,
                floor_ns: number(&figure["floor"])?,
                low: number(&figure["net_quartiles"][0])?,
                high: number(&figure["net_quartiles"][1])?,
            });
        }
    }
    Ok(figures)
}

fn tables(json: &Value) -> Result<Vec<Rebuilt>> {
    let tables = json["tables"].as_array().context("no tables")?;
    let table = |table: &Value| {
        Some(Rebuilt {
            backends: table["backends"].as_u64()?,
            slots: table["slots"].as_u64()?,
            ms: table["ms"].as_f64()?,
        })
    };
    let tables: Option<_> = tables.iter().map(table).collect();
    tables.context("a table without its figures")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_taken_from_the_benchs_json() {
        let figure = json!({"kind": "forward", "flows": 60000, "net": 88.0, "floor": 33.0,
            "net_quartiles": [87.0, 90.0]});
        let json = json!({"reports": [{"mode": "nat", "family": 6, "figures": [figure]}]});
        let figures = figures(&json).unwrap();
        assert_eq!((figures[0].family, figures[0].flows, figures[0].ns), (6, 60_000, 88.0));
        assert_eq!((figures[0].path.as_str(), figures[0].low), ("forward", 87.0));
        assert!(super::figures(&json!({})).is_err());
    }
}
