//! What a translated frame looks like and where it goes.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::addr::{Ipv4Be, Mac, NextHop, Route};
use lb_common::counters::Counter;
use lb_tests::packet::{ACK, Frame, PSH, URG};
use rstest::rstest;

use crate::harness::{
    Action, BACKENDS, CLIENT, Connection, Harness, INGRESS, LB_MAC, OTHER_INTERFACE, syn,
};

const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const OUR_OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

#[rstest]
#[case::bare(|frame| frame)]
#[case::data(|frame: Frame| frame.payload(b"even"))]
#[case::odd_data(|frame: Frame| frame.payload(b"odd"))]
#[case::full_segment(|frame: Frame| frame.payload(&[0xa5; 1460]))]
#[case::zeros(|frame: Frame| frame.payload(&[0; 100]).seq(0).window(0).id(0))]
#[case::ones(|frame: Frame| frame.payload(&[0xff; 100]).window(0xffff).id(0xffff))]
#[case::ip_options(|frame: Frame| frame.ip_options(&[0x94, 4, 0, 0]))]
#[case::all_ip_options(|frame: Frame| frame.ip_options(&[1; 40]).payload(b"far"))]
#[case::tcp_options(|frame: Frame| frame.options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]))]
#[case::all_tcp_options(|frame: Frame| frame.options(&[1; 40]))]
#[case::padding(|frame: Frame| frame.padding(&[0; 6]))]
#[case::padding_that_is_not_zero(|frame: Frame| frame.padding(&[0xee; 6]))]
#[case::fragments_allowed(|frame: Frame| frame.frags(0))]
#[case::reserved_ip_bit(|frame: Frame| frame.frags(0x8000))]
#[case::tos(|frame: Frame| frame.tos(0xb9))]
#[case::ttl_2(|frame: Frame| frame.ttl(2))]
#[case::ttl_255(|frame: Frame| frame.ttl(255))]
#[case::urgent(|frame: Frame| frame.flags(ACK | PSH | URG).urgent(7).payload(b"!"))]
#[case::congestion_bits(|frame: Frame| frame.flags(ACK | 0xc0))]
#[ignore = "needs root: cargo xtask test datapath"]
fn only_addresses_ports_ttl_and_checksums_change(#[case] change: fn(Frame) -> Frame) {
    let mut harness = Harness::new();
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &change(connection.of_client(ACK)));
    connection.reply(&mut harness, &change(connection.of_backend(ACK)));
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_first_segment_may_have_options_and_padding() {
    let mut harness = Harness::new();
    let first = syn(CLIENT).ip_options(&[1; 12]).padding(&[7; 3]);
    let connection = Connection::open_with(&mut harness, &first);
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.halves(&harness);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_backend_without_a_known_way_is_asked_of_the_kernel_who_may_not_know() {
    let mut harness = Harness::with(&BACKENDS[..1]);
    // Documentation addresses: no machine has a neighbour there (RFC 5737).
    let backend = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 6443);
    harness.change_backend(1, |entry| {
        entry.next_hop = NextHop::default();
        entry.endpoint = crate::harness::endpoint(backend);
    });
    harness.expect(&syn(CLIENT), "drop_no_next_hop");
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_changed_next_hop_is_followed_by_the_next_segment() {
    let mut harness = Harness::new();
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.change_backend(connection.id, |backend| backend.next_hop.mac = Mac(ROUTER_MAC));
    let frame = connection.of_client(ACK);
    let expected = connection.forwarded(&frame).macs(LB_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "forward_request", &expected);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_backend_behind_another_interface_is_redirected_to() {
    let mut harness = Harness::with(&BACKENDS[..1]);
    harness.change_backend(1, |backend| {
        backend.next_hop.ifindex = OTHER_INTERFACE;
        backend.next_hop.source_mac = Mac(OUR_OTHER_MAC);
    });
    // It is no interface of ours yet.
    let before = harness.counters();
    let (action, _) = harness.run(&syn(CLIENT).bytes());
    assert_eq!(action, Action::Drop);
    let no_next_hop = Counter::DropNoNextHop as usize;
    assert_eq!(harness.counters()[no_next_hop], before[no_next_hop] + 1);
    harness.forget_counts();
    harness.add_device(OTHER_INTERFACE);
    let outcome = harness.send(&syn(CLIENT));
    assert_eq!((outcome.action, outcome.counter), (Action::Redirect, "redirect_request"));
    let out = outcome.frame();
    assert_eq!(out.eth_src, OUR_OTHER_MAC);
    assert_eq!(out.destination(), BACKENDS[0].into());
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_behind_another_interface_is_redirected_to() {
    let mut harness = Harness::new();
    harness.add_device(OTHER_INTERFACE);
    let gateway = Route { gateway: Ipv4Be::new(ROUTER), ifindex: OTHER_INTERFACE };
    harness.add_route(Ipv4Addr::UNSPECIFIED, 0, gateway);
    harness.add_neighbour(ROUTER, next_hop(OTHER_INTERFACE));
    let connection = Connection::syn(&mut harness, CLIENT);
    let frame = connection.syn_ack();
    let expected = connection.returned(&frame).macs(OUR_OTHER_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "redirect_reply", &expected);
}

fn next_hop(ifindex: u32) -> NextHop {
    let [mac, source_mac] = [ROUTER_MAC, OUR_OTHER_MAC].map(Mac);
    NextHop { ifindex, mac, source_mac, vlan: 0, inner_vlan: 0 }
}

/// Route and neighbour before the address that the frame came from.
#[rstest]
#[case::through_a_gateway(Some((0, ROUTER)), ROUTER, true)]
#[case::on_the_link(Some((24, Ipv4Addr::UNSPECIFIED)), *CLIENT.ip(), true)]
#[case::without_a_route(None, *CLIENT.ip(), false)]
#[case::without_a_neighbour(Some((24, Ipv4Addr::UNSPECIFIED)), ROUTER, false)]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_way_to_the_client_is_that_of_the_routes(
    #[case] route: Option<(u32, Ipv4Addr)>,
    #[case] neighbour: Ipv4Addr,
    #[case] known: bool,
) {
    let mut harness = Harness::new();
    if let Some((length, gateway)) = route {
        let route = Route { gateway: Ipv4Be::new(gateway), ifindex: INGRESS };
        let prefix = if length == 0 { [0; 4] } else { [10, 0, 0, 0] };
        harness.add_route(prefix.into(), length, route);
    }
    harness.add_neighbour(neighbour, next_hop(INGRESS));
    let connection = Connection::syn(&mut harness, CLIENT);
    let frame = connection.syn_ack();
    let expected = connection.returned(&frame);
    let expected = if known { expected.macs(OUR_OTHER_MAC, ROUTER_MAC) } else { expected };
    harness.expect_frame(&frame, "forward_reply", &expected);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_that_moved_to_another_mac_is_followed_within_a_second() {
    let mut harness = Harness::new();
    let connection = Connection::establish(&mut harness, CLIENT);
    let moved = connection.of_client(ACK).macs(ROUTER_MAC, LB_MAC);
    harness.age(&connection.original_key(), 1_000_000_000);
    connection.request(&mut harness, &moved);
    let frame = connection.of_backend(ACK);
    let expected = connection.returned(&frame).macs(LB_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "forward_reply", &expected);
}
