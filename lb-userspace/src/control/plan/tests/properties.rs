//! What holds of the plan between any two configurations, with flows on any backends.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_step_leaves_a_reference_without_its_target(
        first in configuration(),
        second in configuration(),
        flows in prop::collection::btree_set(1u32..12, 0..5),
    ) {
        let mut maps = installed();
        for wanted in [&first, &second, &Desired::default(), &first] {
            for op in plan(wanted, &maps).unwrap() {
                check_write(&maps, &op)?;
                maps.apply(&op);
                check_references(&maps)?;
            }
            check_result(wanted, &maps)?;
            prop_assert_eq!(plan(wanted, &maps).unwrap(), []);
            maps.referenced.clone_from(&flows);
        }
    }

    #[test]
    fn identifiers_and_services_that_stay_are_left_alone(
        first in configuration(),
        second in configuration(),
        kept in any::<Index>(),
    ) {
        prop_assume!(!first.services.is_empty());
        let kept = first.services[kept.index(first.services.len())].clone();
        let second = with(second, &kept);
        let before = converged(&first, installed());
        let key_of = |vip: &IpAddr| Endpoint::new(IpBe::new(*vip), PortBe::new(kept.port), 6);
        let service = before.services[&key_of(&kept.vips[0])].id;
        for op in plan(&second, &before).unwrap() {
            match &op {
                MapOp::SetTable { service: id, .. } | MapOp::RemoveTable(id) => {
                    prop_assert_ne!(*id, service);
                }
                MapOp::SetBackend { id, backend } => {
                    prop_assert_ne!(backend.service, service);
                    prop_assert!(before.backends.get(id).is_none_or(|b| b.service != service));
                }
                MapOp::RemoveBackend(id) => {
                    prop_assert_ne!(before.backends[id].service, service);
                }
                MapOp::SetService { key, .. } | MapOp::RemoveService(key) => {
                    prop_assert!(!kept.vips.iter().any(|vip| key_of(vip) == *key));
                }
                MapOp::Allow { service: id, .. } | MapOp::Disallow { service: id, .. } => {
                    prop_assert_ne!(*id, service);
                }
                MapOp::SetLease { .. }
                | MapOp::AddVip { .. }
                | MapOp::SetFilters(_)
                | MapOp::SetEndpoint { .. }
                | MapOp::ClearCounters(_)
                | MapOp::RemoveEndpoint(_)
                | MapOp::RemoveVip { .. } => {}
            }
        }
    }

    #[test]
    fn a_change_that_is_undone_leaves_what_was_there(
        first in configuration(),
        second in configuration(),
    ) {
        let mut maps = converged(&first, installed());
        let before = shape(&maps);
        for wanted in [&second, &first] {
            for op in plan(wanted, &maps).unwrap() {
                maps.apply(&op);
            }
        }
        prop_assert_eq!(shape(&maps), before);
    }

    #[test]
    fn a_full_map_is_an_error_or_enough(
        first in configuration(),
        second in configuration(),
        backends in 0u32..12,
        services in 0u32..8,
        vips in 0u32..8,
    ) {
        let mut maps = installed();
        maps.capacity = Capacity { backends, services, vips, allowed: services };
        for wanted in [&first, &second] {
            let Ok(ops) = plan(wanted, &maps) else { continue };
            for op in ops {
                maps.apply(&op);
                prop_assert!(maps.vips.len() <= vips as usize);
                prop_assert!(maps.services.len() <= services as usize);
                prop_assert!(maps.vips.values().all(|index| *index < vips));
                prop_assert!(maps.tables.keys().all(|id| (1..services).contains(id)));
                prop_assert!(maps.backends.keys().all(|id| (1..backends).contains(id)));
            }
        }
    }
}

/// What the datapath does with these maps: everything but the identifiers.
type Shape = (
    BTreeSet<IpAddr>,
    BTreeMap<ServiceKey, (Service, Vec<Endpoint>, Vec<Backend>, Vec<Cidr>)>,
    BTreeMap<Endpoint, EndpointUse>,
    Filters,
);

fn shape(maps: &Installed) -> Shape {
    let service = |(key, service): (&ServiceKey, &Service)| {
        let id = service.id;
        let table = maps.tables[&id].iter().map(|slot| maps.backends[slot].endpoint).collect();
        let own = maps.backends.values().filter(|backend| backend.service == id);
        let mut backends: Vec<_> = own.map(|backend| Backend { service: 0, ..*backend }).collect();
        backends.sort_by_key(|backend| backend.endpoint);
        let allowed = maps.allowed.iter().filter(|(service, _)| *service == id);
        let mut service = Service { id: 0, vip: 0, ..*service };
        service.snat.iter_mut().for_each(|snat| snat.vip = 0);
        (*key, (service, table, backends, allowed.map(|(_, range)| *range).collect()))
    };
    let endpoints = maps.endpoints.iter();
    (
        maps.vips.keys().copied().collect(),
        maps.services.iter().map(service).collect(),
        endpoints.map(|(at, value)| (*at, EndpointUse { lease: 0, ..*value })).collect(),
        maps.filters,
    )
}

/// No identifier that flows refer to gets another meaning, nor one that is in use.
fn check_write(maps: &Installed, op: &MapOp) -> Result<(), TestCaseError> {
    match op {
        MapOp::SetBackend { id, backend } => match maps.backends.get(id) {
            Some(before) => {
                prop_assert_eq!(before.endpoint, backend.endpoint);
                prop_assert_eq!(before.service, backend.service);
            }
            None => prop_assert!(!maps.referenced.contains(id)),
        },
        MapOp::RemoveBackend(id) | MapOp::ClearCounters(id) => {
            prop_assert!(!maps.referenced.contains(id));
        }
        MapOp::AddVip { address, index, .. } => {
            let mut others = maps.vips.iter().filter(|(known, _)| *known != address);
            prop_assert!(others.all(|(_, used)| used != index));
        }
        MapOp::SetLease { .. }
        | MapOp::SetFilters(_)
        | MapOp::SetEndpoint { .. }
        | MapOp::SetTable { .. }
        | MapOp::Allow { .. }
        | MapOp::SetService { .. }
        | MapOp::Disallow { .. }
        | MapOp::RemoveService(_)
        | MapOp::RemoveTable(_)
        | MapOp::RemoveEndpoint(_)
        | MapOp::RemoveVip { .. } => {}
    }
    Ok(())
}

fn check_references(maps: &Installed) -> Result<(), TestCaseError> {
    for vip in maps.vips.keys() {
        prop_assert!(may_contain(&maps.filters.vips, *vip));
    }
    for (key, service) in &maps.services {
        prop_assert!(maps.tables.contains_key(&service.id));
        prop_assert_eq!(maps.vips.get(&key.address.get()), Some(&service.vip));
        for snat in &service.snat[..usize::from(service.snat_count)] {
            prop_assert_eq!(maps.vips.get(&snat.address.get()), Some(&snat.vip));
        }
    }
    for (service, slots) in &maps.tables {
        let named: BTreeSet<BackendId> = slots.iter().copied().collect();
        for id in named {
            prop_assert_eq!(maps.backends.get(&id).map(|b| b.service), Some(*service));
        }
    }
    for backend in maps.backends.values() {
        prop_assert!(maps.endpoints.contains_key(&backend.endpoint));
        prop_assert!(maps.endpoints.contains_key(&Endpoint::host(backend.endpoint.address)));
    }
    for value in maps.endpoints.values().filter(|value| value.exclusive != 0) {
        prop_assert_eq!(maps.vips.get(&value.vip.address.get()), Some(&value.lease));
    }
    // Nobody is let in who may not, and somebody is where somebody may.
    for service in maps.services.values() {
        let restricted = service.flags & flag::RESTRICTED != 0;
        let allowed = maps.allowed.iter().any(|(id, _)| *id == service.id);
        prop_assert!(!restricted || allowed);
    }
    // Whoever may be chosen in `dnat` is heard.
    for service in maps.services.values().filter(|it| it.kind == Kind::Dnat as u8) {
        for id in &maps.tables[&service.id] {
            let address = maps.backends[id].endpoint.address.get();
            prop_assert!(may_contain(&maps.filters.sources, address));
        }
    }
    Ok(())
}

/// The maps hold what is wanted, and beyond that only what flows need.
fn check_result(wanted: &Desired, maps: &Installed) -> Result<(), TestCaseError> {
    prop_assert_eq!(&maps.vips.keys().copied().collect::<BTreeSet<_>>(), &wanted.vips);
    prop_assert_eq!(maps.filters.vips, filters(&wanted.vips, []).vips);
    let allowed: usize = wanted.services.iter().map(|service| service.allow.len()).sum();
    prop_assert_eq!(maps.allowed.len(), allowed);
    prop_assert_eq!(maps.tables.len(), wanted.services.len());
    let keys: usize = wanted.services.iter().map(|service| service.vips.len()).sum();
    prop_assert_eq!(maps.services.len(), keys);
    let mut live = BTreeSet::new();
    for service in &wanted.services {
        let key = Endpoint::new(IpBe::new(service.vips[0]), PortBe::new(service.port), 6);
        let stored = &maps.services[&key];
        prop_assert_eq!(stored.timeouts, service.timeouts);
        let named: BTreeSet<BackendId> = maps.tables[&stored.id].iter().copied().collect();
        for backend in &service.backends {
            let identity = (
                stored.id,
                Endpoint::new(IpBe::new(backend.address), PortBe::new(backend.port), 6),
            );
            let mut found =
                maps.backends.iter().filter(|(_, b)| (b.service, b.endpoint) == identity);
            let (id, value) = found.next().unwrap();
            prop_assert!(found.next().is_none());
            prop_assert_eq!(value.state, backend.state as u8);
            prop_assert_eq!(named.contains(id), backend.effective_weight > 0);
            live.insert(*id);
        }
    }
    for (id, backend) in &maps.backends {
        let removed = backend.state == State::Removed as u8;
        prop_assert_eq!(removed, !live.contains(id));
        prop_assert!(!removed || maps.referenced.contains(id));
    }
    let endpoints: BTreeSet<_> = maps
        .backends
        .values()
        .flat_map(|backend| [backend.endpoint, Endpoint::host(backend.endpoint.address)])
        .collect();
    prop_assert_eq!(maps.endpoints.keys().copied().collect::<BTreeSet<_>>(), endpoints);
    Ok(())
}

/// `kept` first, and of the other services those without its keys.
fn with(other: Desired, kept: &DesiredService) -> Desired {
    let mut services = other.services;
    services.retain(|service| {
        service.port != kept.port || !service.vips.iter().any(|vip| kept.vips.contains(vip))
    });
    services.push(kept.clone());
    let addresses = services.iter().flat_map(|service| service.vips.iter().chain(&service.snat));
    Desired { vips: addresses.copied().collect(), services, ..Desired::default() }
}

/// Up to four services on two ports of three VIPs, with some of five backends.
fn configuration() -> impl Strategy<Value = Desired> {
    prop::collection::vec(service(), 0..4).prop_map(|services| {
        services.into_iter().fold(Desired::default(), |desired, service| with(desired, &service))
    })
}

fn service() -> impl Strategy<Value = DesiredService> {
    (
        subsequence(vec![100u8, 101, 102], 1..=3),
        prop::bool::ANY,
        subsequence(vec![7u8, 8], 0..=2),
        subsequence(vec![1u8, 2, 3, 4, 5], 1..=5),
        any::<[bool; 5]>(),
        0u32..3,
        (0..4u8, subsequence(vec![8u8, 16, 24], 0..=2), any::<bool>()),
    )
        .prop_map(|(vips, other_port, snat, backends, up, established, more)| {
            let mut service = api(&backends);
            service.vips = vips.into_iter().map(vip).collect();
            service.snat = snat.into_iter().map(vip).collect();
            service.port = if other_port { 8443 } else { 6443 };
            service.timeouts.established = established;
            let (mode, lengths, is_v6) = more;
            (service.mode, service.exclusive) = match mode {
                0 => (Mode::Nat, false),
                1 => (Mode::Dsr, false),
                2 => (Mode::Dnat, false),
                _ => (Mode::Dnat, true),
            };
            let network = if is_v6 { "fd00::" } else { "10.0.0.0" };
            service.allow = lengths.into_iter().map(|length| range(network, length)).collect();
            for (backend, up) in service.backends.iter_mut().zip(up) {
                backend.state = if up { State::Up } else { State::Down };
                backend.effective_weight = if up { 100 } else { 0 };
            }
            if is_v6 { in_ipv6(service) } else { service }
        })
}
