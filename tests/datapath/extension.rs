//! IPv6 extension headers: walked through, kept, or a reason to drop.

use lb_common::nat::Kind;
use lb_tests::family::Family::V6;
use lb_tests::packet::{
    ACK, AUTHENTICATION, DESTINATION, Extension, Frame, HOP_BY_HOP, MOBILITY, NO_NEXT_HEADER,
    ROUTING, UDP,
};
use rstest::rstest;

use crate::harness::{
    CLIENT, Connection, Harness, SERVICE, from_client, local, local_frame, local_ip, syn,
};

type Chain = fn() -> Vec<Extension>;

/// As one of IPv6, with these headers.
fn with(frame: &Frame, chain: Chain) -> Frame {
    chain().into_iter().fold(local_frame(V6, frame), Frame::extension)
}

#[rstest]
#[case::hop_by_hop(|| vec![Extension::padding(HOP_BY_HOP, 1)])]
#[case::destination(|| vec![Extension::padding(DESTINATION, 1)])]
#[case::long(|| vec![Extension::padding(DESTINATION, 30)])]
#[case::routing_done(|| vec![Extension::routing(4, 0)])]
#[case::several(|| vec![
    Extension::padding(HOP_BY_HOP, 2), Extension::padding(DESTINATION, 1),
    Extension::routing(4, 0), Extension::padding(DESTINATION, 3),
])]
#[case::the_most(|| vec![Extension::padding(DESTINATION, 1); 7])]
#[ignore = "needs root: cargo xtask test datapath"]
fn headers_before_tcp_are_kept(
    #[case] chain: Chain,
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
) {
    let mut harness = Harness::of(V6, mode);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    let frame = connection.of_client(ACK).payload(b"question");
    let expected = with(&connection.forwarded(&frame), chain);
    harness.expect_frame(&with(&frame, chain), "forward_request", &expected);
    if mode != Kind::Dsr {
        let frame = connection.of_backend(ACK).payload(b"answer");
        let expected = with(&connection.returned(&frame), chain);
        harness.expect_frame(&with(&frame, chain), "forward_reply", &expected);
        connection.halves(&harness);
    }
    connection.exchange(&mut harness, b"", b"");
}

#[rstest]
#[case::longer_than_the_packet(|| vec![Extension::padding(DESTINATION, 1).claiming(200)])]
#[case::routing_to_go_on(|| vec![Extension::routing(4, 1)])]
#[case::too_many(|| vec![Extension::padding(DESTINATION, 1); 9])]
#[case::into_tcp(|| vec![Extension::padding(DESTINATION, 1).claiming(2)])]
#[ignore = "needs root: cargo xtask test datapath"]
fn headers_that_lead_nowhere_drop(#[case] chain: Chain) {
    let mut harness = Harness::new(V6);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    for frame in [syn(CLIENT), connection.of_client(ACK), connection.of_backend(ACK)] {
        harness.expect(&with(&frame, chain), "drop_malformed");
    }
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[case::first(0, true)]
#[case::middle(100, true)]
#[case::last(200, false)]
#[ignore = "needs root: cargo xtask test datapath"]
fn fragments_of_tcp_drop(#[case] offset: u16, #[case] more: bool) {
    let mut harness = Harness::new(V6);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    for frame in [syn(CLIENT), connection.of_client(ACK), connection.of_backend(ACK)] {
        let frame = harness.local(&frame).fragment(offset, more);
        harness.expect(&frame, "drop_fragment");
        harness.expect(&behind_options(frame), "drop_fragment");
    }
    connection.exchange(&mut harness, b"question", b"answer");
}

fn behind_options(mut frame: Frame) -> Frame {
    frame.extensions.insert(0, Extension::padding(DESTINATION, 1));
    frame
}

#[rstest]
#[case::authentication(|| vec![Extension::authentication()])]
#[case::mobility(|| vec![Extension::new(MOBILITY, &[1])])]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_is_no_plain_tcp_is_the_hosts(#[case] chain: Chain) {
    let mut harness = Harness::new(V6);
    harness.expect(&with(&syn(CLIENT), chain), "pass_not_tcp");
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[case::nothing(NO_NEXT_HEADER)]
#[case::udp(UDP)]
#[case::sctp(132)]
#[case::ipip(41)]
#[case::authentication(AUTHENTICATION)]
#[ignore = "needs root: cargo xtask test datapath"]
fn another_protocol_behind_options_passes(#[case] protocol: u8) {
    let mut harness = Harness::new(V6);
    let [src, dst] = [CLIENT, SERVICE].map(|name| local_ip(V6, *name.ip()));
    for extensions in [vec![], vec![Extension::padding(HOP_BY_HOP, 1)]] {
        let frame = Frame { extensions, ..Frame::raw(src, dst, protocol, &[0; 24]) };
        harness.expect(&frame, "pass_not_tcp");
    }
}

#[rstest]
#[case::hop_by_hop(HOP_BY_HOP)]
#[case::destination(DESTINATION)]
#[case::routing(ROUTING)]
#[ignore = "needs root: cargo xtask test datapath"]
fn headers_of_what_is_for_another_host_do_not_matter(#[case] kind: u8) {
    let mut harness = Harness::new(V6);
    let elsewhere = local(V6, "10.0.0.99:6443".parse().unwrap());
    let frame = harness.local(&from_client(CLIENT, ACK)).to(elsewhere);
    harness.expect(&frame.extension(Extension::new(kind, &[4, 1]).claiming(99)), "pass_not_vip");
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn headers_cut_anywhere_drop() {
    let mut harness = Harness::new(V6);
    let frame = with(&syn(CLIENT), || {
        vec![Extension::padding(HOP_BY_HOP, 1), Extension::padding(DESTINATION, 2)]
    });
    let bytes = frame.bytes();
    for length in 54..bytes.len() {
        let outcome = harness.send_bytes(&bytes[..length]);
        assert_eq!(outcome.counter, "drop_malformed", "{length} bytes");
    }
    assert_eq!(harness.send_bytes(&bytes).counter, "forward_request");
}
