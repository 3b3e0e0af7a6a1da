use lb_common::IPPROTO_TCP;
use lb_common::addr::{IpBe, PortBe};
use lb_common::backend::State;
use lb_common::conntrack::Timeouts;
use lb_common::link::NextHop;
use lb_common::nat::Kind;
use lb_common::rate::RateLimit;
use lb_common::service::flag;

use super::*;
use crate::config::{self, Family, Mode};
use crate::control::desired::{Admin, DesiredBackend, DesiredService, Way};
use crate::health::Health;

mod modes;
mod properties;

/// One VIP, one service, one backend, from nothing.
#[test]
fn what_others_refer_to_is_written_first() {
    let ops = plan(&desired([api(&[1])]), &installed()).unwrap();
    let expected = [
        "SetLease",
        "SetFilters",
        "AddVip",
        "SetEndpoint",
        "SetEndpoint",
        "ClearCounters",
        "SetBackend",
        "SetTable",
        "SetService",
    ];
    assert_eq!(kinds(&ops), expected);
    assert_eq!(ops[0], MapOp::SetLease { index: 0, lease: Lease::FOREVER });
    assert_eq!(ops[5], MapOp::ClearCounters(1));
}

#[test]
fn what_refers_to_others_is_removed_first() {
    let maps = converged(&desired([api(&[1])]), installed());
    let ops = plan(&Desired::default(), &maps).unwrap();
    let expected = [
        "RemoveService",
        "RemoveTable",
        "RemoveBackend",
        "RemoveEndpoint",
        "RemoveEndpoint",
        "RemoveVip",
        "SetFilters",
    ];
    assert_eq!(kinds(&ops), expected);
    let empty = converged(&Desired::default(), maps);
    assert_eq!(empty, installed());
}

#[test]
fn a_service_is_stored_as_the_datapath_reads_it() {
    let mut service = api(&[1]);
    service.snat = vec![vip(7), vip(8)];
    let maps = converged(&desired([service]), installed());
    let stored = maps.services[&key(100)];
    assert_eq!((stored.id, stored.vip), (1, maps.vips[&vip(100)]));
    assert_eq!((stored.kind, stored.snat_count), (Kind::Nat as u8, 2));
    assert_eq!((stored.snat_port_min, stored.snat_port_max), (1024, 65_535));
    for (slot, address) in stored.snat.iter().zip([vip(7), vip(8)]) {
        assert_eq!((slot.address, slot.vip), (IpBe::new(address), maps.vips[&address]));
    }
}

#[test]
fn without_snat_addresses_each_vip_is_its_own() {
    let mut service = api(&[1]);
    service.vips.push(vip(101));
    let maps = converged(&desired([service]), installed());
    for last in [100, 101] {
        let stored = maps.services[&key(last)];
        assert_eq!((stored.id, stored.snat_count), (1, 1));
        assert_eq!(stored.snat[0].address, IpBe::new(vip(last)));
        assert_eq!((stored.snat[0].vip, stored.vip), (stored.vip, maps.vips[&vip(last)]));
    }
}

#[test]
fn a_backend_that_goes_down_costs_two_writes() {
    let maps = converged(&desired([api(&[1, 2])]), installed());
    let mut service = api(&[1, 2]);
    service.backends[0].state = State::Down;
    service.backends[0].effective_weight = 0;
    let ops = plan(&desired([service]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["SetBackend", "SetTable"]);
}

#[test]
fn a_backend_with_flows_stays_until_they_end() {
    let mut maps = converged(&desired([api(&[1, 2])]), installed());
    let gone = id_of(&maps, 1);
    maps.referenced.insert(gone);

    let mut maps = converged(&desired([api(&[2])]), maps);
    assert_eq!(maps.backends[&gone].state, State::Removed as u8);
    assert!(maps.endpoints.contains_key(&endpoint(1)));
    assert!(!maps.tables[&1].contains(&gone));

    maps.referenced.clear();
    let ops = plan(&desired([api(&[2])]), &maps).unwrap();
    let host = Endpoint::host(IpBe::new(vip(1)));
    let expected = [
        MapOp::RemoveBackend(gone),
        MapOp::RemoveEndpoint(host),
        MapOp::RemoveEndpoint(endpoint(1)),
    ];
    assert_eq!(ops, expected);
}

#[test]
fn a_backend_that_comes_back_gets_its_identifier_back() {
    let mut maps = converged(&desired([api(&[1, 2])]), installed());
    let id = id_of(&maps, 1);
    maps.referenced.insert(id);
    let maps = converged(&desired([api(&[2])]), maps);
    let ops = plan(&desired([api(&[1, 2])]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["SetBackend", "SetTable"]);
    assert_eq!(id_of(&converged(&desired([api(&[1, 2])]), maps), 1), id);
}

#[test]
fn an_identifier_that_flows_refer_to_is_not_given_away() {
    let mut maps = installed();
    maps.referenced = BTreeSet::from([1, 3]);
    let maps = converged(&desired([api(&[1, 2])]), maps);
    assert_eq!(maps.backends.keys().copied().collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn names_may_change() {
    let maps = converged(&desired([api(&[1, 2])]), installed());
    let mut renamed = api(&[1, 2]);
    renamed.name = "kubernetes".to_owned();
    assert_eq!(plan(&desired([renamed.clone()]), &maps).unwrap(), []);
    renamed.backends[0].name = "another".to_owned();
    let ops = plan(&desired([renamed]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["SetTable"], "slots are chosen by name");
}

#[test]
fn a_service_may_move_to_another_vip_by_way_of_both() {
    let maps = converged(&desired([api(&[1])]), installed());
    let mut both = api(&[1]);
    both.vips.push(vip(101));
    let maps = converged(&desired([both]), maps);
    let mut moved = api(&[1]);
    moved.vips = vec![vip(101)];
    let maps = converged(&desired([moved]), maps);
    assert_eq!(maps.services.keys().copied().collect::<Vec<_>>(), [key(101)]);
    assert_eq!((maps.services[&key(101)].id, id_of(&maps, 1)), (1, 1));
}

#[test]
fn a_vip_that_moves_does_not_take_the_service_along() {
    let mut first = api(&[1, 2]);
    first.vips.push(vip(101));
    let maps = converged(&desired([first]), installed());
    let mut other = api(&[3, 4]);
    other.vips = vec![vip(101)];
    let maps = converged(&desired([other, api(&[1, 2])]), maps);
    assert_eq!((maps.services[&key(100)].id, maps.services[&key(101)].id), (1, 2));
}

#[test]
fn an_unresolved_neighbour_stays_where_it_was() {
    let known = NextHop { link: 4, ..NextHop::default() };
    let mut resolved = api(&[1]);
    resolved.backends[0].way = Way::Hop(known);
    let mut maps = converged(&desired([api(&[1])]), installed());
    assert_eq!(maps.backends[&1].next_hop, NextHop::default());
    maps = converged(&desired([resolved]), maps);
    assert_eq!(maps.backends[&1].next_hop, known);
    assert_eq!(plan(&desired([api(&[1])]), &maps).unwrap(), []);
}

#[test]
fn a_backend_that_comes_to_this_node_or_leaves_it_gives_its_flows_up() {
    let of = |way| {
        let mut service = api(&[1]);
        service.backends[0].way = way;
        desired([service])
    };
    let hop = NextHop { link: 4, ..NextHop::default() };
    let maps = converged(&of(Way::Local), installed());
    assert!(maps.backends[&1].is_local());
    assert_eq!(maps.backends[&1].epoch, 0, "a new one has no flows");
    assert_eq!(plan(&of(Way::Local), &maps).unwrap(), []);
    let maps = converged(&of(Way::Hop(hop)), maps);
    assert_eq!((maps.backends[&1].is_local(), maps.backends[&1].epoch), (false, 1));
    assert_eq!(maps.backends[&1].next_hop, hop);
    let maps = converged(&of(Way::Local), maps);
    assert_eq!((maps.backends[&1].is_local(), maps.backends[&1].epoch), (true, 2));
    assert_eq!(maps.backends[&1].next_hop, NextHop::UNKNOWN);
}

#[test]
fn what_this_node_sends_itself_is_looked_for_at_no_interface() {
    let mut service = api(&[1, 2]);
    service.mode = Mode::Dnat;
    service.backends[0].way = Way::Local;
    let mut maps = converged(&desired([service.clone()]), installed());
    let finds = |maps: &Installed, number| may_contain(&maps.filters.sources, vip(number));
    assert!(!finds(&maps, 1) && finds(&maps, 2));
    maps.replying.insert(1);
    assert_eq!(plan(&desired([service]), &maps).unwrap(), []);
}

#[test]
fn the_epoch_is_the_datapath_s() {
    let mut maps = converged(&desired([api(&[1])]), installed());
    maps.backends.entry(1).and_modify(|backend| backend.epoch = 9);
    let mut down = api(&[1]);
    down.backends[0].state = State::Down;
    assert_eq!(converged(&desired([down]), maps).backends[&1].epoch, 9);
}

#[test]
fn a_wrong_filter_is_put_right() {
    let mut maps = converged(&desired([api(&[1])]), installed());
    let right = maps.filters;
    maps.filters = Filters::EMPTY;
    let ops = plan(&desired([api(&[1])]), &maps).unwrap();
    assert_eq!(ops, [MapOp::SetFilters(Box::new(right))]);
}

/// The index stays, and so do flows.
#[test]
fn a_vip_closes_and_opens_in_one_write() {
    let open = desired([api(&[1])]);
    let mut maps = converged(&open, installed());
    let closed = Desired { closed: [vip(100)].into(), ..open.clone() };
    for (wanted, accepts) in [(&closed, false), (&open, true)] {
        let index = maps.vips[&vip(100)];
        let ops = plan(wanted, &maps).unwrap();
        assert_eq!(ops, [MapOp::AddVip { address: vip(100), index, accepts }]);
        ops.iter().for_each(|op| maps.apply(op));
        assert_eq!(plan(wanted, &maps).unwrap(), []);
    }
}

#[test]
fn tables_are_swapped_together() {
    let table = |service| MapOp::SetTable { service, slots: vec![] };
    let clear = MapOp::ClearCounters;
    let mut ops = vec![clear(1), clear(2)];
    ops.extend((0..130).map(table));
    ops.extend([clear(3), table(130)]);
    let lengths: Vec<usize> = together(&ops).map(<[MapOp]>::len).collect();
    assert_eq!(lengths, [1, 1, 64, 64, 2, 1, 1]);
    assert_eq!(together(&ops).flatten().collect::<Vec<_>>(), ops.iter().collect::<Vec<_>>());
}

#[test]
fn full_maps_are_an_error_that_says_what_to_do() {
    let mut maps = installed();
    maps.capacity = Capacity { backends: 3, services: 2, vips: 1, allowed: 1 };
    assert!(plan(&desired([api(&[1, 2])]), &maps).is_ok());

    let error = plan(&desired([api(&[1, 2, 3])]), &maps).unwrap_err();
    assert_eq!(error, PlanError::Backends { needed: 3, capacity: 2 });
    assert_eq!(
        error.to_string(),
        "no room for 3 backends, the maps hold 2: fairlead stop --handover, then start"
    );
    let mut two_vips = api(&[1]);
    two_vips.vips.push(vip(101));
    let error = plan(&desired([two_vips]), &maps).unwrap_err();
    assert_eq!(error, PlanError::Vips { needed: 2, capacity: 1 });
    let mut other = api(&[1]);
    other.port = 8443;
    let error = plan(&desired([api(&[1]), other]), &maps).unwrap_err();
    assert_eq!(error, PlanError::Services { needed: 2, capacity: 1 });
    let mut restricted = api(&[1]);
    restricted.allow = vec![range("10.0.0.0", 8), range("192.168.0.0", 16)];
    let error = plan(&desired([restricted]), &maps).unwrap_err();
    assert_eq!(error, PlanError::Allowed { needed: 2, capacity: 1 });
}

fn installed() -> Installed {
    Installed {
        capacity: Capacity { backends: 64, services: 16, vips: 16, allowed: 16 },
        ..Installed::default()
    }
}

fn desired<const N: usize>(services: [DesiredService; N]) -> Desired {
    let services = Vec::from(services);
    let addresses = services.iter().flat_map(|service| service.vips.iter().chain(&service.snat));
    Desired { vips: addresses.copied().collect(), services, ..Desired::default() }
}

/// A service on 10.0.0.100 with backends that are up.
fn api(backends: &[u8]) -> DesiredService {
    DesiredService {
        name: "api".to_owned(),
        family: Family::V4,
        vips: vec![vip(100)],
        port: 6443,
        mode: Mode::Nat,
        exclusive: false,
        allow: Vec::new(),
        rate_limit: None,
        snat: Vec::new(),
        timeouts: Timeouts::default(),
        panic: false,
        preferred: None,
        backends: backends.iter().map(|number| backend(*number)).collect(),
    }
}

fn backend(number: u8) -> DesiredBackend {
    DesiredBackend {
        admin: Admin::Enabled,
        health: Health::Up,
        name: format!("cp{number}"),
        address: vip(number),
        port: 6443,
        state: State::Up,
        weight: 100,
        effective_weight: 100,
        way: Way::Unknown,
    }
}

/// `service` in IPv6, with a VIP and backends of its own.
fn in_ipv6(mut service: DesiredService) -> DesiredService {
    let six = |address: &mut IpAddr| {
        if let IpAddr::V4(v4) = address {
            *address = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(v4.octets()[3])]);
        }
    };
    service.family = Family::V6;
    service.vips.iter_mut().for_each(six);
    service.snat.iter_mut().for_each(six);
    service.backends.iter_mut().for_each(|backend| six(&mut backend.address));
    service
}

fn range(network: &str, prefix_len: u8) -> Cidr {
    Cidr::containing(network.parse().unwrap(), prefix_len)
}

fn vip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint::new(IpBe::new(vip(last)), PortBe::new(6443), IPPROTO_TCP)
}

fn key(last: u8) -> ServiceKey {
    endpoint(last)
}

fn id_of(maps: &Installed, number: u8) -> BackendId {
    *maps.backends.iter().find(|(_, backend)| backend.endpoint == endpoint(number)).unwrap().0
}

/// The maps after the plan for `desired`.
fn converged(desired: &Desired, mut maps: Installed) -> Installed {
    for op in plan(desired, &maps).unwrap() {
        maps.apply(&op);
    }
    maps
}

/// Names of the variants.
fn kinds(ops: &[MapOp]) -> Vec<&'static str> {
    let kind = |op: &MapOp| match op {
        MapOp::SetLease { .. } => "SetLease",
        MapOp::AddVip { .. } => "AddVip",
        MapOp::SetFilters(_) => "SetFilters",
        MapOp::SetEndpoint { .. } => "SetEndpoint",
        MapOp::ClearCounters(_) => "ClearCounters",
        MapOp::SetBackend { .. } => "SetBackend",
        MapOp::SetTable { .. } => "SetTable",
        MapOp::Allow { .. } => "Allow",
        MapOp::SetService { .. } => "SetService",
        MapOp::RemoveService(_) => "RemoveService",
        MapOp::Disallow { .. } => "Disallow",
        MapOp::RemoveTable(_) => "RemoveTable",
        MapOp::RemoveBackend(_) => "RemoveBackend",
        MapOp::RemoveEndpoint(_) => "RemoveEndpoint",
        MapOp::RemoveVip { .. } => "RemoveVip",
    };
    ops.iter().map(kind).collect()
}
