//! What the program tells of confirmed flows, for a peer: each change once, and what found no room counted.

use fairlead::datapath::events::Turn;
use lb_common::conntrack::flag;
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, PSH, RST};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, OTHER_CLIENT, from_client, syn};

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_is_told_when_it_is_confirmed(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut told = harness.listen();
    let connection = Connection::syn(&mut harness, CLIENT);
    if mode != Kind::Dsr {
        connection.reply(&mut harness, &connection.syn_ack());
    }
    assert_eq!(told.changes(), []);
    connection.request(&mut harness, &connection.of_client(ACK));
    let record = told.put();
    harness.assert_is_of(&record, &connection);
    assert_eq!(record.original.seq_end, connection.client_next);
    assert_eq!(record.original.ack, connection.backend_next);
    assert_eq!(record.original.flags, flag::SYN);
    match record.reply {
        Some(reply) => {
            assert_eq!(
                (reply.seq_end, reply.ack),
                (connection.backend_next, connection.client_next)
            );
            assert_eq!(reply.flags, flag::SYN);
        }
        None => assert_eq!(mode, Kind::Dsr),
    }
    connection.request(&mut harness, &connection.of_client(ACK | PSH).payload(b"more"));
    assert_eq!(told.changes(), []);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn nothing_is_told_to_nobody(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    Connection::establish(&mut harness, CLIENT);
    let mut told = harness.listen();
    assert_eq!(told.changes(), []);
    Connection::establish(&mut harness, OTHER_CLIENT);
    told.put();
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn each_side_s_fin_is_told_once(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
    #[values(true, false)] client_first: bool,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut told = harness.listen();
    let mut closed = connection;
    for of_client in [client_first, !client_first] {
        for _ in 0..2 {
            if of_client {
                connection.request(&mut harness, &connection.of_client(FIN | ACK));
            } else {
                connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
            }
        }
        let end = if of_client { &mut closed.client_next } else { &mut closed.backend_next };
        *end = end.wrapping_add(1);
        let record = told.put();
        harness.assert_is_of(&record, &connection);
        let reply = record.reply.unwrap();
        let (sent, fin_end) = if of_client {
            (record.original, closed.client_next)
        } else {
            (reply, closed.backend_next)
        };
        let first = if of_client == client_first { flag::FIN_FIRST } else { 0 };
        assert_eq!(sent.flags, flag::SYN | flag::FIN | first);
        assert_eq!(sent.fin_end, fin_end);
        assert_eq!(record.is_over(), of_client != client_first);
    }
    closed.request(&mut harness, &closed.of_client(ACK));
    assert_eq!(told.changes(), []);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dsr_the_client_s_end_is_told(
    #[values(FIN | ACK, RST)] flags: u8,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut told = harness.listen();
    for _ in 0..2 {
        connection.request(&mut harness, &connection.of_client(flags));
    }
    let record = told.put();
    harness.assert_is_of(&record, &connection);
    assert!(record.is_over());
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_reset_is_told_and_that_it_was_none(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
    #[values(true, false)] of_client: bool,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut told = harness.listen();
    let say = |harness: &mut Harness, flags: u8| {
        if of_client {
            connection.request(harness, &connection.of_client(flags));
        } else {
            connection.reply(harness, &connection.of_backend(flags));
        }
    };
    say(&mut harness, RST | ACK);
    let record = told.put();
    harness.assert_is_of(&record, &connection);
    assert!(record.is_over());
    say(&mut harness, ACK);
    let record = told.put();
    assert!(!record.is_over());
    assert_eq!(record.reply.unwrap().flags | record.original.flags, flag::SYN);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_guess_is_told_once_it_is_confirmed(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut told = harness.listen();
    let first = from_client(CLIENT, ACK | PSH).seq(7000).ack(9000).payload(b"question");
    let mut connection = Connection::open_with(&mut harness, &first);
    connection.client_next = 7008;
    assert_eq!(told.changes(), []);
    if mode == Kind::Dsr {
        connection.request(&mut harness, &connection.of_client(ACK));
    } else {
        connection.reply(&mut harness, &connection.of_backend(ACK));
    }
    let record = told.put();
    harness.assert_is_of(&record, &connection);
    assert_eq!(record.original.flags, flag::SYN);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_s_next_connection_is_told_in_place_of_the_last(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let first = Connection::establish(&mut harness, CLIENT);
    first.request(&mut harness, &first.of_client(RST | ACK));
    let mut told = harness.listen();
    harness.set_table(&[if first.id == 1 { 2 } else { 1 }]);
    let second = Connection::establish(&mut harness, CLIENT);
    assert_ne!(second.backend, first.backend);
    harness.assert_is_of(&told.put(), &second);
}

/// The ring holds some 34,000.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_finds_no_room_is_counted(#[values(V4, V6)] family: Family) {
    const CHANGES: u64 = 40_000;
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut told = harness.listen();
    let [reset, none] =
        [RST | ACK, ACK].map(|flags| harness.local(&connection.of_client(flags)).bytes());
    for _ in 0..CHANGES / 2 {
        harness.run(&reset);
        harness.run(&none);
    }
    harness.forget_counts();
    let mut turns = vec![told.turn()];
    while turns.last().unwrap().more {
        turns.push(told.turn());
    }
    let lost: u64 = turns.iter().map(|turn| turn.lost).sum();
    assert!((1..CHANGES / 2).contains(&lost), "{lost} of {CHANGES}");
    assert_eq!(told.turn(), Turn::default());
    assert_eq!(harness.send(&syn(OTHER_CLIENT)).counter, "forward_request");
}
