//! `dnat`, which keeps the client's address, and `dsr`, which keeps the whole packet.

use std::net::SocketAddrV4;

use lb_common::conntrack::{TcpState, flag};
use lb_common::link::{Mac, NextHop, Tags};
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame, PSH, RST, SYN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, LINK, OTHER_CLIENT, SERVICE, Setup,
    Sizes, backend_mac, key, rst_to, syn,
};

fn state(harness: &Harness, connection: &Connection) -> TcpState {
    TcpState::of_original(&connection.original(harness))
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn dnat_keeps_the_client_and_finds_its_replies(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    assert_eq!(connection.snat, CLIENT);
    let (original, reply) = connection.halves(&harness);
    assert_eq!((original.kind, reply.kind), (Kind::Dnat as u8, Kind::Dnat as u8));
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
    connection.exchange(&mut harness, b"question", b"answer");
    assert_eq!(harness.flows(), (2, 0));
}

#[rstest]
#[case::data(ACK | PSH)]
#[case::syn_ack(SYN | ACK)]
#[case::fin(FIN | ACK)]
#[case::rst(RST)]
#[case::syn(SYN)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_dnat_reply_of_no_flow_passes(#[case] flags: u8, #[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let foreign = Frame::tcp(BACKENDS[0], CLIENT).macs(backend_mac(1), LB_MAC).flags(flags);
    harness.expect(&foreign, "pass_foreign");
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[case::data(ACK | PSH)]
#[case::fin(FIN | ACK)]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_exclusive_endpoints_reply_of_no_flow_is_from_the_vip(
    #[case] flags: u8,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dnat);
    harness.add_endpoint(BACKENDS[0], true);
    harness.add_route([10, 0, 0, 0].into(), 24, [0; 4].into(), LINK);
    let next_hop = NextHop { link: LINK, mac: Mac(CLIENT_MAC), tags: Tags::default() };
    harness.add_neighbour(*CLIENT.ip(), next_hop);
    let reply = Frame::tcp(BACKENDS[0], CLIENT)
        .macs(backend_mac(1), LB_MAC)
        .flags(flags)
        .payload(b"answer");
    let expected = reply.clone().from(SERVICE).macs(LB_MAC, CLIENT_MAC).ttl(63);
    harness.expect_frame(&reply, "forward_reply", &expected);
    assert_eq!(harness.flows(), (0, 0));
    // What the other backends say is not.
    harness.expect(&reply.from(BACKENDS[1]), "pass_foreign");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_a_backend_says_from_another_port_passes(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let connection = Connection::establish(&mut harness, CLIENT);
    let ssh = SocketAddrV4::new(*connection.backend.ip(), 22);
    harness.expect(&connection.of_backend(ACK).from(ssh), "pass_not_vip");
    harness.expect(&connection.of_backend(ACK).to(OTHER_CLIENT), "pass_foreign");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_that_is_a_backend_is_translated_as_in_nat(
    #[values(Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(0, 1, 2)] which: usize,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let client = SocketAddrV4::new(*BACKENDS[which].ip(), 40_000);
    let mut connection = Connection::establish(&mut harness, client);
    assert_eq!(connection.snat.ip(), SERVICE.ip());
    assert_eq!(connection.halves(&harness).0.kind, Kind::Nat as u8);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[case::bare(|frame| frame)]
#[case::odd_data(|frame: Frame| frame.payload(b"odd"))]
#[case::options(|frame: Frame| frame.ip_options(&[1; 8]).options(&[1; 12]))]
#[case::padding(|frame: Frame| frame.padding(&[7; 6]))]
#[case::class(|frame: Frame| frame.tos(0xb9).flow_label(0xabcde))]
#[ignore = "needs root: cargo xtask test datapath"]
fn dsr_changes_macs_only(#[case] change: fn(Frame) -> Frame, #[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &change(connection.of_client(ACK | PSH)));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dsr_the_acknowledgement_of_syn_plus_one_confirms(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::syn(&mut harness, CLIENT);
    assert_eq!(harness.flows(), (0, 1));
    // Not where the SYN ended: of another connection, or forged.
    let elsewhere = connection.client_next.wrapping_add(5000);
    connection.request(&mut harness, &connection.of_client(ACK).seq(elsewhere));
    assert_eq!(harness.established(&key(CLIENT, SERVICE)), None);
    let connection = Connection::syn(&mut harness, OTHER_CLIENT);
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(state(&harness, &connection), TcpState::Established);
    assert!(connection.original(&harness).has(flag::CONFIRMED));
}

/// A later RST has to be there, in whichever half of the space of sequence numbers.
#[rstest]
#[case::lower(0x1000)]
#[case::upper(0x9000_0000)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_dsr_flow_knows_what_its_client_expects(
    #[case] expects: u32,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::syn(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(ACK).ack(expects));
    assert_eq!(connection.original(&harness).ack, expects);
    connection.request(&mut harness, &connection.of_client(ACK).ack(expects + 7));
    assert_eq!(connection.original(&harness).ack, expects + 7);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_dsr_flow_keeps_its_backend_whatever_the_table_says(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    let others: Vec<u32> = (1..=3).filter(|id| *id != connection.id).collect();
    harness.set_table(&others);
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.request(&mut harness, &syn(CLIENT));
    connection.request(&mut harness, &syn(CLIENT).seq(77));
    assert_eq!(state(&harness, &connection), TcpState::Established);
}

#[rstest]
#[case::fin(FIN | ACK, TcpState::Closing)]
#[case::rst(RST, TcpState::Closed)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_dsr_flow_is_closed_by_its_client_and_opened_anew(
    #[case] flags: u8,
    #[case] expected: TcpState,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    let far = connection.client_next.wrapping_add(0x4000_0000);
    connection.request(&mut harness, &connection.of_client(flags).seq(far));
    assert_eq!(state(&harness, &connection), TcpState::Established);
    connection.request(&mut harness, &connection.of_client(flags));
    assert_eq!(state(&harness, &connection), expected);
    let again = Connection::establish(&mut harness, CLIENT);
    assert_eq!(state(&harness, &again), TcpState::Established);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_dsr_flow_of_a_backend_that_was_given_up_is_reset(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.change_backend(connection.id, |backend| backend.epoch += 1);
    let rst = rst_to(CLIENT, connection.backend_next, 0, RST);
    harness.expect_frame(&connection.of_client(ACK), "reset_backend_down", &rst);
}

/// Nobody who is established is evicted for it.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_full_table_refuses_whoever_comes(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let sizes = Sizes { established: 2, half_open: 2 };
    let mut harness = Harness::build(&Setup { sizes, mode, ..Setup::new(family) });
    let mut first = Connection::establish(&mut harness, CLIENT);
    harness.crowd(&first.original_key());
    let rst = rst_to(OTHER_CLIENT, 0, 6, RST | ACK);
    harness.expect_frame(&syn(OTHER_CLIENT).seq(5), "reset_table_full", &rst);
    first.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_reload_to_another_mode_leaves_flows_as_they_are(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] before: Kind,
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] after: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, before);
    let mut old = Connection::establish(&mut harness, CLIENT);
    harness.change_service(|service| service.kind = after as u8);
    for endpoint in BACKENDS {
        harness.add_endpoint(endpoint, false);
    }
    old.exchange(&mut harness, b"question", b"answer");
    Connection::establish(&mut harness, OTHER_CLIENT);
    old.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_lost_dnat_reply_half_is_restored_within_a_second(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.forget(&connection.reply_key());
    harness.expect(&connection.of_backend(ACK), "pass_foreign");
    harness.age(&connection.original_key(), 1_000_000_000);
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.exchange(&mut harness, b"question", b"answer");
}

/// It is not for this host: nothing is dropped of what the host may have to forward.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_foreign_segment_passes_whatever_its_hops(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let foreign = Frame::tcp(BACKENDS[0], CLIENT).macs(backend_mac(1), LB_MAC).flags(ACK);
    harness.expect(&foreign.clone().ttl(1), "pass_foreign");
    harness.expect(&foreign.clone().data_offset(4), "pass_not_vip");
    harness.expect(&foreign.fragment(8, true), "pass_not_vip");
}
