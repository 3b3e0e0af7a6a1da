//! When a client is told that its connection is lost, and by which numbers.

use std::net::SocketAddrV4;

use lb_common::lease::Lease;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame, PSH, RST, SYN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, CLIENT_MAC, Connection, Harness, LB_MAC, OTHER_CLIENT, SERVICE, Sizes,
    from_client, key, rst_to, syn,
};

/// RFC 9293 section 3.10.7.1: the RST to a segment without ACK acknowledges all of it; that to one with
/// ACK is where the ACK says.
#[rstest]
#[case::syn(syn(CLIENT).seq(1000), 0, 1001, RST | ACK)]
#[case::syn_at_the_end_of_the_space(syn(CLIENT).seq(u32::MAX), 0, 0, RST | ACK)]
#[case::syn_with_data(syn(CLIENT).seq(1000).payload(b"early"), 0, 1006, RST | ACK)]
#[case::ack(from_client(CLIENT, ACK).seq(1).ack(0xfedc_ba98), 0xfedc_ba98, 0, RST)]
#[case::data(from_client(CLIENT, ACK | PSH).seq(1).ack(77).payload(&[7; 1400]), 77, 0, RST)]
#[case::options(syn(CLIENT).seq(1).ip_options(&[1; 40]), 0, 2, RST | ACK)]
#[case::padding(from_client(CLIENT, ACK).ack(9).padding(&[0xee; 6]), 9, 0, RST)]
#[case::odd_fields(syn(CLIENT).seq(1).tos(0xff).id(9).frags(0).ttl(2).urgent(5), 0, 2, RST | ACK)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_service_without_backends_refuses(
    #[case] frame: Frame,
    #[case] seq: u32,
    #[case] ack: u32,
    #[case] flags: u8,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::with(family, &[]);
    harness.expect_frame(&frame, "reset_no_backend", &rst_to(CLIENT, seq, ack, flags));
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_service_without_a_table_refuses(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.change_service(|service| service.id = 9);
    let rst = rst_to(CLIENT, 0, 6, RST | ACK);
    harness.expect_frame(&syn(CLIENT).seq(5), "reset_no_backend", &rst);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_table_that_empties_leaves_flows_alone(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.set_table(&[]);
    assert_eq!(harness.send(&syn(OTHER_CLIENT)).counter, "reset_no_backend");
    connection.exchange(&mut harness, b"question", b"answer");
}

/// A table that is soon full.
const SMALL: Sizes = Sizes { established: 2, half_open: 2 };

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_full_table_refuses_a_syn(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::sized(family, SMALL);
    let mut first = Connection::establish(&mut harness, CLIENT);
    harness.crowd(&first.original_key());
    let before = harness.flows();
    let rst = rst_to(OTHER_CLIENT, 0, 6, RST | ACK);
    harness.expect_frame(&syn(OTHER_CLIENT).seq(5), "reset_table_full", &rst);
    // Neither is a half of it left behind.
    assert_eq!(harness.flows(), before);
    assert_eq!(harness.half(&key(OTHER_CLIENT, SERVICE)), None);
    first.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn room_for_one_half_is_no_room(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::sized(family, SMALL);
    let first = Connection::establish(&mut harness, CLIENT);
    let own = [first.original_key(), first.reply_key()];
    harness.crowd(&first.original_key());
    let fillers = harness.snapshot().into_iter().map(|(id, _)| id).filter(|id| !own.contains(id));
    let mut refused = 0;
    for filler in fillers {
        harness.forget(&filler);
        let before = harness.flows();
        let outcome = harness.send(&syn(OTHER_CLIENT));
        if outcome.counter != "reset_table_full" {
            assert_eq!(harness.flows(), (before.0, 2));
            break;
        }
        assert_eq!(harness.flows(), before);
        refused += 1;
    }
    // At first there was room for one half.
    assert!(refused >= 1);
    assert!(harness.half_open(&key(OTHER_CLIENT, SERVICE)).is_some());
}

/// Those that nobody has confirmed do, and are counted; the others stay.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_a_full_table_half_open_flows_give_way(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::sized(family, SMALL);
    let mut first = Connection::establish(&mut harness, CLIENT);
    let own = [first.original_key(), first.reply_key()];
    harness.crowd(&first.original_key());
    let fillers = harness.snapshot().into_iter().map(|(id, _)| id).filter(|id| !own.contains(id));
    fillers.take(20).for_each(|filler| harness.forget(&filler));
    let client = |port| SocketAddrV4::new(*OTHER_CLIENT.ip(), port);
    for port in 0..20 {
        Connection::syn(&mut harness, client(1000 + port));
    }
    let before = (harness.flows(), harness.evicted());
    assert!(before.0.1 <= 20 && before.1 >= 5, "{before:?}");
    for port in 0..3 {
        let mut newcomer = Connection::establish(&mut harness, client(2000 + port));
        newcomer.exchange(&mut harness, b"question", b"answer");
    }
    let after = (harness.flows(), harness.evicted());
    assert_eq!(after.0.0, before.0.0 + 6);
    assert!(after.0.1 < before.0.1 && after.1 > before.1, "{before:?} {after:?}");
    first.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn flows_of_a_backend_that_was_given_up_are_reset(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer");
    harness.change_backend(connection.id, |backend| backend.epoch += 1);
    let lost = connection.of_client(ACK | PSH).payload(b"lost");
    let rst = rst_to(CLIENT, connection.backend_next, 0, RST);
    harness.expect_frame(&lost, "reset_backend_down", &rst);
    harness.expect_frame(&lost, "reset_backend_down", &rst);
    // A new connection from the same port is nothing to it.
    Connection::establish(&mut harness, CLIENT).exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_fin_to_a_backend_that_was_given_up_is_reset(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.change_backend(connection.id, |backend| backend.epoch += 1);
    let rst = rst_to(CLIENT, connection.backend_next, 0, RST);
    harness.expect_frame(&connection.of_client(FIN | ACK), "reset_backend_down", &rst);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_half_open_flow_of_a_backend_that_was_given_up_moves(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    let first = Connection::syn(&mut harness, CLIENT);
    harness.change_backend(1, |backend| backend.epoch += 1);
    let second = Connection::syn(&mut harness, CLIENT);
    let (original, _) = second.half_open(&harness);
    assert_eq!((second.backend, original.epoch), (first.backend, 1));
}

// The lease.

const NO_NEW_FLOWS: Lease = Lease { answer_until: 0, forward_until: u64::MAX };

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn without_the_right_to_answer_flows_linger_and_none_is_made(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.set_lease(0, NO_NEW_FLOWS);
    connection.exchange(&mut harness, b"question", b"answer");
    harness.expect(&syn(OTHER_CLIENT), "drop_lease_expired");
    harness.expect(&from_client(OTHER_CLIENT, ACK), "drop_lease_expired");
}

#[rstest]
#[case::data(|c: &Connection| c.of_client(ACK))]
#[case::fin(|c: &Connection| c.of_client(FIN | ACK))]
#[case::rst(|c: &Connection| c.of_client(RST))]
#[case::reply(|c: &Connection| c.of_backend(ACK))]
#[case::fin_in_reply(|c: &Connection| c.of_backend(FIN | ACK))]
#[case::syn(|_: &Connection| syn(CLIENT))]
#[case::new_syn(|_: &Connection| syn(OTHER_CLIENT))]
#[case::new_data(|_: &Connection| from_client(OTHER_CLIENT, ACK))]
#[case::new_fin(|_: &Connection| from_client(OTHER_CLIENT, FIN | ACK))]
#[ignore = "needs root: cargo xtask test datapath"]
fn without_a_lease_all_that_is_balanced_drops(
    #[case] frame: fn(&Connection) -> Frame,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.set_lease(0, Lease::EXPIRED);
    let before = harness.snapshot();
    harness.expect(&frame(&connection), "drop_lease_expired");
    assert_eq!(harness.snapshot(), before);
}

/// Its peer has the VIP, and the kernel here still owns it.
#[rstest]
#[case::ssh(syn(CLIENT).to(SocketAddrV4::new(*SERVICE.ip(), 22)))]
#[case::udp(Frame::udp(CLIENT, SERVICE, b"?"))]
#[case::echo(Frame::echo(*CLIENT.ip(), *SERVICE.ip()))]
#[ignore = "needs root: cargo xtask test datapath"]
fn without_a_lease_nothing_to_the_vip_passes(
    #[case] frame: Frame,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    harness.set_lease(0, Lease::EXPIRED);
    harness.expect(&frame.macs(CLIENT_MAC, LB_MAC), "drop_lease_expired");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_half_open_flow_is_not_reset_by_a_rst_with_syn(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(SYN | RST));
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.halves(&harness);
}
