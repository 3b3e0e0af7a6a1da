//! Which backend a new flow gets.

use std::net::SocketAddrV4;

use lb_common::selection::slot;

use lb_tests::family::Family::{self, V4, V6};
use rstest::rstest;

use crate::harness::{BACKENDS, CLIENT, Connection, Harness, SERVICE, flow_hash_of, key, syn};

fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*CLIENT.ip(), port)
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_table_decides(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let table = [3, 1, 1, 2, 3, 3, 1];
    harness.set_table(&table);
    for port in 40_000..40_100 {
        let connection = Connection::syn(&mut harness, client(port));
        let slot = slot(flow_hash_of(family, &key(client(port), SERVICE), 0), 7).unwrap();
        assert_eq!(connection.id, table[usize::try_from(slot).unwrap()]);
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn all_backends_have_their_share(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut counts = [0; 3];
    for port in 40_000..40_300 {
        let connection = Connection::syn(&mut harness, client(port));
        counts[usize::try_from(connection.id).unwrap() - 1] += 1;
    }
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_new_table_moves_new_flows_only(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut old = Connection::establish(&mut harness, CLIENT);
    let others: Vec<u32> = (1..=3).filter(|id| *id != old.id).collect();
    harness.set_table(&others);
    for port in 41_000..41_020 {
        assert_ne!(Connection::syn(&mut harness, client(port)).id, old.id);
    }
    old.exchange(&mut harness, b"question", b"answer");
    // It is the client's SYN that counts, not a copy of it on a live flow.
    old.request(&mut harness, &syn(CLIENT));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_backends_port_may_be_another_than_the_services(#[values(V4, V6)] family: Family) {
    let backend = SocketAddrV4::new(*BACKENDS[0].ip(), 16_443);
    let mut harness = Harness::with(family, &[backend]);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    assert_eq!(connection.backend, backend);
    connection.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_that_is_a_backend_is_served_by_itself_too(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    let client = SocketAddrV4::new(*BACKENDS[0].ip(), 40_000);
    let mut connection = Connection::establish(&mut harness, client);
    assert_eq!(connection.backend, BACKENDS[0]);
    assert_eq!(connection.snat.ip(), SERVICE.ip());
    connection.exchange(&mut harness, b"question", b"answer");
}
