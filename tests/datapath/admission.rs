//! Who may open connections, and how many.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use lb_common::nat::Kind;
use lb_common::rate::RateLimit;
use lb_common::service::flag;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame, RST, SYN};
use rstest::rstest;

use crate::harness::{
    CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, OTHER_CLIENT, SERVICE, from_client, local, syn,
};

const FAR_CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 40_000);

#[rstest]
#[case::one_host([10, 0, 0, 2], 32, [true, false, false])]
#[case::two_hosts([10, 0, 0, 2], 31, [true, true, false])]
#[case::a_subnet([10, 0, 0, 0], 24, [true, true, false])]
#[case::another_subnet([10, 0, 1, 0], 24, [false, false, false])]
#[case::far_away([198, 51, 100, 0], 24, [false, false, true])]
#[case::everybody([0, 0, 0, 0], 0, [true, true, true])]
#[ignore = "needs root: cargo xtask test datapath"]
fn only_allowed_sources_open_connections(
    #[case] prefix: [u8; 4],
    #[case] length: u8,
    #[case] may: [bool; 3],
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    harness.change_service(|service| service.flags = flag::RESTRICTED);
    harness.allow(prefix.into(), length);
    for (client, may) in [CLIENT, OTHER_CLIENT, FAR_CLIENT].into_iter().zip(may) {
        if may {
            Connection::establish(&mut harness, client);
            continue;
        }
        harness.expect(&syn(client), "drop_not_allowed");
        harness.expect(&from_client(client, ACK), "drop_not_allowed");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn nobody_is_allowed_by_an_empty_list_of_a_restricted_service(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.change_service(|service| service.flags = flag::RESTRICTED);
    harness.expect(&syn(OTHER_CLIENT), "drop_not_allowed");
    // Connections go on.
    connection.exchange(&mut harness, b"question", b"answer");
    connection.request(&mut harness, &syn(CLIENT));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_another_service_allows_is_not_this_ones(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.change_service(|service| service.id = 7);
    harness.allow(*CLIENT.ip(), 32);
    harness.change_service(|service| {
        service.id = 0;
        service.flags = flag::RESTRICTED;
    });
    harness.expect(&syn(CLIENT), "drop_not_allowed");
}

/// Three at once, and then one every four seconds: these tests take less.
const LIMIT: RateLimit = RateLimit { interval: u32::MAX, burst: 3 };

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_source_opens_a_burst_of_connections_only(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    harness.change_service(|service| service.rate = LIMIT);
    let client = |port| SocketAddrV4::new(*CLIENT.ip(), port);
    let mut open: Vec<_> =
        (1..=3).map(|port| Connection::establish(&mut harness, client(port))).collect();
    harness.expect(&syn(client(4)), "drop_rate_limited");
    harness.expect(&from_client(client(5), ACK), "drop_rate_limited");
    // Another source has a rate of its own, and connections go on.
    Connection::establish(&mut harness, OTHER_CLIENT);
    for connection in &mut open {
        connection.exchange(&mut harness, b"question", b"answer");
    }
}

/// They make no flows.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_opens_nothing_does_not_count_for_the_rate(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.change_service(|service| service.rate = LIMIT);
    for _ in 0..10 {
        harness.expect(&from_client(CLIENT, RST), "drop_rst_without_flow");
        assert_eq!(harness.send(&from_client(CLIENT, FIN | ACK)).counter, "reset_no_flow");
    }
    Connection::establish(&mut harness, CLIENT);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn addresses_of_one_64_share_a_rate() {
    let mut harness = Harness::new(V6);
    harness.change_service(|service| service.rate = LIMIT);
    let neighbour = |host: u16| {
        let SocketAddr::V6(client) = local(V6, CLIENT) else { unreachable!() };
        let mut segments = client.ip().segments();
        segments[7] = host;
        let client = SocketAddrV6::new(segments.into(), 40_000, 0, 0);
        Frame::tcp(client, local(V6, SERVICE)).macs(CLIENT_MAC, LB_MAC).flags(SYN)
    };
    for host in 1..=3 {
        assert_eq!(harness.send(&neighbour(host)).counter, "forward_request");
    }
    harness.expect(&neighbour(4), "drop_rate_limited");
    Connection::syn(&mut harness, OTHER_CLIENT);
}
