//! How a flow ends.

use lb_common::conntrack::{TcpState, flag};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, RST};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, ISS, syn};

fn state(harness: &Harness, connection: &Connection) -> TcpState {
    let (original, reply) = connection.halves(harness);
    TcpState::of(&original, &reply)
}

/// Both FINs and their acknowledgements, the client's FIN first or second.
fn close(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    let turns = if client_first { [true, false] } else { [false, true] };
    for (turn, of_client) in turns.into_iter().enumerate() {
        if of_client {
            connection.request(harness, &connection.of_client(FIN | ACK));
            connection.client_next = connection.client_next.wrapping_add(1);
        } else {
            connection.reply(harness, &connection.of_backend(FIN | ACK));
            connection.backend_next = connection.backend_next.wrapping_add(1);
        }
        let expected = [TcpState::FinWait1, TcpState::LastAck][turn];
        assert_eq!(state(harness, connection), expected);
        if of_client {
            connection.reply(harness, &connection.of_backend(ACK));
        } else {
            connection.request(harness, &connection.of_client(ACK));
        }
        let expected = [TcpState::FinWait2, TcpState::TimeWait][turn];
        assert_eq!(state(harness, connection), expected);
    }
}

#[rstest]
#[case::by_the_client(true)]
#[case::by_the_backend(false)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_close_ends_in_time_wait_and_a_syn_opens_anew(
    #[case] client_first: bool,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer");
    close(&mut harness, &mut connection, client_first);
    let (original, reply) = connection.halves(&harness);
    assert_eq!(original.has(flag::FIN_FIRST), client_first);
    assert_eq!(reply.has(flag::FIN_FIRST), !client_first);
    // A late copy of the last FIN is still acknowledged.
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.reply(&mut harness, &connection.of_backend(ACK));

    let mut again = Connection::establish(&mut harness, CLIENT);
    assert_eq!(again.snat, connection.snat);
    assert_eq!(state(&harness, &again), TcpState::Established);
    assert_eq!(harness.flows(), (2, 0));
    again.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn fins_that_cross_are_a_simultaneous_close(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(FIN | ACK));
    connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
    assert_eq!(state(&harness, &connection), TcpState::Closing);
    connection.client_next = connection.client_next.wrapping_add(1);
    connection.backend_next += 1;
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.reply(&mut harness, &connection.of_backend(ACK));
    assert_eq!(state(&harness, &connection), TcpState::TimeWait);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_half_closed_flow_goes_on_the_other_way(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(FIN | ACK).payload(b"all"));
    connection.client_next = connection.client_next.wrapping_add(4);
    connection.reply(&mut harness, &connection.of_backend(ACK).payload(b"more"));
    connection.backend_next += 4;
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(state(&harness, &connection), TcpState::FinWait2);
    // A SYN does not end it.
    let before = harness.snapshot();
    connection.request(&mut harness, &syn(CLIENT));
    assert_eq!(harness.snapshot(), before);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_rst_of_the_client_closes(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(RST).ack(0));
    assert_eq!(state(&harness, &connection), TcpState::Closed);
    Connection::establish(&mut harness, CLIENT);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_rst_of_the_backend_closes(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer");
    connection.reply(&mut harness, &connection.of_backend(RST | ACK));
    assert_eq!(state(&harness, &connection), TcpState::Closed);
    Connection::establish(&mut harness, CLIENT);
}

#[rstest]
#[case::of_the_client(true, 1)]
#[case::of_the_client_in_the_window(true, 1000)]
#[case::of_the_client_far_away(true, 0x8000_0000)]
#[case::of_the_backend(false, 1)]
#[case::of_the_backend_far_away(false, 0x8000_0000)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_forged_rst_closes_nothing(
    #[case] of_client: bool,
    #[case] off: u32,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer");
    if of_client {
        let seq = connection.client_next.wrapping_add(off);
        connection.request(&mut harness, &connection.of_client(RST).seq(seq));
    } else {
        let seq = connection.backend_next.wrapping_add(off);
        connection.reply(&mut harness, &connection.of_backend(RST).seq(seq));
    }
    assert_eq!(state(&harness, &connection), TcpState::Established);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_goes_on_after_a_rst_that_was_forged_well(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(RST));
    assert_eq!(state(&harness, &connection), TcpState::Closed);
    connection.exchange(&mut harness, b"question", b"answer");
    assert_eq!(state(&harness, &connection), TcpState::Established);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_fin_out_of_every_window_closes_nothing(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(FIN | ACK).seq(0x4000_0000));
    connection.reply(&mut harness, &connection.of_backend(FIN | ACK).seq(0x4000_0000));
    assert_eq!(state(&harness, &connection), TcpState::Established);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_on_a_closed_flow_makes_a_new_one_with_its_own_numbers(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    close(&mut harness, &mut connection, false);
    harness.expect_frame(
        &syn(CLIENT).seq(7),
        "forward_request",
        &connection.forwarded(&syn(CLIENT).seq(7)),
    );
    assert_eq!(harness.flows(), (0, 2));
    let (original, reply) = connection.half_open(&harness);
    assert_eq!(original.seq_end, 8);
    assert_ne!(original.seq_end, ISS.wrapping_add(1));
    assert_eq!(TcpState::of(&original, &reply), TcpState::SynSent);
    assert_eq!(original.attempts, 0);
}
