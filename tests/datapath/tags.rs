//! VLAN tags: kept, added, removed, changed, as the next hop says.

use lb_common::link::{Mac, NextHop, Tags};
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, Frame, QINQ, VLAN};
use rstest::rstest;

use crate::harness::{CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, LINK, rst_to, syn};

const NONE: &[(u16, u16)] = &[];
const ONE: &[(u16, u16)] = &[(VLAN, 10)];
const TWO: &[(u16, u16)] = &[(QINQ, 20), (VLAN, 30)];

fn tags(tags: &[(u16, u16)]) -> Tags {
    let id = |index: usize| tags.get(index).map_or(0, |tag| tag.1);
    Tags { outer: id(0), inner: id(1) }
}

/// Every pair of what clients and what backends have.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn frames_leave_with_the_tags_of_their_next_hop(
    #[values(NONE, ONE, TWO)] of_client: &[(u16, u16)],
    #[values(NONE, ONE, TWO)] of_backend: &[(u16, u16)],
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    for id in 1..=3 {
        harness.change_backend(id, |backend| backend.next_hop.tags = tags(of_backend));
    }
    let first = syn(CLIENT).tagged(of_client);
    let out = harness.send(&first);
    assert_eq!(out.counter, "forward_request");
    let out = out.frame();
    assert_eq!(out.tags, of_backend);
    let [.., id] = out.eth_dst;
    let connection = Connection::found(&harness, &first, &out, id.into());

    let reply = connection.syn_ack().tagged(of_backend);
    let expected = connection.returned(&reply).tagged(of_client);
    harness.expect_frame(&reply, "forward_reply", &expected);
    let request = connection.of_client(ACK).tagged(of_client).payload(b"question");
    let expected = connection.forwarded(&request).tagged(of_backend);
    harness.expect_frame(&request, "forward_request", &expected);
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn dsr_keeps_the_packet_behind_other_tags(
    #[values(NONE, ONE, TWO)] of_client: &[(u16, u16)],
    #[values(NONE, ONE, TWO)] of_backend: &[(u16, u16)],
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dsr);
    for id in 1..=3 {
        harness.change_backend(id, |backend| backend.next_hop.tags = tags(of_backend));
    }
    let first = syn(CLIENT).tagged(of_client);
    let outcome = harness.send(&first);
    let expected = harness.local(&first.clone().macs(LB_MAC, outcome.frame().eth_dst));
    assert_eq!(outcome.bytes, expected.tagged(of_backend).bytes());
}

#[rstest]
#[case::one(ONE)]
#[case::two(TWO)]
#[ignore = "needs root: cargo xtask test datapath"]
fn answers_to_a_sender_have_its_tags(
    #[case] of_client: &[(u16, u16)],
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::with(family, &[]);
    let refused = syn(CLIENT).seq(1000).tagged(of_client);
    let rst = rst_to(CLIENT, 0, 1001, 0x14).tagged(of_client);
    harness.expect_frame(&refused, "reset_no_backend", &rst);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_priority_tag_is_no_vlan(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let first = syn(CLIENT).tag(VLAN, 0xe000);
    let out = harness.send(&first).frame();
    assert_eq!(out.tags, NONE);
    let [.., id] = out.eth_dst;
    let connection = Connection::found(&harness, &first, &out, id.into());
    let reply = connection.syn_ack();
    harness.expect_frame(&reply, "forward_reply", &connection.returned(&reply));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_neighbour_tables_tags_go_before_those_of_the_frame(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.add_route([10, 0, 0, 0].into(), 24, [0; 4].into(), LINK);
    let next_hop = NextHop { link: LINK, mac: Mac(CLIENT_MAC), tags: tags(ONE) };
    harness.add_neighbour(*CLIENT.ip(), next_hop);
    let connection = Connection::syn(&mut harness, CLIENT);
    let reply = connection.syn_ack();
    let expected: Frame = connection.returned(&reply).tagged(ONE);
    harness.expect_frame(&reply, "forward_reply", &expected);
}
