//! ICMP errors about segments of flows: sent on to the end whose segment it was, translated outside and
//! within. What an error quotes is what the segment looked like where it got lost.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, Frame, Report, SYN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, OTHER_CLIENT, SERVICE, backend_mac,
    from_client, local_ip, syn,
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
/// More than any quote has.
const ALL: usize = 9999;

/// An error between named hosts about a segment, of which so many bytes of TCP are quoted.
fn error(
    harness: &Harness,
    [from, to]: [Ipv4Addr; 2],
    report: Report,
    about: &Frame,
    tcp_bytes: usize,
) -> Frame {
    let about = harness.local(about);
    let packet = about.packet();
    let header = packet.len() - about.segment().unwrap().payload.len();
    let tcp = 20 + about.segment().unwrap().options.len();
    let quoted = packet.len().min(header - tcp + tcp_bytes);
    let [from, to]: [IpAddr; 2] = [from, to].map(|name| local_ip(harness.family, name));
    Frame::error(from, to, report, &packet[..quoted])
}

/// As it arrives at the other end: the quoted segment has the hop count that it got lost with.
fn sent_as(segment: &Frame, kind: Kind) -> Frame {
    let hops = if kind == Kind::Dsr { segment.ttl } else { segment.ttl - 1 };
    segment.clone().ttl(hops)
}

#[rstest]
#[case::net_unreachable(Report::NetUnreachable)]
#[case::host_unreachable(Report::HostUnreachable)]
#[case::port_unreachable(Report::PortUnreachable)]
#[case::prohibited(Report::Prohibited)]
#[case::too_big(Report::TooBig(1400))]
#[case::time_exceeded(Report::TimeExceeded)]
#[case::parameter_problem(Report::ParameterProblem(9))]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_about_a_request_reaches_the_client(
    #[case] report: Report,
    #[values(8, 16, 18, 20, ALL)] quoted: usize,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.snapshot();
    let segment = connection.of_client(ACK).payload(b"question");
    let (of_backend, to) = (*connection.backend.ip(), *connection.snat.ip());
    let seen = connection.forwarded(&segment);
    let frame = error(&harness, [of_backend, to], report, &seen, quoted)
        .macs(backend_mac(connection.id), LB_MAC);
    let sent = sent_as(&segment, mode);
    let expected = error(&harness, [*SERVICE.ip(), *CLIENT.ip()], report, &sent, quoted)
        .macs(LB_MAC, CLIENT_MAC)
        .ttl(63);
    harness.expect_frame(&frame, "forward_icmp_error", &expected);
    assert_eq!(harness.snapshot(), before);
}

#[rstest]
#[case::port_unreachable(Report::PortUnreachable)]
#[case::too_big(Report::TooBig(1280))]
#[case::time_exceeded(Report::TimeExceeded)]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_about_a_reply_reaches_the_backend(
    #[case] report: Report,
    #[values(8, 18, ALL)] quoted: usize,
    #[values(*CLIENT.ip(), ROUTER)] from: Ipv4Addr,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    if from == ROUTER {
        // It makes no difference to flows.
        harness.close_vip();
    }
    let connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.snapshot();
    let segment = connection.of_backend(ACK).payload(b"answer");
    let seen = connection.returned(&segment);
    let frame =
        error(&harness, [from, *SERVICE.ip()], report, &seen, quoted).macs(CLIENT_MAC, LB_MAC);
    let sent = sent_as(&segment, mode);
    // In `dnat` the backend hears the router itself; in `nat` its address would not be translated back.
    let from = if mode == Kind::Dnat { from } else { *connection.snat.ip() };
    let expected = error(&harness, [from, *connection.backend.ip()], report, &sent, quoted)
        .macs(LB_MAC, backend_mac(connection.id))
        .ttl(63);
    harness.expect_frame(&frame, "forward_icmp_error", &expected);
    assert_eq!(harness.snapshot(), before);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dsr_an_error_about_a_reply_reaches_the_backend_as_it_is(
    #[values(Report::TooBig(1400), Report::PortUnreachable)] report: Report,
    #[values(8, ALL)] quoted: usize,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.snapshot();
    let seen = Frame::tcp(SERVICE, CLIENT).flags(ACK).payload(b"answer").ttl(60);
    let frame = error(&harness, [ROUTER, *SERVICE.ip()], report, &seen, quoted);
    let expected = frame.clone().macs(LB_MAC, backend_mac(connection.id));
    harness.expect_frame(&frame.macs(ROUTER_MAC, LB_MAC), "forward_icmp_error", &expected);
    assert_eq!(harness.snapshot(), before);
}

/// A router on the way to a backend of `nat` answers the VIP.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_of_a_router_before_the_backend_comes_from_the_vip(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    let seen = connection.forwarded(&syn(CLIENT));
    let report = Report::HostUnreachable;
    let ends = [ROUTER, *connection.snat.ip()];
    let frame = error(&harness, ends, report, &seen, ALL).macs(ROUTER_MAC, LB_MAC).tos(0xc0);
    let ends = [*SERVICE.ip(), *CLIENT.ip()];
    let expected = error(&harness, ends, report, &sent_as(&syn(CLIENT), Kind::Nat), ALL)
        .macs(LB_MAC, CLIENT_MAC)
        .tos(0xc0)
        .ttl(63);
    harness.expect_frame(&frame, "forward_icmp_error", &expected);
}

/// In `dnat` such a router answers the client, who knows the VIP only.
#[rstest]
#[case::too_big(Report::TooBig(1400))]
#[case::time_exceeded(Report::TimeExceeded)]
#[case::host_unreachable(Report::HostUnreachable)]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dnat_an_error_of_a_router_before_the_backend_comes_from_the_vip(
    #[case] report: Report,
    #[values(8, 18, ALL)] quoted: usize,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dnat);
    let connection = Connection::establish(&mut harness, CLIENT);
    let segment = connection.of_client(ACK).payload(b"question");
    let seen = connection.forwarded(&segment);
    let ends = [ROUTER, *CLIENT.ip()];
    let frame = error(&harness, ends, report, &seen, quoted).macs(ROUTER_MAC, LB_MAC);
    let sent = sent_as(&segment, Kind::Dnat);
    let expected = error(&harness, [*SERVICE.ip(), *CLIENT.ip()], report, &sent, quoted)
        .macs(LB_MAC, CLIENT_MAC)
        .ttl(63);
    harness.expect_frame(&frame, "forward_icmp_error", &expected);
}

/// This host may be a router for others too.
#[rstest]
#[case::of_no_flow(Frame::tcp(OTHER_CLIENT, BACKENDS[0]).flags(ACK), *OTHER_CLIENT.ip())]
#[case::to_somebody_else(Frame::tcp(CLIENT, BACKENDS[0]).flags(ACK), ROUTER)]
#[case::of_others(Frame::tcp(OTHER_CLIENT, CLIENT).flags(ACK), *OTHER_CLIENT.ip())]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dnat_an_error_that_only_comes_through_passes(
    #[case] about: Frame,
    #[case] to: Ipv4Addr,
    #[values(*BACKENDS[0].ip(), ROUTER)] from: Ipv4Addr,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dnat);
    Connection::establish(&mut harness, CLIENT);
    let frame = error(&harness, [from, to], Report::TooBig(1400), &about, ALL);
    harness.expect(&frame, "pass_not_vip");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_whose_hops_end_here_drops(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let seen = connection.returned(&connection.of_backend(ACK));
    let ends = [*CLIENT.ip(), *SERVICE.ip()];
    let frame = error(&harness, ends, Report::PortUnreachable, &seen, 8).macs(CLIENT_MAC, LB_MAC);
    harness.expect(&frame.ttl(1), "drop_ttl_expired");
}

/// Of no flow, but about what is balanced.
#[rstest]
#[case::of_a_request(|_: SocketAddrV4| Frame::tcp(SERVICE, OTHER_CLIENT).flags(ACK))]
#[case::of_a_snat_port(|vip: SocketAddrV4| Frame::tcp(SocketAddrV4::new(*vip.ip(), 5000), BACKENDS[0]).flags(SYN))]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_about_a_segment_of_no_flow_drops(
    #[case] about: fn(SocketAddrV4) -> Frame,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    Connection::establish(&mut harness, CLIENT);
    let ends = [ROUTER, *SERVICE.ip()];
    let frame = error(&harness, ends, Report::PortUnreachable, &about(SERVICE), ALL);
    harness.expect(&frame, "drop_icmp_without_flow");
}

#[rstest]
#[case::about_ssh(Frame::tcp(SocketAddrV4::new(*SERVICE.ip(), 22), CLIENT).flags(ACK), ALL)]
#[case::seven_bytes_of_tcp(Frame::tcp(SERVICE, CLIENT).flags(ACK), 7)]
#[case::no_tcp(Frame::tcp(SERVICE, CLIENT).flags(ACK), 0)]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_that_cannot_be_ours_passes(
    #[case] about: Frame,
    #[case] quoted: usize,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let ends = [*CLIENT.ip(), *SERVICE.ip()];
    let frame = error(&harness, ends, Report::PortUnreachable, &about, quoted);
    // Cut so short that the parser of the tests would refuse it too: sent as bytes.
    let outcome = harness.send_bytes(&frame.bytes());
    assert_eq!(outcome.counter, "pass_not_tcp");
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_echo_passes_beside_a_flow(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.expect(&Frame::echo(*CLIENT.ip(), *SERVICE.ip()), "pass_not_tcp");
    harness.expect(&Frame::echo(*connection.backend.ip(), *SERVICE.ip()), "pass_not_tcp");
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_changes_no_lease(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let seen = connection.returned(&connection.of_backend(ACK));
    let ends = [*CLIENT.ip(), *SERVICE.ip()];
    let frame = error(&harness, ends, Report::PortUnreachable, &seen, 8);
    harness.set_lease(0, lb_common::lease::Lease::EXPIRED);
    harness.expect(&frame, "drop_lease_expired");
    harness.expect(&from_client(CLIENT, ACK), "drop_lease_expired");
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_that_quotes_ipv4_options_is_steered() {
    let mut harness = Harness::new(V4);
    let connection = Connection::establish(&mut harness, CLIENT);
    let segment = connection.of_client(ACK).ip_options(&[1; 8]).payload(b"question");
    let quote = connection.forwarded(&segment).packet();
    let (from, to) = (*connection.backend.ip(), *connection.snat.ip());
    let frame = Frame::error(from, to, Report::TooBig(1400), &quote)
        .macs(backend_mac(connection.id), LB_MAC);
    let quote = segment.ttl(63).packet();
    let expected = Frame::error(*SERVICE.ip(), *CLIENT.ip(), Report::TooBig(1400), &quote)
        .macs(LB_MAC, CLIENT_MAC)
        .ttl(63);
    harness.expect_frame(&frame, "forward_icmp_error", &expected);
}
