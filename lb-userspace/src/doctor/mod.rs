//! `fairlead doctor`: reads the machine and says what is wrong, why that matters and what to type. I/O,
//! but for `finding` and `rules`.
//!
//! ```text
//! facts/ (I/O: kernel, netlink, /proc, admin socket, apiservers, link) ─► Facts ─► rules/ (pure) ─► Report ─► cli
//! ```
//! Nothing is changed, and nothing is sent but what asks: the admin socket, the apiservers, by echo requests their
//! hosts, and with `--probe` the link. While it listens for VRRP the node is in VRRP's multicast group.

use std::path::PathBuf;

use anyhow::Result;

pub mod facts;
pub mod finding;
pub mod rules;

pub use finding::{Finding, Report, Severity};

use facts::Facts;

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `None`: the file that the controller has read, else the usual one.
    pub config: Option<PathBuf>,
    /// In place of the configuration's, if there are any.
    pub interfaces: Vec<String>,
    /// The controller's admin socket.
    pub socket: PathBuf,
    /// Ask on the link who has the VIPs.
    pub probe: bool,
}

/// Looks at everything. Needs a tokio runtime.
///
/// # Errors
/// The machine cannot be looked at at all.
pub async fn examine(options: &Options) -> Result<Report> {
    let facts = Facts::read(options).await?;
    let mut findings = rules::judge(&facts);
    // Those of one severity stay in their order.
    findings.sort_by_key(|finding| finding.severity);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        configuration: facts.config().map(|_| facts.file.path.display().to_string()),
        controller: facts.controller.running().is_some(),
        probed: options.probe,
        findings,
    })
}
