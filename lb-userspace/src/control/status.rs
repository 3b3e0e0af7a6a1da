//! Puts together what `status` prints. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use lb_common::backend::{
    BackendEvents, BackendId, BackendTraffic, Forwarded, State as InstalledState,
};

use super::desired::{Admin, Desired, DesiredBackend, DesiredService, Override, Way};
use super::standing::Standing;
use crate::admin::model;
use crate::health::{BackendKey, Health, HealthTable, Report};
use crate::vrrp::Nanos;

/// What the datapath and the kernel say of a backend.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub id: BackendId,
    pub connections: u64,
    pub traffic: BackendTraffic,
    pub events: BackendEvents,
    pub next_hop: Option<model::NextHop>,
    pub local_connections: u64,
}

/// Everything that `services` is made of.
pub struct Sources<'a> {
    pub desired: &'a Desired,
    pub health: &'a HealthTable,
    /// How long the last probe of each took.
    pub probes: &'a BTreeMap<BackendKey, Duration>,
    /// What is made of it.
    pub standing: &'a Standing,
    pub overrides: &'a BTreeMap<(String, String), Override>,
    pub measured: &'a BTreeMap<(String, String), Measured>,
    /// When what traffic sees of a backend last changed.
    pub since: &'a BTreeMap<(String, String), (InstalledState, SystemTime)>,
}

impl Sources<'_> {
    pub fn services(&self) -> Vec<model::Service> {
        let mut services: Vec<model::Service> = Vec::new();
        for part in self.desired.services.iter().map(|service| self.service(service)) {
            // A service of both families is two in a row.
            match services.last_mut().filter(|service| service.name == part.name) {
                Some(service) => {
                    service.vips.extend(part.vips);
                    service.panic |= part.panic;
                    service.backends.extend(part.backends);
                }
                None => services.push(part),
            }
        }
        services
    }

    fn service(&self, service: &DesiredService) -> model::Service {
        model::Service {
            name: service.name.clone(),
            vips: service.vips.clone(),
            port: service.port,
            mode: service.mode.as_str().to_owned(),
            panic: service.panic,
            alarms: self.standing.texts(&service.name),
            backends: service
                .backends
                .iter()
                .map(|backend| self.backend(&service.name, backend))
                .collect(),
        }
    }

    fn backend(&self, service: &str, backend: &DesiredBackend) -> model::Backend {
        let name = (service.to_owned(), backend.name.clone());
        let key = BackendKey {
            service: name.0.clone(),
            backend: name.1.clone(),
            endpoint: SocketAddr::new(backend.address, backend.port),
        };
        let report = self.health.get(&key);
        let measured = self.measured.get(&name).cloned().unwrap_or_default();
        let events = measured.events;
        let since = self.since.get(&name).map(|(_, since)| *since);
        model::Backend {
            id: measured.id,
            name: backend.name.clone(),
            address: SocketAddr::new(backend.address, backend.port),
            state: state(backend.state),
            health: backend.health,
            admin: admin(self.overrides.get(&name).map(|change| change.admin)),
            reason: reason(report, backend.health),
            probe_us: self
                .probes
                .get(&key)
                .map(|took| took.as_micros().try_into().unwrap_or(u64::MAX)),
            since: model::rfc3339(
                since
                    .or_else(|| report.map(|report| report.since))
                    .unwrap_or(SystemTime::UNIX_EPOCH),
            ),
            weight: backend.weight,
            effective_weight: backend.effective_weight,
            connections: measured.connections,
            requests: traffic(&measured.traffic.requests),
            replies: traffic(&measured.traffic.replies),
            opened: events.flows,
            confirmed: events.connections,
            unanswered: events.unanswered,
            refused: events.refused,
            local_connections: measured.local_connections,
            local: backend.way == Way::Local,
            next_hop: measured.next_hop,
        }
    }
}

fn reason(report: Option<&Report>, health: Health) -> String {
    match report {
        None => "not probed".to_owned(),
        Some(report) if report.health == health => report.reason.to_string(),
        Some(report) => format!("{} (as of every backend; used unverified)", report.reason),
    }
}

fn traffic(forwarded: &Forwarded) -> model::Traffic {
    model::Traffic { packets: forwarded.packets.iter().sum(), bytes: forwarded.bytes }
}

/// The VIPs, of which this node owns those in `owned`, and of those that VRRP elects an owner for, those
/// in `held`, each until the end of its lease.
pub fn vips(
    desired: &Desired,
    owned: impl Fn(IpAddr) -> bool,
    held: &BTreeMap<IpAddr, Option<Nanos>>,
    now: Nanos,
) -> Vec<model::Vip> {
    let vip = |vip: &IpAddr| {
        if !desired.elected.contains(vip) {
            return model::Vip { address: *vip, owner: owned(*vip), lease_ms: None };
        }
        let until = held.get(vip).copied().flatten();
        let left = until.map_or(0, |until| until.since(now).as_millis());
        let lease_ms = Some(u64::try_from(left).unwrap_or(u64::MAX));
        model::Vip { address: *vip, owner: held.contains_key(vip), lease_ms }
    };
    desired.vips.iter().map(vip).collect()
}

pub(super) const fn state(state: InstalledState) -> model::State {
    match state {
        InstalledState::Free | InstalledState::Unknown => model::State::Unknown,
        InstalledState::Up => model::State::Up,
        InstalledState::Degraded => model::State::Degraded,
        InstalledState::Draining | InstalledState::Removed => model::State::Draining,
        InstalledState::Down => model::State::Down,
        InstalledState::Disabled => model::State::Disabled,
    }
}

fn admin(admin: Option<Admin>) -> model::Admin {
    match admin.unwrap_or(Admin::Enabled) {
        Admin::Enabled => model::Admin::Enabled,
        Admin::Draining => model::Admin::Draining,
        Admin::Disabled => model::Admin::Disabled,
    }
}
