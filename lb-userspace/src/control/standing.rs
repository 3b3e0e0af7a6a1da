//! What the reports of a service's backends say together. Pure.
//!
//! A certificate that does not verify takes one backend out. When it is that of every backend that
//! answers, and the same is wrong with all, the fault is more likely in what they share, such as an
//! expired CA or ours being the wrong one, and clients may be served well: then they are used, as
//! those are whose health is not to be seen, and there is an alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use lb_common::backend::State;

use super::desired::{Admin, BackendName, Desired, Override};
use crate::admin::model::What;
use crate::config::{Config, Family};
use crate::health::{BackendKey, Health, HealthTable, Report};

/// What is to be made of the probes of all services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who was never probed is not in it.
    pub health: BTreeMap<BackendName, Health>,
    /// Backends that are well, and are kept from their return because they flap.
    pub held: BTreeSet<BackendName>,
    /// Percent of the weight, where that is not all of it.
    pub shares: BTreeMap<BackendName, u8>,
    /// What operators must know, by service.
    pub alarms: BTreeMap<String, Vec<Alarm>>,
}

/// What operators must know of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub cause: Cause,
    pub text: String,
}

/// What an alarm is about. While it lasts, the text may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// All that answer have the same fault.
    SharedFault,
    /// The certificate of the backend of this name.
    Certificate(String),
    /// 401 or 403.
    Hidden,
    /// Nobody of this family takes new connections.
    Unserved(Family),
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Standing {
    /// What became of the alarms since `before`, as events tell it: those that are new or say something
    /// else, and those that are over.
    pub fn news(&self, before: &Self) -> Vec<What> {
        let of = |standing: &Self, service: &str| -> Vec<Alarm> {
            standing.alarms.get(service).cloned().unwrap_or_default()
        };
        let services: BTreeSet<_> = before.alarms.keys().chain(self.alarms.keys()).collect();
        let news = services.into_iter().flat_map(|service| {
            let (old, new) = (of(before, service), of(self, service));
            let is_over = |alarm: &Alarm| new.iter().all(|it| it.cause != alarm.cause);
            let over = old.iter().filter(|alarm| is_over(alarm)).map(|alarm| (alarm, true));
            let raised = new.iter().filter(|alarm| !old.contains(alarm)).map(|it| (it, false));
            let tell = |(alarm, resolved): (&Alarm, bool)| {
                let (subject, reason) = (service.clone(), alarm.text.clone());
                What::Alarm { subject, reason, resolved }
            };
            over.chain(raised).map(tell).collect::<Vec<_>>()
        });
        news.collect()
    }
}

/// The standing of every configured backend. A backend that moved has not been probed where it is now.
pub fn standing(
    config: &Config,
    table: &HealthTable,
    overrides: &BTreeMap<BackendName, Override>,
) -> Standing {
    let mut standing = Standing::default();
    for service in &config.services {
        let reports: Vec<_> = service
            .backends
            .iter()
            .filter_map(|backend| {
                let report = table.get(&key(&service.name, &backend.name, backend.endpoint()))?;
                Some(((service.name.clone(), backend.name.clone()), report))
            })
            .collect();
        let is_enabled = |name: &BackendName| {
            overrides.get(name).is_none_or(|change| change.admin == Admin::Enabled)
        };
        let enabled = reports.iter().filter(|(name, _)| is_enabled(name));
        let shared = shared_fault(enabled.map(|(_, report)| *report)).map(str::to_owned);
        let alarms = alarms(&reports, shared.as_deref());
        if !alarms.is_empty() {
            standing.alarms.insert(service.name.clone(), alarms);
        }
        for (name, report) in reports {
            standing.add(name, report, shared.as_deref());
        }
    }
    standing
}

impl Standing {
    /// Adds what follows from it all: services of which nobody takes new connections. While somebody may
    /// still turn out to be up, that is not said.
    pub fn note_unserved(&mut self, desired: &Desired) {
        for service in &desired.services {
            let is_known = service.backends.iter().all(|backend| backend.state != State::Unknown);
            if is_known && !service.panic && !service.is_served() {
                let family = service.family;
                let text =
                    format!("no {family} backend takes new connections, so they are refused");
                let alarm = Alarm { cause: Cause::Unserved(family), text };
                self.alarms.entry(service.name.clone()).or_default().push(alarm);
            }
        }
    }

    /// The alarms of a service, as `status` prints them.
    pub fn texts(&self, service: &str) -> Vec<String> {
        self.alarms.get(service).into_iter().flatten().map(ToString::to_string).collect()
    }

    fn add(&mut self, name: BackendName, report: &Report, shared: Option<&str>) {
        let health = if has_fault(report, shared) { Health::Unverified } else { report.health };
        if report.held {
            self.held.insert(name.clone());
        }
        if report.share < 100 {
            self.shares.insert(name.clone(), report.share);
        }
        self.health.insert(name, health);
    }
}

fn key(service: &str, backend: &str, endpoint: SocketAddr) -> BackendKey {
    BackendKey { service: service.to_owned(), backend: backend.to_owned(), endpoint }
}

/// The one fault of all backends that answer; none: somebody is trusted, not probed, or fails otherwise.
fn shared_fault<'a>(reports: impl Iterator<Item = &'a Report>) -> Option<&'a str> {
    let mut shared = None;
    for report in reports {
        let is_lost = report.health == Health::Down && !report.held;
        if !is_lost {
            return None;
        }
        // Of a backend that does not answer nothing is known.
        let Some(fault) = report.reason.trust_fault() else { continue };
        if shared.is_some_and(|shared| shared != fault) {
            return None;
        }
        shared = Some(fault);
    }
    shared
}

fn has_fault(report: &Report, fault: Option<&str>) -> bool {
    fault.is_some() && report.health == Health::Down && report.reason.trust_fault() == fault
}

fn alarms(reports: &[(BackendName, &Report)], shared: Option<&str>) -> Vec<Alarm> {
    let names = |wanted: &dyn Fn(&Report) -> bool| -> Vec<&str> {
        let wanted = reports.iter().filter(|(_, report)| wanted(report));
        wanted.map(|((_, name), _)| name.as_str()).collect()
    };
    let mut alarms = Vec::new();
    if let Some(fault) = shared {
        let all = names(&|report| has_fault(report, shared)).join(", ");
        let text = format!(
            "certificates: every backend that answers has the same fault ({fault}); used \
             unverified: {all}"
        );
        alarms.push(Alarm { cause: Cause::SharedFault, text });
    } else {
        for (name, report) in reports.iter().filter(|(_, report)| is_distrusted(report)) {
            let text = format!("{}: {}; taken out", name.1, report.reason);
            alarms.push(Alarm { cause: Cause::Certificate(name.1.clone()), text });
        }
    }
    let unseen = names(&|report| report.health == Health::Unverified);
    if !unseen.is_empty() {
        let text = format!(
            "health hidden from anonymous requests (401 or 403); used unverified: {}",
            unseen.join(", ")
        );
        alarms.push(Alarm { cause: Cause::Hidden, text });
    }
    alarms
}

fn is_distrusted(report: &Report) -> bool {
    report.health == Health::Down && report.reason.is_certificate()
}

#[cfg(test)]
mod tests;
