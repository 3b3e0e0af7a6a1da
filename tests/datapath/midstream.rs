//! Flows of which this node has no state: a guess that the backend confirms or not.

use lb_common::conntrack::{TcpState, flag};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame, PSH, RST, SYN};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, Sizes, from_client, rst_to};

const SEQ: u32 = 0x7fff_ff00;
const ACKED: u32 = 0xffff_fff0;

fn data() -> Frame {
    from_client(CLIENT, ACK | PSH).seq(SEQ).ack(ACKED).payload(b"question")
}

/// The client's data was forwarded: what the backend expects next.
fn guess(harness: &mut Harness) -> Connection {
    let mut connection = Connection::open_with(harness, &data());
    connection.client_next = SEQ + 8;
    connection
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_fitting_reply_confirms_the_guess(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = guess(&mut harness);
    let (original, reply) = connection.half_open(&harness);
    assert!(original.has(flag::MID_STREAM) && reply.has(flag::MID_STREAM));
    connection.reply(&mut harness, &connection.of_backend(ACK).payload(b"answer"));
    connection.backend_next = connection.backend_next.wrapping_add(6);
    let (original, reply) = connection.halves(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
    connection.exchange(&mut harness, b"another question", b"another answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_successor_finds_backend_and_port_of_its_predecessor(#[values(V4, V6)] family: Family) {
    let mut before = Harness::new(family);
    let mut connection = Connection::establish(&mut before, CLIENT);
    connection.exchange(&mut before, b"question", b"answer");
    let mut after = Harness::new(family);
    let guess = Connection::open_with(&mut after, &connection.of_client(ACK));
    assert_eq!((guess.backend, guess.snat), (connection.backend, connection.snat));
    connection.reply(&mut after, &connection.of_backend(ACK));
    connection.exchange(&mut after, b"question", b"answer");
    connection.halves(&after);
}

/// The client sends the first of its lost segments again; all of them had reached the backend.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_reply_to_what_a_predecessor_forwarded_confirms_the_guess(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = guess(&mut harness);
    connection.client_next = connection.client_next.wrapping_add(30_000);
    connection.reply(&mut harness, &connection.of_backend(ACK));
    let (original, reply) = connection.halves(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
    connection.exchange(&mut harness, b"another question", b"another answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_fin_in_reply_confirms_and_closes(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = guess(&mut harness);
    connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
    let (original, reply) = connection.halves(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::FinWait1);
}

#[rstest]
#[case::acknowledges_the_future(ACK, 0, 0x0010_0000)]
#[case::acknowledges_the_far_past(ACK, 0, 0x8000_0000)]
#[case::starts_elsewhere(ACK, 0x0100_0000, 0)]
#[case::syn_ack(SYN | ACK, 0, 0)]
#[case::acknowledges_nothing(PSH, 0, 0)]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_unfitting_reply_gives_the_client_a_rst(
    #[case] flags: u8,
    #[case] seq_off: u32,
    #[case] ack_off: u32,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let connection = guess(&mut harness);
    let reply = connection
        .of_backend(flags)
        .seq(ACKED.wrapping_add(seq_off))
        .ack(connection.client_next.wrapping_add(ack_off))
        .payload(b"of another connection");
    // Exactly where the client expects the next byte (RFC 5961 section 3.2).
    harness.expect_frame(&reply, "reset_unconfirmed", &rst_to(CLIENT, ACKED, 0, RST));
    assert_eq!(harness.flows(), (0, 0));
    // Nothing is left of it: the next answer is stale.
    harness.expect(&reply, "drop_stale_reply");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_rst_in_reply_reaches_the_client(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = guess(&mut harness);
    connection.reply(&mut harness, &connection.of_backend(RST).seq(ACKED).ack(0));
    assert_eq!(harness.flows(), (0, 2));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_guess_without_room_gives_the_client_a_rst_that_it_accepts(#[values(V4, V6)] family: Family) {
    let sizes = Sizes { established: 2, half_open: 2 };
    let mut harness = Harness::sized(family, sizes);
    let other = Connection::establish(&mut harness, crate::harness::OTHER_CLIENT);
    harness.crowd(&other.original_key());
    harness.expect_frame(&data(), "reset_table_full", &rst_to(CLIENT, ACKED, 0, RST));
}

#[rstest]
#[case::fin_ack(FIN | ACK, RST, 77, 0)]
#[case::fin(FIN, RST | ACK, 0, 2001)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_fin_of_no_flow_is_answered_with_a_rst(
    #[case] flags: u8,
    #[case] answer: u8,
    #[case] seq: u32,
    #[case] ack: u32,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let fin = from_client(CLIENT, flags).seq(2000).ack(77);
    harness.expect_frame(&fin, "reset_no_flow", &rst_to(CLIENT, seq, ack, answer));
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_the_client_of_a_guess_sends_next_counts(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = guess(&mut harness);
    connection.request(&mut harness, &connection.of_client(ACK | PSH).payload(b"more"));
    connection.client_next = connection.client_next.wrapping_add(4);
    assert_eq!(connection.half_open(&harness).0.seq_end, connection.client_next);
    connection.reply(&mut harness, &connection.of_backend(ACK));
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_guess_gets_its_lost_reply_half_back_after_a_second(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = guess(&mut harness);
    harness.forget(&connection.reply_key());
    connection.request(&mut harness, &connection.of_client(ACK));
    harness.expect(&connection.of_backend(ACK), "drop_stale_reply");
    harness.age(&connection.original_key(), 1_000_000_000);
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.reply(&mut harness, &connection.of_backend(ACK));
    connection.halves(&harness);
}
