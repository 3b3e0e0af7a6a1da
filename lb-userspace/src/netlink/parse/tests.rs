use rtnetlink::packet_core::{Emitable, Parseable};
use rtnetlink::packet_route::address::CacheInfo;
use rtnetlink::packet_route::route::RouteVia;

use super::*;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);

#[test]
fn a_link_tells_name_address_state_and_program() {
    let mut message = LinkMessage::default();
    message.header.index = 3;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Address(OURS.0.to_vec()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Controller(9),
        LinkAttribute::Xdp(vec![LinkXdp::Attached(XdpAttached::SocketBuffer), LinkXdp::ProgId(42)]),
    ];
    let expected = Link {
        name: "eth0".to_owned(),
        index: 3,
        mac: OURS,
        up: true,
        mtu: 1500,
        loopback: false,
        xdp: Some(AttachedXdp { program_id: 42, mode: AttachMode::Generic }),
        kind: LinkKind::Other(String::new()),
        master: Some(9),
    };
    assert_eq!(link(&over_the_wire(&message)), expected);

    message.header.flags = LinkFlags::Up;
    message.attributes = vec![LinkAttribute::Xdp(vec![LinkXdp::Attached(XdpAttached::None)])];
    let without_carrier = link(&over_the_wire(&message));
    assert_eq!((without_carrier.up, without_carrier.xdp), (false, None));
}

#[test]
fn a_vlan_knows_its_tag_and_its_parent_in_this_namespace() {
    let vlan = |more: Vec<LinkAttribute>| {
        let mut message = LinkMessage::default();
        let data = InfoData::Vlan(vec![InfoVlan::Id(100)]);
        let infos = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)];
        message.attributes = vec![LinkAttribute::Link(3), LinkAttribute::LinkInfo(infos)];
        message.attributes.extend(more);
        link(&over_the_wire(&message)).kind
    };
    assert_eq!(vlan(vec![]), LinkKind::Vlan { id: 100, parent: 3 });
    assert_eq!(vlan(vec![LinkAttribute::LinkNetNsId(0)]), LinkKind::Vlan { id: 100, parent: 0 });
}

#[test]
fn an_address_is_our_end_and_a_vip_is_deprecated() {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = 3;
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = u32::MAX;
    message.attributes = vec![
        AddressAttribute::Address(ip(99).into()),
        AddressAttribute::Local(ip(100).into()),
        AddressAttribute::CacheInfo(lifetime),
    ];
    let expected = Address {
        ifindex: 3,
        address: ip(100).into(),
        prefix_len: 32,
        deprecated: true,
        tentative: false,
    };
    assert_eq!(address(&over_the_wire(&message)), Some(expected));

    lifetime.ifa_preferred = u32::MAX;
    message.attributes =
        vec![AddressAttribute::Address(ip(100).into()), AddressAttribute::CacheInfo(lifetime)];
    let expected = Address { deprecated: false, ..expected };
    assert_eq!(address(&over_the_wire(&message)), Some(expected));

    message.attributes = vec![];
    assert_eq!(address(&over_the_wire(&message)), None);
}

#[test]
fn a_route_through_a_gateway() {
    let message = route_message(vec![
        RouteAttribute::Gateway(RouteAddress::Inet(ip(1))),
        RouteAttribute::Oif(3),
        RouteAttribute::Priority(100),
        RouteAttribute::PrefSource(RouteAddress::Inet(ip(2))),
    ]);
    let expected = Route {
        dst: Cidr::containing(Ipv4Addr::UNSPECIFIED.into(), 0),
        gateway: Some(ip(1).into()),
        ifindex: 3,
        metric: 100,
        prefsrc: Some(ip(2).into()),
        kind: RouteKind::Unicast,
    };
    assert_eq!(route(&over_the_wire(&message)), Some(expected));
}

#[test]
fn of_several_paths_the_first_that_works_counts() {
    let path = |flags, ifindex, gateway| {
        let mut path = RouteNextHop::default();
        path.flags = flags;
        path.interface_index = ifindex;
        path.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(ip(gateway)))];
        path
    };
    let (none, down, dead) =
        (RouteNextHopFlags::empty(), RouteNextHopFlags::Linkdown, RouteNextHopFlags::Dead);
    let cases = [
        (vec![path(none, 3, 1), path(none, 4, 2)], Some((3, Some(ip(1).into())))),
        (vec![path(down, 3, 1), path(none, 4, 2)], Some((4, Some(ip(2).into())))),
        (vec![path(dead, 3, 1), path(down, 4, 2)], Some((4, Some(ip(2).into())))),
        (vec![path(dead, 3, 1)], None),
    ];
    for (paths, expected) in cases {
        let message = route_message(vec![RouteAttribute::MultiPath(paths)]);
        let found = route(&over_the_wire(&message)).map(|route| (route.ifindex, route.gateway));
        assert_eq!(found, expected);
    }
}

#[test]
fn routes_that_lookups_do_not_use_are_left_out() {
    type Change = fn(&mut RouteMessage);
    let cases: [(&str, Change); 6] = [
        ("local table", |m| m.header.table = 255),
        ("large table", |m| m.attributes.push(RouteAttribute::Table(1000))),
        ("cached path MTU", |m| m.header.flags = RouteFlags::Cloned),
        ("dead", |m| m.header.flags = RouteFlags::Dead),
        ("for one type of service", |m| m.header.tos = 16),
        ("MPLS", |m| m.header.address_family = AddressFamily::Mpls),
    ];
    for (name, change) in cases {
        let mut message = route_message(vec![]);
        assert!(route(&over_the_wire(&message)).is_some());
        change(&mut message);
        assert_eq!(route(&over_the_wire(&message)), None, "{name}");
    }
}

#[test]
fn a_route_that_ipv4_frames_cannot_take_is_blocked() {
    let via = RouteAttribute::Via(RouteVia::Inet6(Ipv6Addr::LOCALHOST));
    let mut message = route_message(vec![RouteAttribute::Oif(3), via]);
    assert_eq!(route(&over_the_wire(&message)).map(|r| r.kind), Some(RouteKind::Blocked));
    message.attributes.clear();
    message.header.kind = RouteType::BlackHole;
    assert_eq!(route(&over_the_wire(&message)).map(|r| r.kind), Some(RouteKind::Blocked));
}

#[test]
fn neighbours_keep_their_state_and_address() {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 3;
    message.header.state = KernelState::Stale;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip(1))),
        NeighbourAttribute::LinkLayerAddress(OURS.0.to_vec()),
    ];
    let expected = Neighbour { mac: Some(OURS), state: NeighbourState::Stale };
    assert_eq!(neighbour(&over_the_wire(&message)), Some((3, ip(1).into(), expected)));

    message.header.state = KernelState::Failed;
    message.attributes.pop();
    let expected = Neighbour { mac: None, state: NeighbourState::Failed };
    assert_eq!(neighbour(&over_the_wire(&message)), Some((3, ip(1).into(), expected)));

    message.header.flags = NeighbourFlags::Proxy;
    assert_eq!(neighbour(&over_the_wire(&message)), None);
}

#[test]
fn an_ipv6_address_that_may_be_another_node_s_is_tentative() {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 64;
    message.header.index = 3;
    message.attributes = vec![AddressAttribute::Address(ip6("fd00::2").into())];
    let expected = Address {
        ifindex: 3,
        address: ip6("fd00::2").into(),
        prefix_len: 64,
        deprecated: false,
        tentative: false,
    };
    assert_eq!(address(&over_the_wire(&message)), Some(expected));
    for flag in [AddressHeaderFlags::Tentative, AddressHeaderFlags::Dadfailed] {
        message.header.flags = flag;
        assert!(address(&over_the_wire(&message)).unwrap().tentative, "{flag:?}");
    }
    message.header.flags = AddressHeaderFlags::Deprecated;
    let expected = Address { deprecated: true, ..expected };
    assert_eq!(address(&over_the_wire(&message)), Some(expected));
}

#[test]
fn an_ipv6_route_has_a_gateway_on_its_link() {
    let mut message = route_message(vec![
        RouteAttribute::Destination(RouteAddress::Inet6(ip6("2001:db8::"))),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip6("fe80::1"))),
        RouteAttribute::Oif(3),
        RouteAttribute::Priority(1024),
    ]);
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = 32;
    let expected = Route {
        dst: Cidr::containing(ip6("2001:db8::").into(), 32),
        gateway: Some(ip6("fe80::1").into()),
        ifindex: 3,
        metric: 1024,
        prefsrc: None,
        kind: RouteKind::Unicast,
    };
    assert_eq!(route(&over_the_wire(&message)), Some(expected));

    message.attributes.truncate(0);
    message.header.destination_prefix_length = 0;
    let default = route(&over_the_wire(&message)).unwrap();
    assert_eq!((default.dst.to_string().as_str(), default.gateway), ("::/0", None));
}

#[test]
fn an_ipv6_neighbour_is_one_unless_it_is_a_group() {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = 3;
    message.header.state = KernelState::Reachable;
    message.header.flags = NeighbourFlags::Router;
    let named =
        |address: &str| NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip6(address)));
    message.attributes =
        vec![named("fe80::1"), NeighbourAttribute::LinkLayerAddress(OURS.0.to_vec())];
    let expected = Neighbour { mac: Some(OURS), state: NeighbourState::Reachable };
    assert_eq!(neighbour(&over_the_wire(&message)), Some((3, ip6("fe80::1").into(), expected)));
    message.attributes[0] = named("ff02::1");
    assert_eq!(neighbour(&over_the_wire(&message)), None);
}

fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn route_message(attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message.attributes = attributes;
    message
}

/// The message as it is after encoding and decoding.
fn over_the_wire<M: Emitable + Parseable<[u8]>>(message: &M) -> M {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    M::parse(&bytes).unwrap()
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}
