//! A backend on this node: requests are translated and left to its kernel, replies are met where they
//! leave.

use std::net::SocketAddrV4;

use fairlead::control::trace::Fate;
use lb_common::conntrack::{TcpState, flag};
use lb_common::counters::Counter;
use lb_common::lease::Lease;
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame, PSH, QINQ, RST, Report, SYN, VLAN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, Left, LocalConnection, OTHER_CLIENT,
    SERVICE, Setup, local, local_ip, name_of, syn,
};

/// Not the service's port.
const ELSEWHERE: SocketAddrV4 = SocketAddrV4::new(*BACKENDS[0].ip(), 7443);

/// The only backend is here.
fn here(family: Family, mode: Kind, backend: SocketAddrV4) -> Harness {
    let mut harness = Harness::build(&Setup { mode, backends: &[backend], ..Setup::new(family) });
    harness.make_local(&[1]);
    harness
}

fn state(harness: &Harness, connection: &LocalConnection) -> TcpState {
    let (original, reply) = connection.halves(harness);
    TcpState::of(&original, &reply)
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_connection_goes_by_way_of_the_kernel_and_keeps_the_client(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(BACKENDS[0], ELSEWHERE)] backend: SocketAddrV4,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = here(family, mode, backend);
    let Fate::Forward(foretold) = harness.traced(CLIENT).fate else { panic!("not forwarded") };
    assert_eq!((foretold.kind, foretold.source), (Some(Kind::Dnat), local(family, CLIENT)));
    let mut connection = LocalConnection::establish(&mut harness, CLIENT, backend);
    let (original, reply) = connection.halves(&harness);
    assert_eq!((original.kind, reply.kind), (Kind::Dnat as u8, Kind::Dnat as u8));
    assert_eq!(state(&harness, &connection), TcpState::Established);
    connection.exchange(&mut harness, b"question", b"answer!");
    connection.exchange(&mut harness, b"", b"");
    let (traffic, events) = (harness.traffic(1), harness.events(1));
    assert_eq!((events.flows, events.connections), (1, 1));
    assert_eq!((traffic.requests.packets, traffic.replies.packets), ([0, 0, 6], [0, 0, 3]));
    assert_eq!(harness.flows(), (2, 0));
}

#[rstest]
#[case::client([true, false])]
#[case::backend([false, true])]
#[ignore = "needs root: cargo xtask test datapath"]
fn both_close_in_either_order(#[case] order: [bool; 2], #[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let mut connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    for is_client in order {
        if is_client {
            connection.request(&mut harness, &connection.of_client(FIN | ACK));
            connection.client_next = connection.client_next.wrapping_add(1);
        } else {
            connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
            connection.backend_next += 1;
        }
    }
    connection.reply(&mut harness, &connection.of_backend(ACK));
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(state(&harness, &connection), TcpState::TimeWait);
    // The next one of the same port is another connection.
    LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_reset_of_the_backend_is_told_and_ends_the_flow(#[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    connection.reply(&mut harness, &connection.of_backend(RST | ACK));
    assert_eq!(state(&harness, &connection), TcpState::Closed);
}

#[rstest]
#[case::data(ACK | PSH)]
#[case::syn_ack(SYN | ACK)]
#[case::fin(FIN | ACK)]
#[case::rst(RST)]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_has_no_flow_leaves_as_it_came(#[case] flags: u8, #[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    let before = harness.snapshot();
    // A connection to this node's own address, and the node's own connections elsewhere.
    let direct = connection.of_backend(flags).to(OTHER_CLIENT);
    let other_port = connection.of_backend(flags).from(ELSEWHERE);
    let own = connection.of_backend(flags).from(CLIENT).to(BACKENDS[1]);
    let as_client = Frame::tcp(CLIENT, SERVICE).flags(flags);
    for frame in [direct, other_port, own, as_client] {
        assert_eq!(harness.leave(&frame), Left::Untouched, "{frame:#?}");
    }
    assert_eq!(harness.snapshot(), before);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn replies_of_other_hosts_that_pass_through_are_not_touched(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let others: Vec<u32> = (1..=3).filter(|id| *id != connection.id).collect();
    harness.make_local(&others);
    assert_eq!(harness.leave(&connection.of_backend(ACK)), Left::Untouched);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_that_is_a_backend_elsewhere_keeps_its_address(#[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    harness.add_endpoint(BACKENDS[1], false);
    let client = SocketAddrV4::new(*BACKENDS[1].ip(), 40_000);
    let connection = LocalConnection::establish(&mut harness, client, BACKENDS[0]);
    assert_eq!(state(&harness, &connection), TcpState::Established);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_ack_of_a_closed_flow_is_of_a_connection_to_the_node_itself(
    #[values(FIN | ACK, RST)] closing: u8,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    connection.request(&mut harness, &connection.of_client(closing));
    for flags in [SYN | ACK, ACK | PSH] {
        assert_eq!(harness.leave(&connection.of_backend(flags)), Left::Untouched);
    }
    assert_eq!(harness.established(&connection.reply_key()), None);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_first_refusal_is_held_back_if_there_is_another_backend(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.make_local(&[1, 2, 3]);
    let outcome = harness.send(&syn(CLIENT));
    assert_eq!(outcome.counter, "forward_local_request");
    let first = name_of(outcome.frame().destination());
    let refusal = |backend: SocketAddrV4| {
        let frame = Frame::tcp(backend, CLIENT).macs(LB_MAC, CLIENT_MAC).flags(RST | ACK);
        frame.ack(crate::harness::ISS.wrapping_add(1))
    };
    assert_eq!(harness.leave(&refusal(first)), Left::Dropped("drop_refused_syn"));
    let second = name_of(harness.send(&syn(CLIENT)).frame().destination());
    assert_ne!(first, second);
    let told = harness.local(&refusal(second).from(SERVICE));
    assert_eq!(harness.leave(&refusal(second)), Left::As(Box::new(told)));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn replies_go_on_after_the_vip_has_left(#[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    harness.set_lease(0, Lease::EXPIRED);
    harness.expect(&connection.of_client(ACK), "drop_lease_expired");
    connection.reply(&mut harness, &connection.of_backend(ACK | PSH).payload(b"event"));
    connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
    // The node that has the VIP knows what a SYN is for.
    connection.reply(&mut harness, &connection.syn_ack());
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_that_a_peer_told_of_goes_on_without_a_known_way_to_its_client(
    #[values(V4, V6)] family: Family,
) {
    const SINCE: u32 = 3_000_000_000;
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let mut connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    harness.take_over();
    connection.client_next = connection.client_next.wrapping_add(SINCE);
    connection.backend_next = connection.backend_next.wrapping_add(SINCE);
    connection.reply(&mut harness, &connection.of_backend(ACK | PSH).payload(b"event"));
    connection.backend_next = connection.backend_next.wrapping_add(5);
    let (_, reply) = connection.halves(&harness);
    assert!(!reply.has(flag::REPLICA));
    assert_eq!(reply.seq_end, connection.backend_next);
    connection.exchange(&mut harness, b"question", b"answer");
    assert!(!connection.halves(&harness).0.has(flag::REPLICA));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_mid_stream_segment_is_confirmed_by_a_reply_that_fits(#[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let mut connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    harness.forget_all();
    connection.request(&mut harness, &connection.of_client(ACK | PSH).payload(b"question"));
    connection.client_next = connection.client_next.wrapping_add(8);
    connection.reply(&mut harness, &connection.of_backend(ACK));
    assert_eq!(state(&harness, &connection), TcpState::Established);
    // Of a connection that has nothing to do with it.
    harness.forget_all();
    connection.request(&mut harness, &connection.of_client(ACK | PSH).payload(b"question"));
    let elsewhere = connection.of_backend(ACK).ack(connection.client_next.wrapping_add(1 << 20));
    assert_eq!(harness.leave(&elsewhere), Left::Untouched);
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_header_with_options_is_translated(#[values(BACKENDS[0], ELSEWHERE)] backend: SocketAddrV4) {
    let mut harness = here(V4, Kind::Nat, backend);
    let connection = LocalConnection::establish(&mut harness, CLIENT, backend);
    let with_options = |frame: Frame| frame.ip_options(&[1; 8]).payload(b"odd");
    connection.request(&mut harness, &with_options(connection.of_client(ACK | PSH)));
    connection.reply(&mut harness, &with_options(connection.of_backend(ACK | PSH)));
}

#[rstest]
#[case::tcp_options(|frame: Frame| frame.options(&[1; 12]))]
#[case::tag(|frame: Frame| frame.tag(VLAN, 0x6007))]
#[case::tags(|frame: Frame| frame.tag(QINQ, 9).tag(VLAN, 7))]
#[case::class(|frame: Frame| frame.tos(0xb9).flow_label(0xabcde))]
#[case::odd_data(|frame: Frame| frame.payload(b"odd"))]
#[ignore = "needs root: cargo xtask test datapath"]
fn headers_of_every_form_are_translated(
    #[case] change: fn(Frame) -> Frame,
    #[values(BACKENDS[0], ELSEWHERE)] backend: SocketAddrV4,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = here(family, Kind::Nat, backend);
    let connection = LocalConnection::establish(&mut harness, CLIENT, backend);
    connection.request(&mut harness, &change(connection.of_client(ACK | PSH)));
    connection.reply(&mut harness, &change(connection.of_backend(ACK | PSH)));
}

#[rstest]
#[case::too_big(Report::TooBig(1280))]
#[case::port_unreachable(Report::PortUnreachable)]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_about_a_reply_reaches_the_kernel(
    #[case] report: Report,
    #[values(BACKENDS[0], ELSEWHERE)] backend: SocketAddrV4,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = here(family, Kind::Nat, backend);
    let connection = LocalConnection::establish(&mut harness, CLIENT, backend);
    let segment = connection.of_backend(ACK).payload(b"answer");
    let error = |harness: &Harness, to: SocketAddrV4, about: &Frame| {
        let quoted = harness.local(about).packet();
        let [from, to] = [*OTHER_CLIENT.ip(), *to.ip()].map(|name| local_ip(family, name));
        Frame::error(from, to, report, &quoted).macs(CLIENT_MAC, LB_MAC)
    };
    let seen = error(&harness, SERVICE, &segment.clone().from(SERVICE));
    let expected = error(&harness, backend, &segment).ttl(63);
    harness.expect_frame(&seen, "forward_local_icmp_error", &expected);
}

/// A second connection with the same ends at the backend, by another VIP, could not be told from the first.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_second_vip_from_the_same_port_gets_no_address_of_ours(#[values(V4, V6)] family: Family) {
    let mut harness = here(family, Kind::Nat, BACKENDS[0]);
    let connection = LocalConnection::establish(&mut harness, CLIENT, BACKENDS[0]);
    let (_, mut reply) = connection.halves(&harness);
    harness.forget_all();
    reply.translation.src = harness.ip(*OTHER_CLIENT.ip());
    harness.store(&connection.reply_key(), reply);
    assert_eq!(harness.traced(CLIENT).fate, Fate::Drop(Counter::DropSnatExhausted));
    harness.expect(&syn(CLIENT), "drop_snat_exhausted");
}
