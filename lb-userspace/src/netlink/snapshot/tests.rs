use super::*;

const LO: u32 = 1;
const ETH0: u32 = 2;
const ETH1: u32 = 3;
const VLAN: u32 = 4;
const PEER: Mac = Mac([2, 0, 0, 0, 1, 1]);

#[test]
fn the_longest_prefix_wins_and_then_the_lowest_metric() {
    let cases = [
        ("10.0.0.7", Some((ETH0, None))),
        ("192.168.3.3", Some((ETH1, Some(ip("10.1.0.1"))))),
        ("8.8.8.8", Some((ETH0, Some(ip("10.0.0.1"))))),
    ];
    for (dst, expected) in cases {
        let found = node().route_to(ip(dst)).map(|route| (route.ifindex, route.gateway));
        assert_eq!(found, expected, "{dst}");
    }
    assert_eq!(Snapshot::default().route_to(ip("8.8.8.8")), None);
}

#[test]
fn next_hops() {
    let unresolved =
        |neighbour, ifindex| Resolution::Unresolved { neighbour: ip(neighbour), ifindex };
    let known = |ifindex, mac, vlan| {
        let through = if vlan == 0 { ifindex } else { VLAN };
        Resolution::Known(Hop { through, ifindex, mac, vlan, inner_vlan: 0 })
    };
    let cases = [
        ("10.0.0.11", known(ETH0, PEER, 0)),
        ("8.8.8.8", known(ETH0, Mac([2, 0, 0, 0, 1, 0]), 0)),
        ("10.0.0.12", unresolved("10.0.0.12", ETH0)),
        ("10.0.0.13", unresolved("10.0.0.13", ETH0)),
        ("10.0.0.14", Resolution::Failed { neighbour: ip("10.0.0.14"), ifindex: ETH0 }),
        ("10.0.0.255", unresolved("10.0.0.255", ETH0)),
        ("192.168.3.3", unresolved("10.1.0.1", ETH1)),
        ("10.2.0.5", known(ETH0, PEER, 100)),
        ("172.16.0.1", Resolution::NoRoute),
        ("10.0.0.2", Resolution::Local),
        ("10.0.0.100", Resolution::Local),
        ("127.0.0.53", Resolution::Local),
    ];
    for (dst, expected) in cases {
        assert_eq!(node().next_hop(ip(dst)), expected, "{dst}");
    }
    assert_eq!(Snapshot::default().next_hop(ip("8.8.8.8")), Resolution::NoRoute);
}

#[test]
fn every_state_in_which_the_kernel_sends_is_usable() {
    use NeighbourState::*;
    for state in [Reachable, Stale, Delay, Probe, Permanent, NoArp] {
        let mut node = node();
        node.neighbours.insert((ETH0, ip("10.0.0.11")), Neighbour { mac: Some(PEER), state });
        assert!(matches!(node.next_hop(ip("10.0.0.11")), Resolution::Known(_)), "{state:?}");
    }
    for state in [None, Incomplete, Failed] {
        assert_eq!(Neighbour { mac: Some(PEER), state }.usable_mac(), Option::None, "{state:?}");
    }
}

#[test]
fn two_tags_stack_and_three_do_not_fit() {
    let mut node = node();
    node.links.insert(5, link(5, "inner", LinkKind::Vlan { id: 200, parent: VLAN }));
    node.links.insert(6, link(6, "third", LinkKind::Vlan { id: 300, parent: 5 }));
    let hop = node.hop_through(5, PEER).unwrap();
    assert_eq!((hop.through, hop.ifindex, hop.vlan, hop.inner_vlan), (5, ETH0, 100, 200));
    assert_eq!(node.hop_through(6, PEER), None);
    assert_eq!(node.hop_through(7, PEER), None);
}

#[test]
fn a_port_belongs_to_its_bond_or_bridge() {
    let mut node = node();
    let masters = [
        (LinkKind::Bond, true),
        (LinkKind::Other("bridge".to_owned()), true),
        (LinkKind::Other("vrf".to_owned()), false),
    ];
    for (kind, is_aggregate) in masters {
        node.links.insert(9, link(9, "master0", kind.clone()));
        let port = Link { master: Some(9), ..link(ETH0, "eth0", LinkKind::Other(String::new())) };
        let found = node.aggregate_of(&port).map(|master| master.name.as_str());
        assert_eq!(found, is_aggregate.then_some("master0"), "{kind:?}");
    }
    assert_eq!(node.aggregate_of(&node.links[&ETH1]), None);
    assert!(node.has_vlans(ETH0) && !node.has_vlans(ETH1));
}

#[test]
fn sources_are_never_vips() {
    let vips = BTreeSet::from([ip("10.0.0.100")]);
    let mut node = node();
    assert_eq!(node.source_for(ip("10.0.0.11"), &vips), Some(ip("10.0.0.2")));
    assert_eq!(node.source_for(ip("8.8.8.8"), &vips), Some(ip("10.0.0.2")));
    assert_eq!(node.source_for(ip("192.168.3.3"), &vips), Some(ip("10.1.0.2")));
    assert_eq!(node.source_for(ip("172.16.0.1"), &vips), None);

    node.routes[0].prefsrc = Some(ip("10.0.0.3"));
    assert_eq!(node.source_for(ip("10.0.0.11"), &vips), Some(ip("10.0.0.3")));
    node.routes[0].prefsrc = Some(ip("10.0.0.100"));
    assert_eq!(node.source_for(ip("10.0.0.11"), &vips), Some(ip("10.0.0.2")));

    node.addresses.retain(|address| address.ifindex != ETH0);
    assert_eq!(node.source_for(ip("10.0.0.11"), &vips), Some(ip("10.1.0.2")), "unnumbered");
    node.addresses.clear();
    assert_eq!(node.source_for(ip("10.0.0.11"), &vips), None);
}

#[test]
fn the_subnet_of_the_gateway_decides_between_sources_of_an_interface() {
    let mut node = node();
    node.addresses.insert(0, address(ETH0, "192.0.2.1", 24, false));
    assert_eq!(node.source_for(ip("8.8.8.8"), &BTreeSet::new()), Some(ip("10.0.0.2")));
    node.addresses.retain(|address| address.address != ip("10.0.0.2"));
    assert_eq!(
        node.source_for(ip("8.8.8.8"), &BTreeSet::new()),
        Some(ip("192.0.2.1")),
        "an address that is not deprecated, rather than the VIP"
    );
}

#[test]
fn a_vip_goes_where_its_subnet_is() {
    let node = node();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let cases: [(&str, &[&str], Option<u32>); 6] = [
        ("10.1.0.50", &["eth0", "eth1"], Some(ETH1)),
        ("10.0.0.100", &["eth1", "eth0"], Some(ETH0)),
        ("203.0.113.9", &["eth1", "eth0"], Some(ETH1)),
        ("203.0.113.9", &["gone", "eth0"], Some(ETH0)),
        ("10.0.0.100", &["gone"], None),
        ("10.0.0.100", &[], None),
    ];
    for (vip, candidates, expected) in cases {
        assert_eq!(node.interface_for(ip(vip), &names(candidates)), expected, "{vip}");
    }
}

#[test]
fn a_vip_that_is_there_already_does_not_count_as_its_subnet() {
    let mut node = node();
    node.addresses.push(address(ETH1, "10.0.0.101", 32, true));
    let candidates = ["eth1".to_owned(), "eth0".to_owned()];
    assert_eq!(node.interface_for(ip("10.0.0.101"), &candidates), Some(ETH0));
}

#[test]
fn the_datapath_gets_unicast_routes_longest_first() {
    let (entries, omitted) = node().routes_for_datapath(10);
    let found: Vec<_> =
        entries.iter().map(|entry| (entry.dst.to_string(), entry.through)).collect();
    let expected = [
        ("10.0.0.0/24".to_owned(), ETH0),
        ("10.1.0.0/24".to_owned(), ETH1),
        ("10.2.0.0/24".to_owned(), VLAN),
        ("192.168.0.0/16".to_owned(), ETH1),
        ("0.0.0.0/0".to_owned(), ETH0),
    ];
    assert_eq!(found, expected);
    assert_eq!(omitted, 0);
    assert_eq!((entries[2].through, entries[2].ifindex), (VLAN, ETH0));
    assert_eq!(entries[0].gateway, None);
    assert_eq!(entries[4].gateway, Some(ip("10.0.0.1")));

    let (entries, omitted) = node().routes_for_datapath(4);
    assert_eq!((entries.len(), omitted), (4, 1));
    assert!(entries.iter().all(|entry| entry.dst.prefix_len > 0));
}

#[test]
fn the_datapath_gets_usable_neighbours_gateways_first() {
    let mut node = node();
    // The same address on a link that its route does not take.
    let stray = Neighbour { mac: Some(Mac([2, 9, 9, 9, 9, 9])), state: NeighbourState::Stale };
    node.neighbours.insert((LO, ip("10.0.0.11")), stray);
    node.neighbours.insert((ETH1, ip("10.0.0.11")), stray);
    node.neighbours.insert((ETH0, ip("9.9.9.9")), stray);

    let entries = node.neighbours_for_datapath(10, &[ETH0, ETH1]);
    let found: Vec<_> = entries.iter().map(|(a, hop)| (a.to_string(), hop.ifindex)).collect();
    let expected = ["10.0.0.1", "9.9.9.9", "10.0.0.11", "10.2.0.5"];
    assert_eq!(found, expected.map(|address| (address.to_owned(), ETH0)));
    assert_eq!(entries[2].1.mac, PEER);
    assert_eq!(entries[3].1.vlan, 100);

    assert_eq!(node.neighbours_for_datapath(1, &[ETH0]), entries[..1]);
    assert_eq!(node.neighbours_for_datapath(10, &[]), []);
}

#[test]
fn ipv6_goes_by_routes_and_neighbours_of_its_own() {
    let node = dual();
    let hop = Hop { through: ETH0, ifindex: ETH0, mac: PEER, vlan: 0, inner_vlan: 0 };
    let gateway = Resolution::Known(hop);
    let cases = [
        ("fd00::11", gateway),
        ("2001:db8::1", gateway),
        ("fd00::12", Resolution::Unresolved { neighbour: ip("fd00::12"), ifindex: ETH0 }),
        ("fd00::2", Resolution::Local),
        ("::1", Resolution::Local),
        ("10.0.0.11", gateway),
    ];
    for (dst, expected) in cases {
        assert_eq!(node.next_hop(ip(dst)), expected, "{dst}");
    }
}

#[test]
fn ipv6_sources_are_global_certain_and_no_vips() {
    let vips = BTreeSet::from([ip("fd00::100")]);
    let mut node = dual();
    for dst in ["fd00::11", "2001:db8::1"] {
        assert_eq!(node.source_for(ip(dst), &vips), Some(ip("fd00::2")), "{dst}");
    }
    assert_eq!(node.source_for(ip("10.0.0.11"), &vips), Some(ip("10.0.0.2")));
    for address in &mut node.addresses {
        address.tentative = address.address == ip("fd00::2");
    }
    assert_eq!(node.source_for(ip("fd00::11"), &vips), None);
}

#[test]
fn an_interface_s_own_address_is_no_vip() {
    let node = dual();
    let own = |ifindex, family| node.own_address(ifindex, family, &BTreeSet::new());
    assert_eq!(own(ETH0, Family::V4), Some(ip("10.0.0.2")));
    assert_eq!(own(ETH0, Family::V6), Some(ip("fd00::2")));
    assert_eq!(own(ETH1, Family::V6), Some(ip("fe80::ff:fe00:3")));
    let vips = BTreeSet::from([ip("10.0.0.2")]);
    assert_eq!(node.own_address(ETH0, Family::V4, &vips), None);
}

#[test]
fn an_ipv6_vip_goes_where_its_subnet_is() {
    let candidates = ["eth1".to_owned(), "eth0".to_owned()];
    assert_eq!(dual().interface_for(ip("fd00::100"), &candidates), Some(ETH0));
    assert_eq!(dual().interface_for(ip("fd01::100"), &candidates), Some(ETH1));
}

/// Each link has its own fe80::1.
#[test]
fn the_datapath_tells_link_local_gateways_apart() {
    let mut node = dual();
    let other = Neighbour { mac: Some(own_mac(99)), state: NeighbourState::Stale };
    node.neighbours.insert((ETH1, ip("fe80::1")), other);
    let (routes, _) = node.routes_for_datapath(20);
    let default = routes.iter().find(|route| route.dst.to_string() == "::/0").unwrap();
    assert_eq!(default.gateway, Some(ip("fe80:0:0:2::1")));
    assert!(routes.iter().all(|route| route.dst.to_string() != "fe80::/64"));
    let neighbours = BTreeMap::from_iter(node.neighbours_for_datapath(20, &[ETH0, ETH1]));
    assert_eq!(neighbours[&ip("fe80:0:0:2::1")].mac, PEER);
    assert_eq!(neighbours[&ip("fe80:0:0:3::1")].mac, own_mac(99));
    assert_eq!(neighbours[&ip("fd00::11")].ifindex, ETH0);
}

/// `node` with IPv6 on its first interface, a router there, and a VIP.
fn dual() -> Snapshot {
    let mut node = node();
    node.addresses.extend([
        address(LO, "::1", 128, false),
        address(ETH0, "fe80::ff:fe00:2", 64, false),
        address(ETH0, "fd00::100", 128, true),
        address(ETH0, "fd00::2", 64, false),
        address(ETH1, "fe80::ff:fe00:3", 64, false),
    ]);
    node.routes.extend([
        route("::1", 128, None, LO, 256),
        route("fd00::", 64, None, ETH0, 256),
        route("fe80::", 64, None, ETH0, 256),
        route("fe80::", 64, None, ETH1, 256),
        route("::", 0, Some("fe80::1"), ETH0, 1024),
    ]);
    for address in ["fe80::1", "fd00::11"] {
        let entry = Neighbour { mac: Some(PEER), state: NeighbourState::Stale };
        node.neighbours.insert((ETH0, ip(address)), entry);
    }
    node
}

/// Two interfaces and a VLAN; a gateway on each network; a VIP.
fn node() -> Snapshot {
    let mut lo = link(LO, "lo", LinkKind::Other(String::new()));
    lo.loopback = true;
    let links = [
        lo,
        link(ETH0, "eth0", LinkKind::Other(String::new())),
        link(ETH1, "eth1", LinkKind::Other(String::new())),
        link(VLAN, "eth0.100", LinkKind::Vlan { id: 100, parent: ETH0 }),
    ];
    let mut multicast = route("224.0.0.0", 4, None, ETH0, 0);
    multicast.kind = RouteKind::Unicast;
    let mut blocked = route("172.16.0.0", 12, None, 0, 0);
    blocked.kind = RouteKind::Blocked;
    let neighbour = |ifindex, address, mac, state| {
        ((ifindex, ip(address)), Neighbour { mac: Some(mac), state })
    };
    Snapshot {
        links: links.map(|link| (link.index, link)).into(),
        addresses: vec![
            address(LO, "127.0.0.1", 8, false),
            address(ETH0, "10.0.0.100", 32, true),
            address(ETH0, "10.0.0.2", 24, false),
            address(ETH1, "10.1.0.2", 24, false),
        ],
        routes: vec![
            route("10.0.0.0", 24, None, ETH0, 0),
            route("10.1.0.0", 24, None, ETH1, 0),
            route("10.2.0.0", 24, None, VLAN, 0),
            route("0.0.0.0", 0, Some("10.1.0.1"), ETH1, 200),
            route("0.0.0.0", 0, Some("10.0.0.1"), ETH0, 100),
            route("192.168.0.0", 16, Some("10.1.0.1"), ETH1, 0),
            route("127.0.0.0", 8, None, LO, 0),
            multicast,
            blocked,
        ],
        neighbours: [
            neighbour(ETH0, "10.0.0.1", Mac([2, 0, 0, 0, 1, 0]), NeighbourState::Reachable),
            neighbour(ETH0, "10.0.0.11", PEER, NeighbourState::Stale),
            neighbour(ETH0, "10.0.0.13", PEER, NeighbourState::Incomplete),
            neighbour(ETH0, "10.0.0.14", PEER, NeighbourState::Failed),
            neighbour(ETH0, "10.0.0.255", Mac([0xff; 6]), NeighbourState::NoArp),
            neighbour(VLAN, "10.2.0.5", PEER, NeighbourState::Permanent),
        ]
        .into(),
    }
}

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        name: name.to_owned(),
        index,
        mac: own_mac(index),
        up: true,
        mtu: 1500,
        loopback: false,
        xdp: None,
        kind,
        master: None,
    }
}

fn own_mac(index: u32) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])
}

fn address(ifindex: u32, address: &str, prefix_len: u8, deprecated: bool) -> Address {
    Address { ifindex, address: ip(address), prefix_len, deprecated, tentative: false }
}

fn route(dst: &str, prefix_len: u8, gateway: Option<&str>, ifindex: u32, metric: u32) -> Route {
    let kind = RouteKind::Unicast;
    let gateway = gateway.map(ip);
    let dst = Cidr::containing(ip(dst), prefix_len);
    Route { dst, gateway, ifindex, metric, prefsrc: None, kind }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
