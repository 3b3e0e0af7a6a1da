//! What differs between modes and families, and who may connect.

use super::*;

/// VIP 100 in the mode and with the sources given.
fn with(mode: Mode, allow: &[Cidr]) -> DesiredService {
    DesiredService { mode, allow: allow.to_vec(), ..api(&[1]) }
}

#[test]
fn a_dual_stack_service_has_two_identifiers() {
    let both = desired([api(&[1, 2]), in_ipv6(api(&[1, 2]))]);
    let maps = converged(&both, installed());
    let (v4, v6): (Vec<_>, Vec<_>) =
        maps.services.iter().partition(|(key, _)| key.address.get().is_ipv4());
    let ([(_, v4)], [(_, v6)]) = (&v4[..], &v6[..]) else { panic!("{:?}", maps.services) };
    assert_ne!((v4.id, v4.vip), (v6.id, v6.vip));
    for service in [v4, v6] {
        for id in &maps.tables[&service.id] {
            assert_eq!(maps.backends[id].service, service.id);
            let family = maps.backends[id].endpoint.address.get().is_ipv4();
            assert_eq!(family, service.id == v4.id);
        }
    }
    assert_eq!(plan(&both, &maps).unwrap(), []);
    let alone = converged(&desired([api(&[1, 2])]), maps.clone());
    assert_eq!(alone.services[&key(100)].id, v4.id);
    assert!(may_contain(&maps.filters.vips, "fd00::64".parse().unwrap()));
    assert!(!may_contain(&alone.filters.vips, "fd00::64".parse().unwrap()));
}

#[test]
fn a_service_has_the_kind_of_its_mode() {
    for (mode, kind) in [(Mode::Nat, Kind::Nat), (Mode::Dnat, Kind::Dnat), (Mode::Dsr, Kind::Dsr)] {
        let maps = converged(&desired([with(mode, &[])]), installed());
        let stored = maps.services[&key(100)];
        assert_eq!((stored.kind, stored.flags, stored.snat_count), (kind as u8, 0, 1));
        assert!(stored.rate.is_none());
        assert_eq!(maps.filters.any_source, u64::from(mode == Mode::Dnat));
        assert_eq!(may_contain(&maps.filters.sources, vip(1)), mode == Mode::Dnat);
    }
}

#[test]
fn replies_pass_the_filter_for_as_long_as_dnat_flows_are_left() {
    let mut maps = converged(&desired([with(Mode::Dnat, &[])]), installed());
    let id = id_of(&maps, 1);
    maps.referenced.insert(id);
    maps.replying.insert(id);
    let mut maps = converged(&desired([with(Mode::Nat, &[])]), maps);
    assert!(may_contain(&maps.filters.sources, vip(1)));
    let mut gone = converged(&desired([api(&[2])]), maps.clone());
    assert!(may_contain(&gone.filters.sources, vip(1)));

    gone.referenced.clear();
    gone.replying.clear();
    let gone = converged(&desired([api(&[2])]), gone);
    assert_eq!(gone.filters.any_source, 0);
    maps.replying.clear();
    assert_eq!(converged(&desired([api(&[1])]), maps).filters.sources, AddressFilter::EMPTY);
}

#[test]
fn who_may_connect_is_there_before_others_may_not() {
    let ten = range("10.0.0.0", 8);
    let maps = converged(&desired([api(&[1])]), installed());
    let ops = plan(&desired([with(Mode::Nat, &[ten])]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["Allow", "SetService"]);
    let maps = converged(&desired([with(Mode::Nat, &[ten])]), maps);
    assert_eq!(maps.services[&key(100)].flags, flag::RESTRICTED);

    let other = range("192.168.0.0", 16);
    let ops = plan(&desired([with(Mode::Nat, &[other])]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["Allow", "Disallow"]);
    let ops = plan(&desired([api(&[1])]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["SetService", "Disallow"]);
    let ops = plan(&Desired::default(), &maps).unwrap();
    assert_eq!(kinds(&ops)[..3], ["RemoveService", "Disallow", "RemoveTable"]);
}

#[test]
fn a_rate_is_stored_as_an_interval() {
    let mut service = api(&[1]);
    let limit = config::RateLimit { connections_per_second: 50, burst: 200 };
    service.rate_limit = Some(limit);
    let maps = converged(&desired([service]), installed());
    assert_eq!(maps.services[&key(100)].rate, RateLimit { interval: 20_000_000, burst: 200 });
}

#[test]
fn an_endpoint_knows_the_vip_that_has_it_to_itself() {
    let exclusive = DesiredService { exclusive: true, ..with(Mode::Dnat, &[]) };
    let maps = converged(&desired([exclusive.clone()]), installed());
    let value = maps.endpoints[&endpoint(1)];
    let lease = maps.vips[&vip(100)];
    assert_eq!((value.services, value.exclusive, value.vip, value.lease), (1, 1, key(100), lease));
    let host = maps.endpoints[&Endpoint::host(IpBe::new(vip(1)))];
    assert_eq!(host, EndpointUse { services: 1, ..EndpointUse::default() });

    let shared = DesiredService { exclusive: false, ..exclusive };
    let ops = plan(&desired([shared]), &maps).unwrap();
    assert_eq!(kinds(&ops), ["SetEndpoint"]);
}

#[test]
fn an_endpoint_of_several_services_is_counted() {
    let mut other = api(&[1]);
    other.port = 8443;
    let maps = converged(&desired([api(&[1]), other]), installed());
    assert_eq!(maps.endpoints[&endpoint(1)].services, 2);
    let one = converged(&desired([api(&[1])]), maps);
    assert_eq!(one.endpoints[&endpoint(1)].services, 1);
}
