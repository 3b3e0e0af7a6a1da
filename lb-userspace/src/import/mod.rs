//! `fairlead import`: a configuration made of haproxy.cfg and keepalived.conf, and a list of what an
//! operator has to know about it. Nothing is guessed in silence: what the files do not say, what has
//! no counterpart and what is not understood are findings. Pure.
//!
//! ```text
//! haproxy.cfg ─────► haproxy/ ─────┐
//!                                  ├─► translate/ ─► Draft ─► write ─► YAML ─► config::parse
//! keepalived.conf ─► keepalived/ ──┘        └──────── Findings ──────────────────┘
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::config;

mod draft;
pub mod findings;
mod haproxy;
pub(crate) mod keepalived;
mod source;
mod translate;
mod write;

pub use findings::{Finding, Kind};
pub use source::{ImportError, MAX_BYTES};

use findings::Findings;

/// A file's name, as messages show it, and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// What is imported; one of the files at least.
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a> {
    pub haproxy: Option<Source<'a>>,
    pub keepalived: Option<Source<'a>>,
    /// Which host's lines of keepalived.conf are read, where they depend on that.
    pub config_id: Option<&'a str>,
    /// Variables that haproxy.cfg may refer to.
    pub environment: BTreeMap<String, String>,
}

/// What became of them.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The configuration, with its comments.
    pub yaml: String,
    /// The most important first.
    pub findings: Vec<Finding>,
}

impl Imported {
    /// Whether `fairlead check` takes it as it is, the files apart that it refers to.
    pub fn is_complete(&self) -> bool {
        self.findings.iter().all(|finding| finding.kind != Kind::ToDo)
    }
}

/// Translates the files.
pub fn import(inputs: &Inputs<'_>) -> Result<Imported, ImportError> {
    let mut findings = Findings::default();
    let haproxy = match inputs.haproxy {
        None => None,
        Some(Source { name, bytes }) => {
            Some(haproxy::read(&Rc::from(name), bytes, &inputs.environment, &mut findings)?)
        }
    };
    let keepalived = match inputs.keepalived {
        None => None,
        Some(Source { name, bytes }) => {
            Some(keepalived::read(&Rc::from(name), bytes, inputs.config_id, &mut findings)?)
        }
    };
    let draft = translate::translate(haproxy.as_ref(), keepalived.as_ref(), &mut findings)?;
    let sources = [inputs.haproxy, inputs.keepalived];
    let sources: Vec<&str> = sources.iter().flatten().map(|source| source.name).collect();
    let mut yaml = write::write(&draft, &sources);
    refusals(&yaml, &mut findings);
    let findings = findings.finish();
    yaml += &write::write_findings(&findings);
    Ok(Imported { yaml, findings })
}

/// What the configuration's own rules refuse, beyond what is known to be missing.
fn refusals(yaml: &str, findings: &mut Findings) {
    let Err(error) = config::parse(yaml, Path::new("the written file")) else { return };
    for problem in error.problems() {
        // Where VRRP is not available yet, the section is refused as a whole.
        let is_known = problem.key == "vrrp" || problem.message.contains("is empty; write");
        if !is_known {
            let remedy = "put it right in the written file";
            let message =
                format!("`fairlead check` refuses it: {}: {}", problem.key, problem.message);
            findings.general(Kind::ToDo, message, remedy);
        }
    }
}

#[cfg(test)]
mod tests;
