//! `fairlead import`. I/O: it reads the files and writes the configuration.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::print;
use crate::import::{Finding, Imported, Inputs, MAX_BYTES, Source, findings, import};

/// Make a configuration of haproxy.cfg and keepalived.conf.
///
/// Writes it with comments to stdout, or to a file; and to stderr what has no counterpart, what was
/// assumed and what to do about it. Changes nothing else. The exit code is 1 if a file cannot be read,
/// or if the configuration lacks something that neither file says ("to do").
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("sources").required(true).multiple(true)))]
pub(super) struct Arguments {
    /// HAProxy's configuration.
    #[arg(long, value_name = "FILE", group = "sources")]
    haproxy: Option<PathBuf>,
    /// keepalived's, of the node that the result is for.
    #[arg(long, value_name = "FILE", group = "sources")]
    keepalived: Option<PathBuf>,
    /// Where the configuration goes, instead of stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite FILE.
    #[arg(long, requires = "output")]
    force: bool,
    /// Write the findings to stdout as JSON, with the configuration unless that goes to a file.
    #[arg(long)]
    json: bool,
    /// Read the lines of keepalived.conf that begin with @NAME, as `keepalived --config-id NAME` does.
    #[arg(long, value_name = "NAME", requires = "keepalived")]
    config_id: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let haproxy = arguments.haproxy.as_deref().map(read).transpose()?;
    let keepalived = arguments.keepalived.as_deref().map(read).transpose()?;
    let imported = import(&Inputs {
        haproxy: haproxy.as_ref().map(|file| file.source()),
        keepalived: keepalived.as_ref().map(|file| file.source()),
        config_id: arguments.config_id.as_deref(),
        environment: environment(),
    })?;
    if let Some(output) = &arguments.output {
        write(output, &imported.yaml, arguments.force)?;
    }
    tell(arguments, &imported)?;
    if !imported.is_complete() {
        bail!("the configuration is not complete: put right what is marked `TO DO` in it");
    }
    Ok(())
}

struct Input {
    name: String,
    bytes: Vec<u8>,
}

impl Input {
    fn source(&self) -> Source<'_> {
        Source { name: &self.name, bytes: &self.bytes }
    }
}

/// Reads one byte more than the importer takes at most, so that it sees what is too large.
fn read(path: &Path) -> Result<Input> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(Input { name: path.display().to_string(), bytes })
}

/// What is no UTF-8 cannot be in a configuration.
fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Readable by its owner alone, as passwords may be in it.
fn write(path: &Path, yaml: &str, force: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let context = || {
        let hint = if force { "" } else { " (--force overwrites it)" };
        format!("writing {}{hint}", path.display())
    };
    let mut file = options.open(path).with_context(context)?;
    file.write_all(yaml.as_bytes()).and_then(|()| file.sync_all()).with_context(context)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    complete: bool,
    output: Option<&'a Path>,
    configuration: Option<&'a str>,
    findings: &'a [Finding],
}

fn tell(arguments: &Arguments, imported: &Imported) -> Result<()> {
    let output = arguments.output.as_deref();
    let configuration = output.is_none().then_some(imported.yaml.as_str());
    if arguments.json {
        let findings = &imported.findings;
        let complete = imported.is_complete();
        let report = Report { complete, output, configuration, findings };
        let text = serde_json::to_string_pretty(&report).context("writing the findings as JSON")?;
        return print(&(text + "\n"));
    }
    if let Some(yaml) = configuration {
        print(yaml)?;
    }
    let mut stderr = io::stderr().lock();
    stderr
        .write_all(findings::report(&imported.findings).as_bytes())
        .context("writing the findings")
}

#[cfg(test)]
mod tests;
