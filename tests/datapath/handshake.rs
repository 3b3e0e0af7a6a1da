//! How a flow is made and confirmed.

use lb_common::conntrack::TcpState;
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, PSH, RST, SYN};
use rstest::rstest;

use crate::harness::{
    CLIENT, Connection, Harness, IRS, ISS, SERVICE, Sizes, from_client, key, peer_key, rst_to, syn,
};

const SECOND: u64 = 1_000_000_000;

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_handshake_promotes_both_halves(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    let (original, reply) = connection.half_open(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::SynSent);
    assert_eq!(harness.flows(), (0, 2));

    connection.reply(&mut harness, &connection.syn_ack());
    let (original, reply) = connection.half_open(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::SynReceived);
    assert_eq!(harness.flows(), (0, 2));

    connection.request(&mut harness, &connection.of_client(ACK));
    let (original, reply) = connection.halves(&harness);
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
    assert!(original.is_original() && !reply.is_original());
    assert_eq!((original.seq_end, original.ack), (ISS.wrapping_add(1), IRS + 1));
    assert_eq!(reply.ack, ISS.wrapping_add(1));
    assert_eq!((original.backend, reply.backend), (connection.id, connection.id));
    assert_eq!(peer_key(&original), connection.reply_key());
    assert_eq!(peer_key(&reply), connection.original_key());
    assert_eq!(harness.flows(), (2, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn data_in_the_third_segment_promotes_as_well(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    connection.reply(&mut harness, &connection.syn_ack());
    let hello = connection.of_client(ACK | PSH).payload(b"client hello");
    connection.request(&mut harness, &hello);
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_acknowledgement_before_the_syn_ack_promotes_nothing(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(harness.flows(), (0, 2));
    connection.reply(&mut harness, &connection.syn_ack());
    // Not what the backend sent.
    connection.request(&mut harness, &connection.of_client(ACK).ack(IRS + (1 << 20)));
    assert_eq!(harness.flows(), (0, 2));
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_a_client_sends_before_its_syn_ack_changes_nothing(
    #[values(V4, V6)] family: Family,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::syn(&mut harness, CLIENT);
    let before = harness.snapshot();
    let data = connection.of_client(ACK | PSH).payload(b"early");
    connection.request(&mut harness, &data);
    assert_eq!(harness.snapshot(), before);
    // Nor some time later, nor once it is time to look for the other half.
    for _ in 0..2 {
        harness.age(&connection.original_key(), SECOND / 2);
        let before = harness.snapshot();
        connection.request(&mut harness, &data);
        assert_eq!(harness.snapshot(), before);
    }
}

/// A version without the mark has seen SYN and SYN-ACK.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_handshake_that_a_predecessor_saw_is_completed_at_once(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    harness.patch(&connection.original_key(), |half| half.fin_end = 0);
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.halves(&harness);
}

/// The mark and the end of a FIN share a field.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_fin_that_comes_before_the_promotion_keeps_its_end(
    #[values(V4, V6)] family: Family,
    #[values(true, false)] answered: bool,
) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::syn(&mut harness, CLIENT);
    if answered {
        connection.reply(&mut harness, &connection.syn_ack());
    }
    let fin = connection.of_client(FIN | ACK).payload(b"all");
    connection.request(&mut harness, &fin);
    connection.client_next = connection.client_next.wrapping_add(4);
    if !answered {
        connection.reply(&mut harness, &connection.syn_ack());
    }
    connection.request(&mut harness, &connection.of_client(ACK));
    let (original, _) = connection.halves(&harness);
    assert_eq!(original.fin_end, connection.client_next);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_unanswered_client_of_a_backend_that_was_given_up_is_told(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    harness.change_backend(connection.id, |backend| backend.epoch += 1);
    let rst = rst_to(CLIENT, connection.backend_next, 0, RST);
    harness.expect_frame(&connection.of_client(ACK), "reset_backend_down", &rst);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_unanswered_flow_without_its_reply_half_goes_after_a_second(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    harness.forget(&connection.reply_key());
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(harness.flows(), (0, 1));
    harness.age(&connection.original_key(), SECOND);
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_answered_flow_without_its_reply_half_is_taken_up_anew(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    connection.reply(&mut harness, &connection.syn_ack());
    harness.forget(&connection.reply_key());
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_sent_again_keeps_backend_and_port(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    let before = harness.snapshot();
    connection.request(&mut harness, &syn(CLIENT));
    assert_eq!(harness.snapshot(), before);
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &syn(CLIENT));
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.halves(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_unanswered_syn_goes_to_another_backend(#[values(V4, V6)] family: Family) {
    for port in 40_000..40_010 {
        let mut harness = Harness::new(family);
        let client = std::net::SocketAddrV4::new(*CLIENT.ip(), port);
        let first = Connection::syn(&mut harness, client);
        harness.age(&first.original_key(), 900_000_000);
        let second = Connection::syn(&mut harness, client);
        assert_eq!(harness.flows(), (0, 2));
        let (original, reply) = second.half_open(&harness);
        assert_ne!(second.backend, first.backend);
        assert!((1..=9).contains(&original.attempts), "{}", original.attempts);
        assert_eq!(reply.attempts, original.attempts);
        second.reply(&mut harness, &second.syn_ack());
        second.request(&mut harness, &second.of_client(ACK));
        second.halves(&harness);
        // The first backend was only slow: its answer must not reach the client.
        harness.expect(&first.syn_ack(), "drop_stale_reply");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_answered_syn_stays_with_its_backend_however_late_it_is_sent_again(
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    connection.reply(&mut harness, &connection.syn_ack());
    harness.age(&connection.original_key(), 3 * SECOND);
    connection.request(&mut harness, &syn(CLIENT));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_on_an_established_flow_changes_nothing(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.age(&connection.original_key(), 5 * SECOND);
    let before = harness.snapshot();
    connection.request(&mut harness, &syn(CLIENT).seq(123_456));
    assert_eq!(harness.snapshot(), before);
    // The backend's challenge (RFC 5961 section 4.2).
    connection.reply(&mut harness, &connection.of_backend(ACK));
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_forged_syn_ack_changes_nothing_in_an_established_flow(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.snapshot();
    connection.reply(&mut harness, &connection.syn_ack().seq(99));
    assert_eq!(harness.snapshot(), before);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flood_of_syns_leaves_an_established_flow_alone(#[values(V4, V6)] family: Family) {
    let sizes = Sizes { established: 64, half_open: 256 };
    let mut harness = Harness::sized(family, sizes);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    for host in 0..2000u32 {
        let address = std::net::Ipv4Addr::from_bits(0xc612_0000 + host);
        let flood = std::net::SocketAddrV4::new(address, 1024);
        assert_eq!(harness.send(&syn(flood)).counter, "forward_request");
    }
    // Twice what it is for, and the last ones' reach.
    assert!(harness.flows().1 <= 64 + 256 + 40);
    assert!(harness.evicted() >= 2000 - (64 + 256 + 40));
    connection.exchange(&mut harness, b"question", b"answer");
    assert_eq!(harness.flows().0, 2);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flood_of_acknowledgements_leaves_an_established_flow_alone(#[values(V4, V6)] family: Family) {
    let sizes = Sizes { established: 64, half_open: 256 };
    let mut harness = Harness::sized(family, sizes);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    for host in 0..2000u32 {
        let address = std::net::Ipv4Addr::from_bits(0xc612_0000 + host);
        let flood = from_client(std::net::SocketAddrV4::new(address, 1024), ACK);
        assert_eq!(harness.send(&flood.seq(host)).counter, "forward_request");
    }
    connection.exchange(&mut harness, b"question", b"answer");
    assert_eq!(harness.flows().0, 2);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_that_was_swept_can_be_opened_again(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let first = Connection::establish(&mut harness, CLIENT);
    harness.forget(&first.original_key());
    harness.forget(&first.reply_key());

    let mut second = Connection::establish(&mut harness, CLIENT);
    second.halves(&harness);
    second.exchange(&mut harness, b"question", b"answer");
}

/// Who has had no answer does not send new data for ever: it repeats the last, if only to keep the
/// connection alive.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_reply_half_is_looked_for_when_the_client_repeats_itself(
    #[values(0, 1)] keepalive_bytes: usize,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.forget(&connection.reply_key());
    for aged in [2, 1] {
        harness.age(&connection.original_key(), aged * SECOND);
        connection.request(&mut harness, &connection.of_client(ACK).payload(b"data"));
        connection.client_next = connection.client_next.wrapping_add(4);
        harness.expect(&connection.of_backend(ACK), "drop_stale_reply");
    }
    let again = connection.client_next.wrapping_sub(1);
    let keepalive = connection.of_client(ACK).seq(again).payload(&b"?"[..keepalive_bytes]);
    connection.request(&mut harness, &keepalive);
    connection.exchange(&mut harness, b"question", b"answer");
}

/// New acknowledgements are of replies: for another second nobody looks for their half.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_acknowledgement_of_something_new_puts_the_look_off(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.age(&connection.original_key(), 2 * SECOND);
    let before = connection.original(&harness).checked;
    connection.request(&mut harness, &connection.of_client(ACK).ack(IRS + 5));
    assert_ne!(connection.original(&harness).checked, before);
    harness.forget(&connection.reply_key());
    connection.request(&mut harness, &connection.of_client(ACK).ack(IRS + 5));
    harness.expect(&connection.of_backend(ACK), "drop_stale_reply");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_lost_reply_half_is_restored_within_a_second(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.forget(&connection.reply_key());
    connection.request(&mut harness, &connection.of_client(ACK));
    harness.expect(&connection.of_backend(ACK), "drop_stale_reply");
    harness.age(&connection.original_key(), SECOND);
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.exchange(&mut harness, b"question", b"answer");
    assert_eq!(key(CLIENT, SERVICE), connection.original_key());
    assert_eq!(harness.send(&connection.of_client(SYN)).counter, "forward_request");
}
