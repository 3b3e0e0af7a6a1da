//! What should be installed, from the configuration and what is known of the backends. Pure.
//!
//! Names and addresses only: identifiers are for `plan` to give. A service with VIPs of both families
//! is two here: each VIP is served by the backends of its own family.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_common::backend::State;
use lb_common::conntrack::Timeouts;
use lb_common::link::NextHop;
use lb_common::time::Ticks;

use crate::config::{self, Cidr, Config, Family, Mode, OnAllDown, RateLimit};
use crate::health::Health;

/// Names of a service and of one of its backends.
pub type BackendName = (String, String);

/// By service, the names of the backends that were used when last any was, or not long before, and when
/// each was.
pub type LastUp = BTreeMap<String, BTreeMap<String, Instant>>;

/// What takes all backends from us, such as a broken uplink, is not seen of all at the same time.
const AT_ONCE: Duration = Duration::from_secs(10);

/// All that is known beside the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Who is missing is unknown.
    pub health: BTreeMap<BackendName, Health>,
    /// Who is well, and kept from its return because it flaps.
    pub held: BTreeSet<BackendName>,
    /// Percent of the weight, of those that get less than all of it.
    pub shares: BTreeMap<BackendName, u8>,
    /// What operators asked for at run time.
    pub overrides: BTreeMap<BackendName, Override>,
    /// By the backends' addresses, as far as they are resolved.
    pub ways: BTreeMap<IpAddr, Way>,
    /// This node's, but for VIPs.
    pub own_addresses: BTreeSet<IpAddr>,
    /// The answer of [`last_up_after`] to the previous result.
    pub last_up: LastUp,
}

/// How requests get to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Not resolved.
    #[default]
    Unknown,
    Hop(NextHop),
    /// It is on this node.
    Local,
    /// It is on this node, and out of reach: it gets no flows.
    Barred,
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
    /// Those of them that take nothing that is of no service.
    pub closed: BTreeSet<IpAddr>,
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
    /// The backend on this node that this node's own clients go to, if they are to have one of their own.
    pub preferred: Option<String>,
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
    /// What of `state` operators caused.
    pub admin: Admin,
    pub health: Health,
    /// What operators said, or else the configuration.
    pub weight: u16,
    /// Share of new flows; 0: it is not in the table.
    pub effective_weight: u16,
    pub way: Way,
}

/// What should be installed, given what is known.
pub fn desired(config: &Config, view: &View) -> Desired {
    Desired {
        vips: config.vips(),
        elected: config.vrrp.iter().flat_map(|instance| &instance.vips).copied().collect(),
        closed: config
            .vrrp
            .iter()
            .filter(|instance| !instance.accept)
            .flat_map(|instance| &instance.vips)
            .copied()
            .collect(),
        services: config
            .services
            .iter()
            .flat_map(|service| {
                service.families().map(|family| desired_service(service, family, view))
            })
            .collect(),
    }
}

/// The backends that are used, of each service that has any, with those that were until just now; of the
/// others those of `previous`. All of them are still configured.
pub fn last_up_after(desired: &Desired, previous: &LastUp, now: Instant) -> LastUp {
    let mut last_up = LastUp::new();
    for service in &desired.services {
        let before = previous.get(&service.name);
        let is_served = service.is_served();
        let seen = |backend: &DesiredBackend| {
            if is_served && backend.effective_weight > 0 {
                return Some(now);
            }
            let seen = before?.get(&backend.name)?;
            let is_recent = now.saturating_duration_since(*seen) < AT_ONCE;
            (is_recent || !is_served).then_some(*seen)
        };
        let seen: Vec<_> = service
            .backends
            .iter()
            .filter_map(|backend| Some((backend.name.clone(), seen(backend)?)))
            .collect();
        if !seen.is_empty() {
            last_up.entry(service.name.clone()).or_default().extend(seen);
        }
    }
    last_up
}

fn desired_service(service: &config::Service, family: Family, view: &View) -> DesiredService {
    let is_ours = |address: &&IpAddr| Family::of(address) == family;
    let mut backends: Vec<DesiredBackend> = service
        .backends
        .iter()
        .filter(|backend| is_ours(&&backend.address))
        .map(|backend| desired_backend(service, backend, view))
        .collect();
    let panic = choose(service, &mut backends, view);
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
        preferred: preferred(service, &backends, view),
        backends,
    }
}

/// Of those that take new flows, whoever they are then.
fn preferred(
    service: &config::Service,
    backends: &[DesiredBackend],
    view: &View,
) -> Option<String> {
    let mut used = backends.iter().filter(|backend| backend.effective_weight > 0);
    let own = used.find(|backend| view.own_addresses.contains(&backend.address));
    own.filter(|_| service.prefer_local).map(|backend| backend.name.clone())
}

/// Gives new flows to the best that there are. `true`: nobody is good, and they go to those that were.
fn choose(service: &config::Service, backends: &mut [DesiredBackend], view: &View) -> bool {
    let name = |backend: &DesiredBackend| (service.name.clone(), backend.name.clone());
    let percent = |backend: &DesiredBackend| view.shares.get(&name(backend)).copied();
    let is_held = |backend: &DesiredBackend| {
        backend.admin == Admin::Enabled && view.held.contains(&name(backend))
    };
    let is_degraded = |backend: &DesiredBackend| backend.state == State::Degraded;
    if share(backends, DesiredBackend::takes_flows, percent)
        || share(backends, is_degraded, percent)
        || share(backends, is_held, |_| None)
    {
        return false;
    }
    let Some(last_up) = view.last_up.get(&service.name) else { return false };
    let was_up = |backend: &DesiredBackend, health| {
        backend.admin == Admin::Enabled
            && backend.health == health
            && last_up.contains_key(&backend.name)
    };
    // Not ready is better than dead.
    service.on_all_down == OnAllDown::FailOpen
        && (share(backends, |backend| was_up(backend, Health::Draining), |_| None)
            || share(backends, |backend| was_up(backend, Health::Down), |_| None))
}

/// Gives those that are `chosen` the share that their weight says, or `percent` of it. `false`: nobody is.
fn share(
    backends: &mut [DesiredBackend],
    chosen: impl Fn(&DesiredBackend) -> bool,
    percent: impl Fn(&DesiredBackend) -> Option<u8>,
) -> bool {
    for backend in &mut *backends {
        let is_chosen = backend.way != Way::Barred && chosen(backend);
        backend.effective_weight = match (is_chosen, percent(backend)) {
            (false, _) => 0,
            (true, None) => backend.weight,
            (true, Some(percent)) => part(backend.weight, percent),
        };
    }
    backends.iter().any(|backend| backend.effective_weight > 0)
}

/// Of a weight that is not zero at least 1.
fn part(weight: u16, percent: u8) -> u16 {
    let part = u32::from(weight) * u32::from(percent) / 100;
    u16::try_from(part).unwrap_or(weight).clamp(weight.min(1), weight)
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
        admin: said.admin,
        health,
        weight: said.weight.unwrap_or(backend.weight),
        effective_weight: 0,
        way: view.ways.get(&backend.address).copied().unwrap_or_default(),
    }
}

/// Operators overrule probes.
pub(super) const fn state(admin: Admin, health: Health) -> State {
    match (admin, health) {
        (Admin::Disabled, _) => State::Disabled,
        (Admin::Draining, _) | (Admin::Enabled, Health::Draining) => State::Draining,
        (Admin::Enabled, Health::Unknown) => State::Unknown,
        (Admin::Enabled, Health::Up | Health::Unverified) => State::Up,
        (Admin::Enabled, Health::Degraded) => State::Degraded,
        (Admin::Enabled, Health::Down) => State::Down,
    }
}

impl DesiredService {
    /// Whether new flows go to a backend that is thought to be alive: a client that is reset finds one.
    pub fn is_served(&self) -> bool {
        !self.panic && self.backends.iter().any(|backend| backend.effective_weight > 0)
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
