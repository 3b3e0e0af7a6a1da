//! What the tables of all rules have in common.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{self, Config};
use crate::doctor::{Finding, Severity};

/// A finding of that name and severity is there, and says why it matters if it matters.
pub(super) fn has(found: &[Finding], id: &str, severity: Severity) -> bool {
    let is_it = |finding: &&Finding| finding.id == id && finding.severity == severity;
    let matters = |finding: &Finding| finding.severity != Severity::Ok;
    found.iter().any(|finding| is_it(&finding))
        && found.iter().filter(|it| matters(it)).all(|finding| !finding.why.is_empty())
}

/// Which severities there are, the worst first.
pub(super) fn severities(found: &[Finding]) -> Vec<Severity> {
    found.iter().map(|finding| finding.severity).collect::<BTreeSet<_>>().into_iter().collect()
}

/// One service on one interface, with more keys of the service, each on a line that is indented by four.
pub(super) fn config(keys: &str) -> Config {
    let text = format!(
        "interfaces: [eth0]
services:
  - name: api
    vips: [10.0.0.100]
    port: 6443
    backends: [{{ name: cp1, address: 10.0.0.11 }}, {{ name: cp2, address: 10.0.0.12 }}]
{keys}"
    );
    config::parse(&text, Path::new("test.yaml")).unwrap()
}

/// The keys of an instance that elects the owner of its VIP.
pub(super) const ELECTED: &str = "vrrp:
  - { name: api, interface: eth0, vrid: 51, vips: [10.0.0.100], unicast_peers: [10.0.0.3] }
";
