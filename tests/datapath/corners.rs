//! Fragments, extension headers and hops where one would not look for them.

use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, DESTINATION, Extension, Frame, Report};
use rstest::rstest;

use crate::harness::{
    CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, SERVICE, backend_mac, local, local_frame,
    local_ip, syn,
};
use crate::pass::look_alike;

/// Section 3.5 drops fragments of balanced TCP; section 2 touches nothing else.
#[rstest]
#[case::first(0, true)]
#[case::last(8, false)]
#[ignore = "needs root: cargo xtask test datapath"]
fn fragments_of_other_protocols_pass_in_ipv6(#[case] offset: u16, #[case] more: bool) {
    let mut harness = Harness::new(V6);
    let [client, service] = [CLIENT, SERVICE].map(|name| local(V6, name));
    let datagram = Frame::udp(client, service, b"?").fragment(offset, more);
    let echo = Frame::echo(client.ip(), service.ip()).fragment(offset, more);
    for frame in [datagram, echo] {
        assert_eq!(harness.send_bytes(&frame.bytes()).counter, "pass_not_tcp");
    }
}

/// RFC 6946 section 4: a whole packet with a fragment header.
#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_atomic_fragment_is_a_whole_segment() {
    let mut harness = Harness::new(V6);
    let frame = local_frame(V6, &syn(CLIENT)).fragment(0, false);
    assert_eq!(harness.send(&frame).counter, "forward_request");
}

/// Section 3.1: `dsr` rewrites only the destination MAC, so that no hop is taken off.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn dsr_forwards_the_last_hop(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(ACK).ttl(1));
}

/// Section 3.5: extension headers, and ICMPv6 errors steered by the inner tuple.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_that_quotes_extension_headers_is_steered(#[values(Kind::Nat, Kind::Dnat)] mode: Kind) {
    let mut harness = Harness::of(V6, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let quote = |frame: &Frame| {
        local_frame(V6, frame).extension(Extension::padding(DESTINATION, 1)).packet()
    };
    let segment = connection.of_client(ACK).payload(b"question");
    let [backend, to, service, client] =
        [connection.backend, connection.snat, SERVICE, CLIENT].map(|n| local_ip(V6, *n.ip()));
    let report = Report::TooBig(1400);
    let frame = Frame::error(backend, to, report, &quote(&connection.forwarded(&segment)))
        .macs(backend_mac(connection.id), LB_MAC);
    let expected = Frame::error(service, client, report, &quote(&segment.ttl(63)))
        .macs(LB_MAC, CLIENT_MAC)
        .ttl(63);
    harness.expect_frame(&frame, "forward_icmp_error", &expected);
}

/// Section 3.5: fragments of balanced TCP are dropped; the client would see the backend's address.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn fragments_of_dnat_replies_drop(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let connection = Connection::establish(&mut harness, CLIENT);
    let reply = harness.local(&connection.of_backend(ACK).payload(&[7; 64]));
    harness.expect(&reply.fragment(0, true), "drop_fragment");
}

/// Section 2: nothing that is not for a VIP is touched. The filter in front takes this address for one.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_to_an_address_that_looks_like_a_vip_passes(
    #[values(Kind::Nat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let seen = harness.local(&Frame::tcp(SERVICE, CLIENT).flags(ACK)).packet();
    let elsewhere = local_ip(family, look_alike(family));
    let client = local_ip(family, *CLIENT.ip());
    let frame = Frame::error(client, elsewhere, Report::PortUnreachable, &seen);
    harness.expect(&frame, "pass_not_vip");
    assert_eq!(connection.kind, mode);
}
