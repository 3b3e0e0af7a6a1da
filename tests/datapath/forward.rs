//! What a translated frame looks like and where it goes.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::counters::Counter;
use lb_common::link::{LinkId, Mac, NextHop, Tags};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, Frame, PSH, URG};
use rstest::rstest;

use crate::harness::{
    Action, BACKENDS, CLIENT, Connection, Harness, LB_MAC, LINK, NODE, OTHER_LB_MAC, OTHER_LINK,
    name_of, syn,
};

const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
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
fn only_addresses_ports_ttl_and_checksums_change(
    #[case] change: fn(Frame) -> Frame,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &change(connection.of_client(ACK)));
    connection.reply(&mut harness, &change(connection.of_backend(ACK)));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_first_segment_may_have_options_and_padding(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let first = syn(CLIENT).ip_options(&[1; 12]).padding(&[7; 3]);
    let connection = Connection::open_with(&mut harness, &first);
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_backend_without_a_known_way_is_asked_of_the_kernel_who_may_not_know(
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    // Documentation addresses: no machine has a neighbour there (RFC 5737).
    let nowhere = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 6443);
    let endpoint = harness.endpoint(nowhere);
    harness.change_backend(1, |backend| {
        backend.next_hop = NextHop::UNKNOWN;
        backend.endpoint = endpoint;
    });
    harness.expect(&syn(CLIENT), "drop_no_next_hop");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_changed_next_hop_is_followed_by_the_next_segment(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.change_backend(connection.id, |backend| backend.next_hop.mac = Mac(ROUTER_MAC));
    let frame = connection.of_client(ACK);
    let expected = connection.forwarded(&frame).macs(LB_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "forward_request", &expected);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_backend_behind_another_interface_is_redirected_to(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    const UNPLUGGED: LinkId = 3;
    harness.add_link(UNPLUGGED, 78, OTHER_LB_MAC, NODE);
    harness.change_backend(1, |backend| backend.next_hop.link = UNPLUGGED);
    let before = harness.counters();
    let (action, _) = harness.run(&harness.local(&syn(CLIENT)).bytes());
    assert_eq!(action, Action::Drop);
    let no_next_hop = Counter::DropNoNextHop as usize;
    assert_eq!(harness.counters()[no_next_hop], before[no_next_hop] + 1);
    harness.forget_counts();
    harness.change_backend(1, |backend| backend.next_hop.link = OTHER_LINK);
    harness.add_device(OTHER_LINK);
    let outcome = harness.send(&syn(CLIENT));
    assert_eq!((outcome.action, outcome.counter), (Action::Redirect, "redirect_request"));
    let out = outcome.frame();
    assert_eq!(out.eth_src, OTHER_LB_MAC);
    assert_eq!(name_of(out.destination()), BACKENDS[0]);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_behind_another_interface_is_redirected_to(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.add_device(OTHER_LINK);
    harness.add_route(Ipv4Addr::UNSPECIFIED, 0, ROUTER, OTHER_LINK);
    harness.add_neighbour(ROUTER, router_by(OTHER_LINK));
    let connection = Connection::syn(&mut harness, CLIENT);
    let frame = connection.syn_ack();
    let expected = connection.returned(&frame).macs(OTHER_LB_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "redirect_reply", &expected);
}

fn router_by(link: LinkId) -> NextHop {
    NextHop { link, mac: Mac(ROUTER_MAC), tags: Tags::default() }
}

/// Route and neighbour before the address that the frame came from.
#[rstest]
#[case::through_a_gateway(Some((0, ROUTER)), ROUTER, true)]
#[case::on_the_link(Some((24, Ipv4Addr::UNSPECIFIED)), *CLIENT.ip(), true)]
#[case::without_a_route(None, *CLIENT.ip(), false)]
#[case::without_a_neighbour(Some((24, Ipv4Addr::UNSPECIFIED)), ROUTER, false)]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_way_to_the_client_is_that_of_the_routes(
    #[case] route: Option<(u8, Ipv4Addr)>,
    #[case] neighbour: Ipv4Addr,
    #[case] known: bool,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    if let Some((length, gateway)) = route {
        let prefix = if length == 0 { [0; 4] } else { [10, 0, 0, 0] };
        harness.add_route(prefix.into(), length, gateway, LINK);
    }
    harness.add_neighbour(neighbour, router_by(LINK));
    let connection = Connection::syn(&mut harness, CLIENT);
    let frame = connection.syn_ack();
    let expected = connection.returned(&frame);
    let expected = if known { expected.macs(LB_MAC, ROUTER_MAC) } else { expected };
    harness.expect_frame(&frame, "forward_reply", &expected);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_that_moved_to_another_mac_is_followed_within_a_second(
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    // Nothing but its address says that it moved.
    let moved = connection.of_client(ACK).payload(b"question").macs(ROUTER_MAC, LB_MAC);
    harness.age(&connection.original_key(), 1_000_000_000);
    connection.request(&mut harness, &moved);
    let frame = connection.of_backend(ACK);
    let expected = connection.returned(&frame).macs(LB_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "forward_reply", &expected);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_that_only_listens_is_followed_to_its_new_address(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.reply(&mut harness, &connection.of_backend(ACK).payload(b"event"));
    harness.add_route(*CLIENT.ip(), 32, Ipv4Addr::UNSPECIFIED, LINK);
    harness.add_neighbour(*CLIENT.ip(), router_by(LINK));
    harness.age(&connection.reply_key(), 1_100_000_000);
    let frame = connection.of_backend(ACK).payload(b"another");
    let expected = connection.returned(&frame).macs(LB_MAC, ROUTER_MAC);
    harness.expect_frame(&frame, "forward_reply", &expected);
}
