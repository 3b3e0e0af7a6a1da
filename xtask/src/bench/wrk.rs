//! wrk: as many requests as it can, over connections that stay or over one for each.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::run;
use lb_tests::netns::Netns;
use serde::Deserialize;

use super::lab::OBJECT;

/// Has wrk say what it found in a form that can be read.
const SCRIPT: &str = r#"done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"microseconds":%d,"errors":%d}\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"#;
const THREADS: u32 = 2;

/// How connections are used, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// For one request after the other, each answered with an object of some kilobytes.
    Kept,
    /// Likewise, each answered with a few bytes.
    KeptSmall,
    /// For one request, answered with a few bytes.
    Once,
}

impl Use {
    const fn path(self) -> &'static str {
        match self {
            Self::Kept => OBJECT,
            Self::KeptSmall | Self::Once => "/",
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(super) struct Done {
    pub(super) requests: f64,
    pub(super) microseconds: f64,
    errors: u64,
}

impl Done {
    pub(super) fn per_second(&self) -> f64 {
        self.requests * 1e6 / self.microseconds
    }
}

/// One in ten thousand: a machine that stands still for a moment is no reason to have no figures.
const FAILED_MOST: f64 = 1e-4;

/// Runs it from inside `netns`.
///
/// # Errors
/// Besides what keeps it from running: more than [`FAILED_MOST`] of the requests failed.
pub(super) fn measure(
    netns: &Netns,
    target: SocketAddr,
    of: Use,
    connections: u32,
    span: Duration,
    directory: &Path,
) -> Result<Done> {
    let script = directory.join("wrk.lua");
    fs::write(&script, SCRIPT).with_context(|| format!("writing {}", script.display()))?;
    let mut command = netns.command("wrk");
    // It takes whole seconds.
    let seconds = span.as_secs().max(1);
    command.arg(format!("-t{THREADS}")).arg(format!("-c{connections}"));
    command.arg(format!("-d{seconds}s")).arg("-s").arg(&script);
    if of == Use::Once {
        command.args(["-H", "Connection: close"]);
    }
    let done = parse(&run(command.arg(format!("http://{target}{}", of.path())))?)?;
    ensure!(done.requests > 0.0, "not one request was answered");
    let failed = done.errors as f64 / done.requests;
    ensure!(failed <= FAILED_MOST, "{} of {} requests failed", done.errors, done.requests);
    Ok(done)
}

fn parse(said: &str) -> Result<Done> {
    let line = said.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("wrk said nothing of its requests: {said}"))?;
    serde_json::from_str(line).with_context(|| format!("reading {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_writes_is_read() {
        let said = "Running 1s test\n{\"requests\":300,\"microseconds\":1500000,\"errors\":0}\n";
        assert_eq!(parse(said).unwrap().per_second(), 200.0);
        assert!(parse("Running 1s test\n").is_err());
    }
}
