//! The maps as they should be, with an identifier for everything. Pure.
//!
//! Identifiers outlive names: a service is known by its (VIP, port) pairs, a backend by its service
//! and endpoint, so that flows keep their backend over a restart and a renaming.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::IPPROTO_TCP;
use lb_common::addr::{Endpoint, IpBe, PortBe};
use lb_common::backend::{self, Backend, BackendId, State};
use lb_common::link::NextHop;
use lb_common::nat::Kind;
use lb_common::rate::RateLimit;
use lb_common::service::{
    EndpointUse, MAX_SNAT_ADDRESSES, SNAT_PORTS, Service, ServiceKey, SnatAddress, flag,
};

use super::{Installed, PlanError, filters};
use crate::config::Mode;
use crate::control::desired::{self, Admin, Desired, DesiredBackend, DesiredService, Way};
use crate::control::maglev::{self, Entry};

/// What the maps should hold.
///
/// # Errors
/// It does not fit beside what they hold.
pub(super) fn target(desired: &Desired, installed: &Installed) -> Result<Installed, PlanError> {
    let vips = vips(desired, installed)?;
    let index = |(_, index): (&IpAddr, &u32)| *index;
    let mut target = Installed {
        leased: vips.iter().filter(|(vip, _)| desired.elected.contains(vip)).map(index).collect(),
        closed: vips.keys().filter(|vip| desired.closed.contains(vip)).copied().collect(),
        vips,
        referenced: installed.referenced.clone(),
        replying: installed.replying.clone(),
        capacity: installed.capacity,
        ..Installed::default()
    };
    let ids = service_ids(desired, installed)?;
    let services = || desired.services.iter().zip(ids.iter().copied());
    let backends = backend_ids(services(), installed)?;
    for (service, id) in services() {
        add_service(&mut target, service, id);
        add_backends(&mut target, installed, service, id, &backends);
    }
    keep_referenced(&mut target, installed);
    check_allowed(&target, installed)?;
    add_endpoints(&mut target, services());
    target.filters = filters(target.vips.keys(), &sources(desired, &target));
    Ok(target)
}

/// Indices that VIPs have they keep; those of VIPs that go are not given away at once.
fn vips(desired: &Desired, installed: &Installed) -> Result<BTreeMap<IpAddr, u32>, PlanError> {
    let capacity = installed.capacity.vips;
    let taken: BTreeSet<u32> = installed.vips.values().copied().collect();
    let mut free = (0..capacity).filter(|index| !taken.contains(index));
    let services = desired.services.iter();
    let addressed = services.flat_map(|service| service.vips.iter().chain(&service.snat));
    let addresses: BTreeSet<IpAddr> = desired.vips.iter().chain(addressed).copied().collect();
    let needed = addresses.iter().chain(installed.vips.keys()).collect::<BTreeSet<_>>().len();
    let mut index = |address| installed.vips.get(address).copied().or_else(|| free.next());
    addresses
        .iter()
        .map(|address| Some((*address, index(address)?)))
        .collect::<Option<_>>()
        .ok_or(PlanError::Vips { needed, capacity })
}

fn keys(service: &DesiredService) -> impl Iterator<Item = ServiceKey> {
    service.vips.iter().map(|vip| endpoint(*vip, service.port))
}

const fn endpoint(address: IpAddr, port: u16) -> Endpoint {
    Endpoint::new(IpBe::new(address), PortBe::new(port), IPPROTO_TCP)
}

/// An identifier for each service: the one it shares most with among those of its installed keys,
/// else a free one.
fn service_ids(desired: &Desired, installed: &Installed) -> Result<Vec<u32>, PlanError> {
    let capacity = installed.capacity.services.saturating_sub(1);
    let mut kept = vec![None; desired.services.len()];
    let mut claimed = BTreeSet::new();
    for (position, id) in candidates(desired, installed) {
        if kept[position].is_none() && claimed.insert(id) {
            kept[position] = Some(id);
        }
    }

    let mut taken: BTreeSet<u32> = installed.services.values().map(|service| service.id).collect();
    taken.extend(installed.tables.keys());
    taken.extend(installed.backends.values().map(|backend| backend.service));
    taken.extend(installed.allowed.iter().map(|(service, _)| service));
    let new = kept.iter().filter(|id| id.is_none()).count();
    let all_keys = desired.services.iter().flat_map(keys).chain(installed.services.keys().copied());
    let needed = all_keys.collect::<BTreeSet<_>>().len().max(taken.len() + new);
    let no_room = PlanError::Services { needed, capacity };

    let mut free = (1..=capacity).filter(|id| !taken.contains(id));
    let ids = kept.into_iter().map(|id| id.or_else(|| free.next())).collect::<Option<Vec<_>>>();
    let fits = u32::try_from(needed).is_ok_and(|needed| needed <= capacity);
    ids.filter(|_| fits).ok_or(no_room)
}

/// Services, by their position, and the identifiers that their keys are installed with; those that
/// have most backends and keys in common come first.
fn candidates(desired: &Desired, installed: &Installed) -> Vec<(usize, u32)> {
    let backends: BTreeSet<Identity> =
        installed.backends.values().map(|backend| (backend.service, backend.endpoint)).collect();
    let mut candidates = Vec::new();
    for (position, service) in desired.services.iter().enumerate() {
        let mut keys_of = BTreeMap::<u32, usize>::new();
        for known in keys(service).filter_map(|key| installed.services.get(&key)) {
            *keys_of.entry(known.id).or_default() += 1;
        }
        for (id, keys) in keys_of {
            let shared = service.backends.iter().filter(|b| backends.contains(&identity(id, b)));
            candidates.push((Reverse((shared.count(), keys)), position, id));
        }
    }
    candidates.sort_unstable();
    candidates.into_iter().map(|(_, position, id)| (position, id)).collect()
}

/// What identifies a backend: its service and where it listens.
type Identity = (u32, Endpoint);

fn identity(service: u32, backend: &DesiredBackend) -> Identity {
    (service, endpoint(backend.address, backend.port))
}

/// An identifier for each backend: the one it has, else one that is free and that no flow refers to.
fn backend_ids<'a>(
    services: impl Iterator<Item = (&'a DesiredService, u32)>,
    installed: &Installed,
) -> Result<BTreeMap<Identity, BackendId>, PlanError> {
    let capacity = installed.capacity.backends.saturating_sub(1);
    let mut known = BTreeMap::new();
    for (id, backend) in &installed.backends {
        known.entry((backend.service, backend.endpoint)).or_insert(*id);
    }
    let wanted: BTreeSet<Identity> = services
        .flat_map(|(service, id)| service.backends.iter().map(move |b| identity(id, b)))
        .collect();

    let taken: BTreeSet<BackendId> =
        installed.backends.keys().chain(&installed.referenced).copied().collect();
    let new = wanted.iter().filter(|identity| !known.contains_key(identity)).count();
    let no_room = PlanError::Backends { needed: taken.len() + new, capacity };
    let mut free = (1..=capacity).filter(|id| !taken.contains(id));
    wanted
        .into_iter()
        .map(|identity| Some((identity, known.get(&identity).copied().or_else(|| free.next())?)))
        .collect::<Option<_>>()
        .ok_or(no_room)
}

/// The service under each of its VIPs.
fn add_service(target: &mut Installed, service: &DesiredService, id: u32) {
    for (vip, key) in service.vips.iter().zip(keys(service)) {
        let addressed = [*vip];
        let sources = if service.snat.is_empty() { &addressed[..] } else { &service.snat };
        let mut value = Service {
            id,
            vip: lease_index(target, vip),
            kind: kind(service.mode) as u8,
            flags: if service.allow.is_empty() { 0 } else { flag::RESTRICTED },
            rate: service.rate_limit.map_or(RateLimit::NONE, |limit| {
                RateLimit::new(limit.connections_per_second, limit.burst)
            }),
            snat_port_min: *SNAT_PORTS.start(),
            snat_port_max: *SNAT_PORTS.end(),
            timeouts: service.timeouts,
            ..Service::default()
        };
        for (slot, source) in value.snat.iter_mut().zip(sources) {
            let vip = lease_index(target, source);
            *slot = SnatAddress { address: IpBe::new(*source), vip, ..SnatAddress::default() };
            value.snat_count += 1;
        }
        target.services.insert(key, value);
    }
    target.allowed.extend(service.allow.iter().map(|range| (id, *range)));
}

const fn kind(mode: Mode) -> Kind {
    match mode {
        Mode::Nat => Kind::Nat,
        Mode::Dnat => Kind::Dnat,
        Mode::Dsr => Kind::Dsr,
    }
}

const _: () = assert!(MAX_SNAT_ADDRESSES <= u8::MAX as usize);

fn lease_index(target: &Installed, vip: &IpAddr) -> u32 {
    // `vips` gave an index to every address of a service.
    target.vips[vip]
}

/// The backends of a service, and its table.
fn add_backends(
    target: &mut Installed,
    installed: &Installed,
    service: &DesiredService,
    service_id: u32,
    ids: &BTreeMap<Identity, BackendId>,
) {
    let mut entries = Vec::new();
    for desired in &service.backends {
        let identity = identity(service_id, desired);
        // `backend_ids` went through the same backends.
        let id = ids[&identity];
        let before = installed.backends.get(&id).copied().unwrap_or_default();
        let is_local = desired.way == Way::Local;
        let moved = installed.backends.contains_key(&id) && before.is_local() != is_local;
        let backend = Backend {
            endpoint: identity.1,
            next_hop: match desired.way {
                Way::Hop(next_hop) => next_hop,
                // A neighbour that cannot be resolved is most likely where it was.
                Way::Unknown => before.next_hop,
                Way::Local | Way::Barred => NextHop::UNKNOWN,
            },
            // To this node or from it: what was translated for the one way is nothing for the other.
            epoch: before.epoch.wrapping_add(moved.into()),
            flags: if is_local { backend::flag::LOCAL } else { 0 },
            service: service_id,
            state: desired.state as u8,
            health: desired::state(Admin::Enabled, desired.health) as u8,
        };
        target.backends.insert(id, backend);
        entries.push(Entry { name: &desired.name, id, weight: desired.effective_weight });
    }
    let own = service.preferred.as_ref();
    let own = own.and_then(|own| entries.iter().find(|entry| entry.name == own));
    let own = own.map_or(0, |entry| entry.id);
    target.tables.insert(service_id, maglev::build(&entries));
    for key in keys(service) {
        if let Some(value) = target.services.get_mut(&key) {
            value.own_backend = own;
        }
    }
}

fn check_allowed(target: &Installed, installed: &Installed) -> Result<(), PlanError> {
    let capacity = installed.capacity.allowed;
    let needed = target.allowed.union(&installed.allowed).count();
    if u32::try_from(needed).is_ok_and(|needed| needed <= capacity) {
        Ok(())
    } else {
        Err(PlanError::Allowed { needed, capacity })
    }
}

/// Where the backends listen and their hosts, each with the number of services behind it.
fn add_endpoints<'a>(
    target: &mut Installed,
    services: impl Iterator<Item = (&'a DesiredService, u32)>,
) {
    for backend in target.backends.values() {
        for at in [backend.endpoint, Endpoint::host(backend.endpoint.address)] {
            target.endpoints.entry(at).or_default().services += 1;
        }
    }
    for (service, _) in services.filter(|(service, _)| service.exclusive) {
        let Some(vip) = service.vips.first() else { continue };
        let lease = lease_index(target, vip);
        for backend in &service.backends {
            let at = endpoint(backend.address, backend.port);
            if let Some(value) = target.endpoints.get_mut(&at) {
                let services = value.services;
                let vip = endpoint(*vip, service.port);
                *value =
                    EndpointUse { services, exclusive: 1, vip, lease, ..EndpointUse::default() };
            }
        }
    }
}

/// Hosts that send to clients what is to come from a VIP: backends of `dnat` services, and those that
/// such flows are left of. What this node itself sends does not come in by an interface.
fn sources(desired: &Desired, target: &Installed) -> BTreeSet<IpAddr> {
    let dnat = desired.services.iter().filter(|service| service.mode == Mode::Dnat);
    let backends = dnat.flat_map(|service| &service.backends);
    let remote = backends.filter(|backend| backend.way != Way::Local);
    let replying = target.replying.iter().filter_map(|id| target.backends.get(id));
    let replying = replying.filter(|backend| !backend.is_local());
    remote
        .map(|backend| backend.address)
        .chain(replying.map(|backend| backend.endpoint.address.get()))
        .collect()
}

/// Backends that are gone stay for as long as flows go there.
fn keep_referenced(target: &mut Installed, installed: &Installed) {
    for (id, backend) in &installed.backends {
        if !target.backends.contains_key(id) && installed.referenced.contains(id) {
            let kept = Backend { state: State::Removed as u8, ..*backend };
            target.backends.insert(*id, kept);
        }
    }
}
