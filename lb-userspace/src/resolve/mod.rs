//! Backends by DNS name: the addresses of the names that the configuration has. The daemon runs it,
//! and gives control a configuration in which names are addresses. Pure.
//!
//! ```text
//!            reconcile(file)              /etc/resolv.conf, /etc/hosts
//!                  │                                  │
//! Names ───────────┴─ one task per name and family ───┤
//!  (driver)             │  Event          ▲           ▼
//!                       ▼                 └────── lookup ──► DNS servers
//!                      fsm
//!                       │ changed
//!                       └──► watch<Answers> ──► effective(file, answers) ──► as a reload
//! ```
//!
//! An answer is kept until a better one comes: nothing that DNS fails to say removes a backend.
//! `fsm` is pure too; `driver` and `system` do I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crate::admin::model::What;
use crate::config::{Backend, Config, Family, MAX_ADDRESSES, Service};

pub mod driver;
pub mod fsm;
pub mod system;

pub use driver::Names;

/// A name, and the family of the addresses that are wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub host: String,
    pub family: Family,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.host, self.family)
    }
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In ascending order, at most [`MAX_ADDRESSES`]; empty: there never was one.
    pub addresses: Vec<IpAddr>,
    /// Why the last lookup brought nothing; `None`: it did, or is still under way.
    pub failure: Option<Failure>,
    /// When either last changed.
    pub since: SystemTime,
}

/// What is known of every name there is.
pub type Answers = BTreeMap<Question, Answer>;

/// Why a lookup brought no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// NXDOMAIN.
    NoSuchName,
    /// The name has no address of this family.
    NoAddress,
    Timeout,
    /// SERVFAIL, REFUSED and the like.
    Server(String),
    /// No server could be asked.
    Local(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("there is no such name"),
            Self::NoAddress => f.write_str("the name has no address of this family"),
            Self::Timeout => f.write_str("no DNS server answers"),
            Self::Server(code) => write!(f, "DNS server: {code}"),
            Self::Local(error) => write!(f, "cannot ask: {error}"),
        }
    }
}

/// Every question that the configuration has.
pub fn questions(config: &Config) -> BTreeSet<Question> {
    let services = config.services.iter();
    services
        .flat_map(|service| {
            let hosts = service.names.iter().map(|named| &named.host);
            hosts.flat_map(|host| {
                service.families().map(|family| Question { host: host.clone(), family })
            })
        })
        .collect()
}

/// The configuration with the backends that its names stand for.
///
/// Left out are addresses that no backend can have, and endpoints that the service has already.
pub fn effective(config: &Config, answers: &Answers) -> Config {
    let mut config = config.clone();
    let vips = config.vips();
    for service in &mut config.services {
        expand(service, &vips, answers);
    }
    config
}

fn expand(service: &mut Service, vips: &BTreeSet<IpAddr>, answers: &Answers) {
    service.backends.retain(|backend| !backend.is_resolved());
    let mut taken: BTreeSet<SocketAddr> = service.backends.iter().map(Backend::endpoint).collect();
    let families: Vec<Family> = service.families().collect();
    for named in &service.names {
        for family in &families {
            let question = Question { host: named.host.clone(), family: *family };
            let addresses = answers.get(&question).map_or(&[][..], |it| it.addresses.as_slice());
            for address in addresses.iter().filter(|it| !vips.contains(*it)) {
                let backend = named.at(*address);
                if taken.insert(backend.endpoint()) {
                    service.backends.push(backend);
                }
            }
        }
    }
}

/// What has changed about names between two looks, as events tell it. Of a name that is new, what is known
/// of it has; one that is no longer asked for is none of DNS's doing.
pub fn changes(before: &Answers, after: &Answers) -> Vec<What> {
    let mut changes = Vec::new();
    for (question, answer) in after {
        let known = before.get(question);
        let earlier = known.map_or(&[][..], |known| &known.addresses);
        let failed = known.and_then(|known| known.failure.as_ref());
        if earlier == answer.addresses && failed == answer.failure.as_ref() {
            continue;
        }
        let of = |list: &[IpAddr], other: &[IpAddr]| {
            list.iter().copied().filter(|address| !other.contains(address)).collect()
        };
        changes.push(What::Name {
            host: question.host.clone(),
            family: question.family.to_string(),
            added: of(&answer.addresses, earlier),
            removed: of(earlier, &answer.addresses),
            failure: answer.failure.as_ref().map(ToString::to_string),
        });
    }
    changes
}

/// The addresses that a backend can have, in ascending order, and not too many; and those that it
/// cannot have.
pub(crate) fn usable(addresses: impl IntoIterator<Item = IpAddr>) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let all: BTreeSet<IpAddr> = addresses.into_iter().collect();
    let (mut usable, mut refused): (Vec<_>, Vec<_>) = all.into_iter().partition(is_usable);
    refused.extend(usable.split_off(usable.len().min(MAX_ADDRESSES)));
    (usable, refused)
}

fn is_usable(address: &IpAddr) -> bool {
    !address.is_loopback()
        && !address.is_unspecified()
        && !address.is_multicast()
        && match address {
            IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_link_local() && !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        }
}

#[cfg(test)]
mod tests;
