//! What should be installed, from the configuration and what is known of the backends. Pure.
//!
//! Names and addresses only: identifiers are for `plan` to give.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use lb_common::addr::NextHop;
use lb_common::backend::State;
use lb_common::conntrack::Timeouts;

use crate::config::{self, Config, OnAllDown};
use crate::health::Health;

/// Names of a service and of one of its backends.
pub type BackendName = (String, String);

/// By service, the names of the backends that were up when last any was.
pub type LastUp = BTreeMap<String, BTreeSet<String>>;

/// All that is known beside the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Who is missing is unknown.
    pub health: BTreeMap<BackendName, Health>,
    /// What operators asked for at run time.
    pub overrides: BTreeMap<BackendName, Override>,
    /// By the backends' addresses, as far as they are resolved.
    pub next_hops: BTreeMap<Ipv4Addr, NextHop>,
    /// The answer of [`last_up_after`] to the previous result.
    pub last_up: LastUp,
}

/// What an operator said about one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    pub admin: Admin,
    /// In place of the configured one.
    pub weight: Option<u16>,
}

/// Whether operators want a backend used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    #[default]
    Enabled,
    /// No new flows; those there are may end.
    Draining,
    Disabled,
}

/// Everything that should be installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// SNAT addresses included.
    pub vips: BTreeSet<Ipv4Addr>,
    /// In the order of the configuration.
    pub services: Vec<DesiredService>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    pub name: String,
    pub vips: Vec<Ipv4Addr>,
    pub port: u16,
    /// Empty: requests are sent from the VIP that the client addressed.
    pub snat: Vec<Ipv4Addr>,
    pub timeouts: Timeouts,
    /// No backend is up, and new flows go to those that were.
    pub panic: bool,
    /// In the order of the configuration.
    pub backends: Vec<DesiredBackend>,
}

/// One backend of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    pub name: String,
    pub address: Ipv4Addr,
    pub port: u16,
    pub state: State,
    /// What operators said, or else the configuration.
    pub weight: u16,
    /// Share of new flows; 0: it is not in the table.
    pub effective_weight: u16,
    /// `None`: not resolved.
    pub next_hop: Option<NextHop>,
}

/// What should be installed, given what is known.
pub fn desired(config: &Config, view: &View) -> Desired {
    Desired {
        vips: config.vips(),
        services: config.services.iter().map(|service| desired_service(service, view)).collect(),
    }
}

/// The backends that are up, of each service that has any; of the others those of `previous` that
/// are still configured.
pub fn last_up_after(desired: &Desired, previous: &LastUp) -> LastUp {
    let mut last_up = LastUp::new();
    for service in &desired.services {
        let mut names = names(service, |backend| backend.takes_flows());
        if names.is_empty() {
            let before = previous.get(&service.name);
            names = self::names(service, |backend| {
                before.is_some_and(|before| before.contains(&backend.name))
            });
        }
        if !names.is_empty() {
            last_up.insert(service.name.clone(), names);
        }
    }
    last_up
}

fn names(service: &DesiredService, wanted: impl Fn(&DesiredBackend) -> bool) -> BTreeSet<String> {
    service.backends.iter().filter(|b| wanted(b)).map(|b| b.name.clone()).collect()
}

fn desired_service(service: &config::Service, view: &View) -> DesiredService {
    let mut backends: Vec<DesiredBackend> =
        service.backends.iter().map(|backend| desired_backend(service, backend, view)).collect();
    let mut panic = false;
    if backends.iter().any(DesiredBackend::takes_flows) {
        share(&mut backends, DesiredBackend::takes_flows);
    } else if service.on_all_down == OnAllDown::FailOpen
        && let Some(last_up) = view.last_up.get(&service.name)
    {
        share(&mut backends, |backend| {
            backend.state == State::Down && last_up.contains(&backend.name)
        });
        panic = backends.iter().any(|backend| backend.effective_weight > 0);
    }
    DesiredService {
        name: service.name.clone(),
        vips: service.vips.clone(),
        port: service.port,
        snat: service.snat_addresses.clone(),
        timeouts: timeouts(&service.timeouts),
        panic,
        backends,
    }
}

/// Gives those that are `chosen` the share that their weight says.
fn share(backends: &mut [DesiredBackend], chosen: impl Fn(&DesiredBackend) -> bool) {
    for backend in backends {
        backend.effective_weight = if chosen(backend) { backend.weight } else { 0 };
    }
}

fn desired_backend(
    service: &config::Service,
    backend: &config::Backend,
    view: &View,
) -> DesiredBackend {
    let name = (service.name.clone(), backend.name.clone());
    let health = view.health.get(&name).copied().unwrap_or(Health::Unknown);
    let said = view.overrides.get(&name).copied().unwrap_or_default();
    DesiredBackend {
        name: backend.name.clone(),
        address: backend.address,
        port: backend.port,
        state: state(said.admin, health),
        weight: said.weight.unwrap_or(backend.weight),
        effective_weight: 0,
        next_hop: view.next_hops.get(&backend.address).copied(),
    }
}

/// Operators overrule probes.
const fn state(admin: Admin, health: Health) -> State {
    match (admin, health) {
        (Admin::Disabled, _) => State::Disabled,
        (Admin::Draining, _) => State::Draining,
        (Admin::Enabled, Health::Unknown) => State::Unknown,
        (Admin::Enabled, Health::Up) => State::Up,
        (Admin::Enabled, Health::Down) => State::Down,
    }
}

impl DesiredBackend {
    /// New flows are for backends that are up; only when there is none they may go elsewhere.
    pub fn takes_flows(&self) -> bool {
        self.state == State::Up && self.weight > 0
    }
}

fn timeouts(configured: &config::Timeouts) -> Timeouts {
    Timeouts {
        established: nanoseconds(configured.established),
        half_open: nanoseconds(configured.half_open),
        closing: nanoseconds(configured.closing),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
