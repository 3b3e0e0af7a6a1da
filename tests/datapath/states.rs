//! The states of RFC 9293 section 3.3.2, and what each makes of segments that should change it and of
//! segments that should not.

use lb_common::conntrack::TcpState::{self, *};
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, PSH, RST, SYN};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, IRS, OTHER_CLIENT, syn};

fn state(harness: &Harness, connection: &Connection) -> TcpState {
    let find = |id| harness.half(&id).unwrap();
    TcpState::of(&find(connection.original_key()), &find(connection.reply_key()))
}

/// A connection in `wanted`, brought there by the side that closes first.
fn bring(harness: &mut Harness, wanted: TcpState, client_first: bool) -> Connection {
    let mut connection = Connection::syn(harness, CLIENT);
    let steps: &[fn(&mut Harness, &mut Connection, bool)] = match wanted {
        SynSent => &[],
        SynReceived => &[syn_ack],
        Established => &[syn_ack, third],
        FinWait1 => &[syn_ack, third, first_fin],
        FinWait2 => &[syn_ack, third, first_fin, ack_first],
        Closing => &[syn_ack, third, crossing_fins],
        LastAck => &[syn_ack, third, first_fin, ack_first, second_fin],
        TimeWait => &[syn_ack, third, first_fin, ack_first, second_fin, ack_second],
        Closed => &[syn_ack, third, reset],
    };
    for step in steps {
        step(harness, &mut connection, client_first);
    }
    assert_eq!(state(harness, &connection), wanted);
    connection
}

fn syn_ack(harness: &mut Harness, connection: &mut Connection, _: bool) {
    connection.reply(harness, &connection.syn_ack());
}

fn third(harness: &mut Harness, connection: &mut Connection, _: bool) {
    connection.request(harness, &connection.of_client(ACK));
}

/// A segment of one end, forwarded.
fn say(harness: &mut Harness, connection: &Connection, of_client: bool, flags: u8) {
    if of_client {
        connection.request(harness, &connection.of_client(flags));
    } else {
        connection.reply(harness, &connection.of_backend(flags));
    }
}

fn fin(harness: &mut Harness, connection: &mut Connection, of_client: bool) {
    say(harness, connection, of_client, FIN | ACK);
    let next = if of_client { &mut connection.client_next } else { &mut connection.backend_next };
    *next = next.wrapping_add(1);
}

fn first_fin(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    fin(harness, connection, client_first);
}

fn ack_first(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    say(harness, connection, !client_first, ACK);
}

fn second_fin(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    fin(harness, connection, !client_first);
}

fn ack_second(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    say(harness, connection, client_first, ACK);
}

fn crossing_fins(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    let before = *connection;
    say(harness, &before, client_first, FIN | ACK);
    say(harness, &before, !client_first, FIN | ACK);
    connection.client_next = before.client_next.wrapping_add(1);
    connection.backend_next = before.backend_next.wrapping_add(1);
}

fn reset(harness: &mut Harness, connection: &mut Connection, client_first: bool) {
    say(harness, connection, client_first, RST | ACK);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn every_state_is_reached_from_either_side(
    #[values(
        SynSent,
        SynReceived,
        Established,
        FinWait1,
        FinWait2,
        Closing,
        LastAck,
        TimeWait,
        Closed
    )]
    wanted: TcpState,
    #[values(true, false)] client_first: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    bring(&mut harness, wanted, client_first);
}

/// What is live keeps backend, port and state; what is over gives way.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_changes_no_live_flow_and_takes_the_place_of_one_that_is_over(
    #[values(
        SynSent,
        SynReceived,
        Established,
        FinWait1,
        FinWait2,
        Closing,
        LastAck,
        TimeWait,
        Closed
    )]
    before: TcpState,
    #[values(true, false)] client_first: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = bring(&mut harness, before, client_first);
    let flows = harness.snapshot();
    connection.request(&mut harness, &syn(CLIENT).seq(0x1234_5678));
    if matches!(before, Closing | LastAck | TimeWait | Closed) {
        assert_eq!(state(&harness, &connection), SynSent);
    } else {
        assert_eq!(harness.snapshot(), flows);
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_rst_where_it_is_expected_closes_in_every_state(
    #[values(SynReceived, Established, FinWait1, FinWait2, Closing, LastAck, TimeWait)]
    before: TcpState,
    #[values(true, false)] of_client: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = bring(&mut harness, before, true);
    say(&mut harness, &connection, of_client, RST);
    assert_eq!(state(&harness, &connection), Closed);
}

/// Forwarded, for the endpoint to judge (RFC 5961), but no state changes by it.
#[rstest]
#[case::rst_in_the_window(RST, 1000)]
#[case::rst_before_the_window(RST, 0xffff_f000)]
#[case::rst_far_away(RST, 0x8000_0000)]
#[case::rst_with_acknowledgement(RST | ACK, 77)]
#[case::fin_far_away(FIN | ACK, 0x4000_0000)]
#[case::fin_long_ago(FIN | ACK, 0xc000_0000)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_forged_end_changes_no_state(
    #[case] flags: u8,
    #[case] off: u32,
    #[values(Established, FinWait1, FinWait2)] before: TcpState,
    #[values(true, false)] of_client: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = bring(&mut harness, before, true);
    if of_client {
        let seq = connection.client_next.wrapping_add(off);
        connection.request(&mut harness, &connection.of_client(flags).seq(seq));
    } else {
        let seq = connection.backend_next.wrapping_add(off);
        connection.reply(&mut harness, &connection.of_backend(flags).seq(seq));
    }
    assert_eq!(state(&harness, &connection), before);
}

#[rstest]
#[case::without_data(0)]
#[case::with_one_byte(1)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_keepalive_is_answered_and_changes_no_state(
    #[case] bytes: usize,
    #[values(true, false)] of_client: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer");
    let (client, backend) = (connection.of_client(ACK), connection.of_backend(ACK));
    let data = &b"?"[..bytes];
    if of_client {
        let seq = connection.client_next.wrapping_sub(1);
        connection.request(&mut harness, &client.seq(seq).payload(data));
        connection.reply(&mut harness, &backend);
    } else {
        let seq = connection.backend_next.wrapping_sub(1);
        connection.reply(&mut harness, &backend.seq(seq).payload(data));
        connection.request(&mut harness, &client);
    }
    let (original, reply) = connection.halves(&harness);
    assert_eq!(
        (original.seq_end, reply.seq_end),
        (connection.client_next, connection.backend_next)
    );
    assert_eq!(state(&harness, &connection), Established);
}

/// RFC 9293 section 3.5, figure 8: nobody asks an apiserver for it, and it must not do harm.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_simultaneous_open_ends_established(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::syn(&mut harness, CLIENT);
    connection.reply(&mut harness, &connection.of_backend(SYN).seq(IRS).ack(0));
    assert_eq!(state(&harness, &connection), SynSent);
    let again = connection.client_next.wrapping_sub(1);
    connection.request(&mut harness, &connection.of_client(SYN | ACK).seq(again));
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(state(&harness, &connection), Established);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn late_segments_after_a_close_reach_their_end_and_change_nothing(
    #[values(true, false)] client_first: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = bring(&mut harness, TimeWait, client_first);
    for of_client in [true, false] {
        // The last FIN again, and data that was under way.
        let mut late = connection;
        late.client_next = late.client_next.wrapping_sub(1);
        late.backend_next = late.backend_next.wrapping_sub(1);
        say(&mut harness, &late, of_client, FIN | ACK);
        say(&mut harness, &late, of_client, PSH | ACK);
        say(&mut harness, &connection, of_client, ACK);
        assert_eq!(state(&harness, &connection), TimeWait);
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_half_closed_flow_goes_on_the_other_way(
    #[values(true, false)] client_first: bool,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = bring(&mut harness, FinWait2, client_first);
    for _ in 0..3 {
        if client_first {
            connection.reply(&mut harness, &connection.of_backend(ACK).payload(b"more"));
            connection.backend_next += 4;
        } else {
            connection.request(&mut harness, &connection.of_client(ACK).payload(b"more"));
            connection.client_next = connection.client_next.wrapping_add(4);
        }
        say(&mut harness, &connection, client_first, ACK);
        assert_eq!(state(&harness, &connection), FinWait2);
    }
    second_fin(&mut harness, &mut connection, client_first);
    ack_second(&mut harness, &mut connection, client_first);
    assert_eq!(state(&harness, &connection), TimeWait);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn another_client_is_nothing_to_a_flow_in_any_state(
    #[values(SynSent, SynReceived, Established, FinWait1, FinWait2, Closing, LastAck, TimeWait)]
    before: TcpState,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = bring(&mut harness, before, true);
    Connection::establish(&mut harness, OTHER_CLIENT).exchange(&mut harness, b"a", b"b");
    assert_eq!(state(&harness, &connection), before);
}
