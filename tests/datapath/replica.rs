//! Flows that a peer told of go on here: both directions, from wherever their streams are by now.

use fairlead::datapath::records::Detail;
use fairlead::sync::placement::Refusal;
use fairlead::sync::record::FlowRecord;
use lb_common::conntrack::{TcpState, flag};
use lb_common::lease::Lease;
use lb_common::link::{Mac, NextHop, Tags};
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, PSH, RST, SYN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, CLIENT_MAC, Connection, Harness, LINK, OTHER_CLIENT, Sizes, local,
};

/// How far the streams went after the peer told of the flow.
const SINCE: u32 = 3_000_000_000;

/// A connection whose node is gone: this one knows of it by name, and not how far it is.
fn taken_over(family: Family, mode: Kind) -> (Harness, Connection) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.take_over();
    connection.client_next = connection.client_next.wrapping_add(SINCE);
    connection.backend_next = connection.backend_next.wrapping_add(SINCE);
    (harness, connection)
}

/// The kernel knows the client.
fn know_client(harness: &mut Harness) {
    harness.add_route([10, 0, 0, 0].into(), 24, [0; 4].into(), LINK);
    let next_hop = NextHop { link: LINK, mac: Mac(CLIENT_MAC), tags: Tags::default() };
    harness.add_neighbour(*CLIENT.ip(), next_hop);
}

fn state(harness: &Harness, connection: &Connection) -> TcpState {
    if connection.kind == Kind::Dsr {
        return TcpState::of_original(&connection.original(harness));
    }
    let (original, reply) = connection.halves(harness);
    TcpState::of(&original, &reply)
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_client_s_next_segment_goes_on(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let (mut harness, mut connection) = taken_over(family, mode);
    connection.exchange(&mut harness, b"question", b"answer");
    let original = connection.original(&harness);
    assert!(!original.has(flag::REPLICA));
    assert_eq!(original.seq_end, connection.client_next);
    assert_eq!(original.ack, connection.backend_next);
    assert_eq!(state(&harness, &connection), TcpState::Established);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_backend_s_next_segment_goes_on(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let (mut harness, mut connection) = taken_over(family, mode);
    know_client(&mut harness);
    let event = connection.of_backend(ACK | PSH).payload(b"event");
    connection.reply(&mut harness, &event);
    connection.backend_next = connection.backend_next.wrapping_add(5);
    let (_, reply) = connection.halves(&harness);
    assert!(!reply.has(flag::REPLICA));
    assert_eq!((reply.seq_end, reply.ack), (connection.backend_next, connection.client_next));
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn without_a_way_to_the_client_nothing_is_sent_anywhere(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let (mut harness, connection) = taken_over(family, mode);
    for flags in [ACK | PSH, FIN | ACK, RST | ACK, SYN | ACK] {
        harness.expect(&connection.of_backend(flags), "drop_no_next_hop");
    }
    // The client's own frame tells the way, and what the backend sends again arrives.
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.reply(&mut harness, &connection.of_backend(ACK | PSH).payload(b"event"));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_is_sent_again_goes_on(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let (mut harness, mut connection) = taken_over(family, mode);
    let earlier = connection.client_next.wrapping_sub(8);
    connection
        .request(&mut harness, &connection.of_client(ACK | PSH).seq(earlier).payload(b"question"));
    assert_eq!(connection.original(&harness).seq_end, connection.client_next);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn both_close(
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(V4, V6)] family: Family,
    #[values(true, false)] client_first: bool,
) {
    let (mut harness, mut connection) = taken_over(family, mode);
    know_client(&mut harness);
    for of_client in [client_first, !client_first] {
        if of_client {
            connection.request(&mut harness, &connection.of_client(FIN | ACK));
            connection.client_next = connection.client_next.wrapping_add(1);
        } else {
            connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
            connection.backend_next = connection.backend_next.wrapping_add(1);
        }
    }
    if client_first {
        connection.request(&mut harness, &connection.of_client(ACK));
    } else {
        connection.reply(&mut harness, &connection.of_backend(ACK));
    }
    assert_eq!(state(&harness, &connection), TcpState::TimeWait);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dsr_the_client_closes(#[values(V4, V6)] family: Family) {
    let (mut harness, connection) = taken_over(family, Kind::Dsr);
    connection.request(&mut harness, &connection.of_client(FIN | ACK));
    assert_eq!(state(&harness, &connection), TcpState::Closing);
}

/// A RST alone does not say where the connection is: near what was told of it, it counts.
#[rstest]
#[case::where_it_was(0, TcpState::Closed)]
#[case::a_little_later(100_000, TcpState::Closed)]
#[case::anywhere(SINCE, TcpState::Established)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_reset_counts_near_what_was_told(
    #[case] later: u32,
    #[case] expected: TcpState,
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let (mut harness, connection) = taken_over(family, mode);
    let told = connection.client_next.wrapping_sub(SINCE);
    let reset = connection.of_client(RST | ACK).seq(told.wrapping_add(later));
    connection.request(&mut harness, &reset);
    assert_eq!(state(&harness, &connection), expected);
    // From the next segment on it is exact.
    connection.request(&mut harness, &connection.of_client(ACK));
    let near = told.wrapping_add(100_000);
    connection.request(&mut harness, &connection.of_client(RST | ACK).seq(near));
    assert_eq!(state(&harness, &connection), TcpState::Established);
    connection.request(&mut harness, &connection.of_client(RST | ACK));
    assert_eq!(state(&harness, &connection), TcpState::Closed);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_changes_nothing(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let (mut harness, mut connection) = taken_over(family, mode);
    let before = harness.snapshot();
    connection.request(&mut harness, &connection.of_client(SYN).ack(0));
    assert_eq!(harness.snapshot(), before);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_backend_that_was_given_up_since_is_no_way_on(#[values(V4, V6)] family: Family) {
    let (mut harness, connection) = taken_over(family, Kind::Nat);
    harness.change_backend(connection.id, |backend| backend.epoch += 1);
    let outcome = harness.send(&connection.of_client(ACK));
    assert_eq!(outcome.counter, "reset_backend_down");
    assert_eq!(outcome.frame().segment().unwrap().seq, connection.backend_next);
}

/// What a digest is made of says the same as what is sent, but for the backend's progress.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_outline_names_the_same_flow(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let closed = Connection::establish(&mut harness, OTHER_CLIENT);
    closed.request(&mut harness, &closed.of_client(RST | ACK));
    let (outlines, records) = (harness.records(Detail::Outline), harness.records(Detail::Whole));
    assert_eq!(outlines.len(), 2);
    for (id, record) in &records {
        let outline = &outlines[id];
        assert_eq!((outline.kind, outline.source), (record.kind, record.source));
        assert_eq!((outline.backend, outline.is_over()), (record.backend, record.is_over()));
        assert_eq!(record.is_over(), *id == harness.id_of(OTHER_CLIENT));
    }
    harness.assert_is_of(&records[&harness.id_of(CLIENT)], &connection);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_a_peer_serves_is_put_and_removed_as_it_says(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let id = harness.id_of(CLIENT);
    let record = harness.records(Detail::Whole)[&id];
    harness.set_lease(0, Lease::EXPIRED);
    let mut replica = harness.replica();
    // In place of what this node knows from before.
    assert_eq!(replica.put(&record), Ok(()));
    assert!(connection.original(&harness).has(flag::REPLICA));
    // It goes another way by now.
    let other = BACKENDS.into_iter().find(|backend| *backend != connection.backend).unwrap();
    let moved = FlowRecord { backend: local(family, other), ..record };
    assert_eq!(replica.put(&moved), Ok(()));
    assert_eq!(harness.records(Detail::Whole)[&id], moved);
    assert_eq!(harness.flows().0, if mode == Kind::Dsr { 1 } else { 2 });
    assert!(replica.remove(&id));
    assert!(!replica.remove(&id));
    assert_eq!(harness.flows().0, 0);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn another_flow_with_its_port_gives_way_where_the_peer_serves(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    Connection::establish(&mut harness, CLIENT);
    let (id, other) = (harness.id_of(CLIENT), harness.id_of(OTHER_CLIENT));
    let record = harness.records(Detail::Whole)[&id];
    let later = FlowRecord { id: other, ..record };
    let mut replica = harness.replica();
    assert_eq!(replica.put(&later), Err(Refusal::PortTaken));
    assert_eq!(harness.records(Detail::Whole).keys().collect::<Vec<_>>(), [&id]);
    harness.set_lease(0, Lease::EXPIRED);
    let mut replica = harness.replica();
    assert_eq!(replica.put(&later), Ok(()));
    assert_eq!(harness.records(Detail::Whole).keys().collect::<Vec<_>>(), [&other]);
    assert_eq!(harness.flows().0, 2);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_this_node_serves_is_its_own(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::of(family, mode);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    let id = harness.id_of(CLIENT);
    let record = harness.records(Detail::Whole)[&id];
    let before = harness.snapshot();
    let mut replica = harness.replica();
    assert_eq!(replica.put(&record), Err(Refusal::Own));
    assert!(!replica.remove(&id));
    assert_eq!(harness.snapshot(), before);
    connection.exchange(&mut harness, b"question", b"answer");
    // What nobody has is taken, also just after a take-over.
    harness.forget_all();
    assert_eq!(replica.put(&record), Ok(()));
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_full_table_refuses_whole_flows(#[values(V4, V6)] family: Family) {
    let sizes = Sizes { established: 2, half_open: 2 };
    let mut harness = Harness::sized(family, sizes);
    let connection = Connection::establish(&mut harness, CLIENT);
    let own = [connection.original_key(), connection.reply_key()];
    let record = harness.records(Detail::Whole)[&harness.id_of(CLIENT)];
    harness.crowd(&connection.original_key());
    let mut other = record;
    other.id = harness.id_of(OTHER_CLIENT);
    other.source.set_port(connection.snat.port() ^ 1);
    let mut replica = harness.replica();
    let mut refused = 0;
    for (filler, _) in harness.snapshot().iter().filter(|(id, _)| !own.contains(id)) {
        let before = harness.flows().0;
        match replica.put(&other) {
            Ok(()) => {
                assert_eq!(harness.flows().0, before + 2);
                break;
            }
            Err(refusal) => assert_eq!((refusal, harness.flows().0), (Refusal::NoRoom, before)),
        }
        refused += 1;
        harness.forget(filler);
    }
    // Also when there was room for one half.
    assert!(refused >= 2);
    assert!(harness.records(Detail::Whole).contains_key(&other.id));
}
