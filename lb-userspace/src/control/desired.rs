//! What should be installed, from the configuration and what is known of the backends. Pure.
//!
//! Names and addresses only: identifiers are for `plan` to give. A service with VIPs of both families
//! is two here: each VIP is served by the backends of its own family.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_common::backend::State;
use lb_common::conntrack::Timeouts;
use lb_common::link::NextHop;
use lb_common::time::Ticks;

use crate::config::{self, Cidr, Config, Family, Mode, OnAllDown, RateLimit};
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
    pub next_hops: BTreeMap<IpAddr, NextHop>,
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
    pub vips: BTreeSet<IpAddr>,
    /// Those of them that VRRP elects an owner for: their leases end.
    pub elected: BTreeSet<IpAddr>,
    /// In the order of the configuration, IPv4 before IPv6.
    pub services: Vec<DesiredService>,
}

/// One service in one family, which all its addresses are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    pub name: String,
    pub family: Family,
    pub vips: Vec<IpAddr>,
    pub port: u16,
    pub mode: Mode,
    pub exclusive: bool,
    /// Empty: everybody may connect.
    pub allow: Vec<Cidr>,
    pub rate_limit: Option<RateLimit>,
    /// Empty: requests are sent from the VIP that the client addressed.
    pub snat: Vec<IpAddr>,
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
    pub address: IpAddr,
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
        elected: config.vrrp.iter().flat_map(|instance| &instance.vips).copied().collect(),
        services: config
            .services
            .iter()
            .flat_map(|service| {
                service.families().map(|family| desired_service(service, family, view))
            })
            .collect(),
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
            last_up.entry(service.name.clone()).or_default().extend(names);
        }
    }
    last_up
}

fn names(service: &DesiredService, wanted: impl Fn(&DesiredBackend) -> bool) -> BTreeSet<String> {
    service.backends.iter().filter(|b| wanted(b)).map(|b| b.name.clone()).collect()
}

fn desired_service(service: &config::Service, family: Family, view: &View) -> DesiredService {
    let is_ours = |address: &&IpAddr| Family::of(address) == family;
    let mut backends: Vec<DesiredBackend> = service
        .backends
        .iter()
        .filter(|backend| is_ours(&&backend.address))
        .map(|backend| desired_backend(service, backend, view))
        .collect();
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
        family,
        vips: service.vips.iter().filter(is_ours).copied().collect(),
        port: service.port,
        mode: service.mode,
        exclusive: service.exclusive,
        allow: service.allow.iter().filter(|range| is_ours(&&range.network)).copied().collect(),
        rate_limit: service.rate_limit,
        snat: service.snat_addresses.iter().filter(is_ours).copied().collect(),
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
        established: ticks(configured.established),
        half_open: ticks(configured.half_open),
        closing: ticks(configured.closing),
        half_closed: ticks(configured.half_closed),
        closed: ticks(configured.closed),
    }
}

fn ticks(duration: Duration) -> u32 {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Ticks::in_ns(nanoseconds.min(Ticks::MAX_TIMEOUT_NS))
}

#[cfg(test)]
mod tests;
