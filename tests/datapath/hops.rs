//! Segments whose hop count ends here: their sender is told (RFC 792, RFC 4443 section 3.3).

use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, Frame, QINQ, Report, VLAN};
use rstest::rstest;

use crate::harness::{
    CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, NODE, backend_mac, local_ip, name_of, syn,
};

/// What the sender of a frame is told: header and eight bytes are quoted.
fn time_exceeded(harness: &Harness, frame: &Frame) -> Frame {
    let [node, sender] =
        [NODE, *name_of(frame.source()).ip()].map(|name| local_ip(harness.family, name));
    let quote = harness.local(frame).packet();
    let quoted = harness.family.pick(28, 48);
    Frame::error(node, sender, Report::TimeExceeded, &quote[..quoted])
        .macs(frame.eth_dst, frame.eth_src)
        .tagged(&frame.tags)
        .id(0)
}

#[rstest]
#[case::syn(|frame: Frame| frame)]
#[case::long(|frame: Frame| frame.payload(&[0x5a; 1400]))]
#[case::odd(|frame: Frame| frame.payload(b"odd"))]
#[case::padded(|frame: Frame| frame.padding(&[7; 6]))]
#[case::class_and_label(|frame: Frame| frame.tos(0xb9).flow_label(0xabcde))]
#[case::tagged(|frame: Frame| frame.tag(VLAN, 10))]
#[case::two_tags(|frame: Frame| frame.tag(QINQ, 10).tag(VLAN, 20))]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_sender_is_told(
    #[case] change: fn(Frame) -> Frame,
    #[values(0, 1)] hops: u8,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let frame = change(syn(CLIENT)).ttl(hops);
    let expected = time_exceeded(&harness, &frame);
    harness.expect_frame(&frame, "answer_time_exceeded", &expected);
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn either_end_of_a_flow_is_told_and_the_flow_takes_no_notice(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.snapshot();
    for frame in [connection.of_client(ACK), connection.of_backend(ACK)] {
        let frame = frame.payload(b"lost").ttl(1);
        let expected = time_exceeded(&harness, &frame);
        harness.expect_frame(&frame, "answer_time_exceeded", &expected);
    }
    assert_eq!(harness.snapshot(), before);
    assert_eq!(connection.of_backend(ACK).eth_src, backend_mac(connection.id));
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn behind_options_nobody_is_told(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.expect(&syn(CLIENT).ip_options(&[1; 8]).ttl(1), "drop_ttl_expired");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flood_is_answered_by_a_burst_only(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let (mut told, mut dropped) = (0, 0);
    for _ in 0..2000 {
        match harness.send(&syn(CLIENT).ttl(1)).counter {
            "answer_time_exceeded" => told += 1,
            "drop_ttl_expired" => dropped += 1,
            other => panic!("{other}"),
        }
    }
    assert!(told >= 50 && dropped > told, "{told} told, {dropped} dropped");
    assert_eq!(syn(CLIENT).macs(CLIENT_MAC, LB_MAC), syn(CLIENT));
}
