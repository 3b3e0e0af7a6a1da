//! What haproxy.cfg and keepalived.conf say, as one configuration: the VIPs of the one joined with
//! the frontends of the other. Every choice that is not theirs is a finding, and a comment. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use super::draft::{Draft, Noted};
use super::findings::{Findings, Kind};
use super::haproxy::Haproxy;
use super::keepalived::Keepalived;
use super::source::{Place, Read};

mod backends;
mod health;
mod instance;
mod ipvs;
mod listeners;
mod name;
mod services;
mod vrrp;

use name::Names;

/// The default of `limits.flows`.
const FLOWS: u32 = 131_072;
const MOST_FLOWS: u32 = 16_777_216;

/// Joins the two files, of which either may be missing.
pub(crate) fn translate(
    haproxy: Option<&Haproxy>,
    keepalived: Option<&Keepalived>,
    findings: &mut Findings,
) -> Read<Draft> {
    let mut translator = Translator {
        findings,
        names: Names::default(),
        vips: BTreeMap::new(),
        knows_vips: keepalived.is_some(),
        own: BTreeSet::new(),
        claimed: BTreeSet::new(),
        interfaces: Vec::new(),
        draft: Draft::default(),
    };
    if let Some(keepalived) = keepalived {
        translator.instances(keepalived)?;
    }
    if let Some(haproxy) = haproxy {
        translator.haproxy(haproxy)?;
    }
    if let Some(keepalived) = keepalived {
        translator.virtual_servers(keepalived);
    }
    translator.finish(haproxy.is_some());
    Ok(translator.draft)
}

struct Translator<'a> {
    findings: &'a mut Findings,
    names: Names,
    /// Those of keepalived.conf, with the instance that has them.
    vips: BTreeMap<IpAddr, String>,
    /// Whether there is a keepalived.conf that would list every VIP.
    knows_vips: bool,
    /// Addresses that this node has by what the files say.
    own: BTreeSet<IpAddr>,
    /// What services have; a wildcard gets the rest.
    claimed: BTreeSet<(IpAddr, u16)>,
    /// Where traffic comes from, in the order seen.
    interfaces: Vec<String>,
    draft: Draft,
}

impl Translator<'_> {
    /// A finding, and the comment that says the same in the file.
    fn note(
        &mut self,
        kind: Kind,
        at: &Place,
        subject: &str,
        message: impl Display,
        remedy: impl Display,
    ) -> String {
        self.findings.add(kind, at, subject, &message, &remedy);
        let is_done = remedy.to_string() == "nothing to do";
        let remedy = if is_done { String::new() } else { format!("; {remedy}") };
        let mark = if kind == Kind::ToDo { "TO DO: " } else { "" };
        format!("{mark}{at}: {message}{remedy}")
    }

    fn interface(&mut self, name: &str) {
        if !self.interfaces.iter().any(|known| known == name) {
            self.interfaces.push(name.to_owned());
        }
    }

    fn haproxy(&mut self, haproxy: &Haproxy) -> Read<()> {
        if let Some(maxconn) = haproxy.maxconn.as_ref() {
            let flows = maxconn.value.clamp(FLOWS, MOST_FLOWS);
            let subject = format!("maxconn {}", maxconn.value);
            let message = format!("`limits.flows` is how many connections there may be: {flows}");
            let note = self.note(Kind::Changed, &maxconn.at, &subject, message, "nothing to do");
            if flows > FLOWS {
                self.draft.flows = Some(Noted::new(flows, note));
            }
        }
        self.frontends(haproxy)
    }

    fn finish(&mut self, has_haproxy: bool) {
        if self.draft.services.value.is_empty() {
            let (message, remedy) = if has_haproxy {
                ("haproxy.cfg has no service that can be carried over", "write `services:` by hand")
            } else {
                (
                    "there is no haproxy.cfg, so what is balanced is not known",
                    "write `services:` by hand, or import with --haproxy",
                )
            };
            self.findings.general(Kind::ToDo, message, remedy);
            self.draft.services.notes.push(format!("TO DO: {message}; {remedy}"));
        }
        if !self.knows_vips {
            self.findings.general(
                Kind::Assumed,
                "there is no keepalived.conf, so this node is taken for the only one: it owns the \
                 VIPs always",
                "with several nodes import with --keepalived, or write `vrrp:` by hand",
            );
        }
        if self.interfaces.is_empty() {
            let message = "the files name no interface";
            let remedy = "write `interfaces:` with those that clients and apiservers are reached \
                          through, or start with --iface";
            self.findings.general(Kind::Assumed, message, remedy);
            self.draft.interfaces.notes.push(format!("{message}; {remedy}: [eth0]"));
        } else {
            let message = "the interfaces are those that the files name";
            let remedy = "add those that the backends are reached through, if they are others";
            self.findings.general(Kind::Assumed, message, remedy);
            self.draft.interfaces =
                Noted::new(self.interfaces.clone(), format!("{message}; {remedy}"));
        }
    }
}
