//! A backend refuses a client's SYN.

use std::net::SocketAddrV4;

use lb_common::backend::State;
use lb_common::conntrack::{TcpState, flag};
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, Frame, RST, SYN};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, ISS, syn};

const SECOND: u64 = 1_000_000_000;

/// As kernels answer a SYN to a port that nobody listens on.
fn refusal(connection: &Connection) -> Frame {
    connection.of_backend(RST | ACK).seq(0)
}

fn refused(harness: &Harness, id: u32) -> u64 {
    harness.events(id).refused
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_first_refusal_is_held_back_and_the_next_syn_goes_to_another(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(0, SECOND)] waited: u64,
    #[values(V4, V6)] family: Family,
) {
    for port in 40_000..40_010 {
        let mut harness = Harness::of(family, mode);
        let client = SocketAddrV4::new(*CLIENT.ip(), port);
        let first = Connection::syn(&mut harness, client);
        harness.expect(&refusal(&first), "drop_refused_syn");
        assert_eq!(refused(&harness, first.id), 1);
        let (original, reply) = first.half_open(&harness);
        assert_eq!(TcpState::of(&original, &reply), TcpState::SynSent);

        harness.age(&first.original_key(), waited);
        let mut second = Connection::establish(&mut harness, client);
        assert_ne!(second.id, first.id);
        assert_eq!(harness.events(first.id).unanswered, 0);
        second.exchange(&mut harness, b"question", b"answer");
        harness.expect(&refusal(&first), late(mode));
    }
}

/// What becomes of a segment of a backend that lost the flow.
fn late(mode: Kind) -> &'static str {
    if mode == Kind::Nat { "drop_stale_reply" } else { "pass_foreign" }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_second_refusal_is_told_and_the_next_syn_starts_anew(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let first = Connection::syn(&mut harness, CLIENT);
    harness.expect(&refusal(&first), "drop_refused_syn");
    let second = Connection::syn(&mut harness, CLIENT);
    second.reply(&mut harness, &refusal(&second));
    assert_eq!(refused(&harness, second.id), 1);
    let (original, reply) = second.half_open(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::Closed);
    assert_eq!(Connection::establish(&mut harness, CLIENT).id, first.id);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_refusal_after_an_unanswered_syn_is_told(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let first = Connection::syn(&mut harness, CLIENT);
    harness.age(&first.original_key(), SECOND);
    let second = Connection::syn(&mut harness, CLIENT);
    second.reply(&mut harness, &refusal(&second));
}

/// Nobody is left in doubt where no other backend would answer.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn without_another_backend_the_client_is_told(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    harness.set_table(&[2]);
    let alone = Connection::syn(&mut harness, CLIENT);
    alone.reply(&mut harness, &refusal(&alone));
    assert_eq!(refused(&harness, alone.id), 1);

    // All are down, and the service fails open.
    harness.set_table(&[1, 2, 3]);
    for id in 1..=3 {
        harness.change_backend(id, |backend| backend.state = State::Down as u8);
    }
    let failed_open = Connection::syn(&mut harness, CLIENT);
    failed_open.reply(&mut harness, &refusal(&failed_open));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_is_no_refusal_of_the_syn_reaches_the_client(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    // The SYN ends at sequence number ISS + 1.
    for frame in [
        |it: &Connection| it.of_backend(RST),
        |it: &Connection| it.of_backend(RST | ACK).ack(ISS),
        |it: &Connection| it.of_backend(RST | ACK).ack(ISS.wrapping_add(2)),
    ] {
        let connection = Connection::syn(&mut harness, CLIENT);
        connection.reply(&mut harness, &frame(&connection));
    }
    let answered = Connection::syn(&mut harness, CLIENT);
    answered.reply(&mut harness, &answered.syn_ack());
    answered.reply(&mut harness, &answered.of_backend(RST | ACK));
}

/// Whoever forges a refusal delays nothing: the answer is the backend's.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_answer_after_a_refusal_counts(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::syn(&mut harness, CLIENT);
    harness.expect(&refusal(&connection), "drop_refused_syn");
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &syn(CLIENT));
    connection.request(&mut harness, &connection.of_client(ACK));
    let (original, _) = connection.halves(&harness);
    assert!(original.has(flag::CONFIRMED));
    connection.exchange(&mut harness, b"question", b"answer");
    connection.request(&mut harness, &connection.of_client(SYN));
}
