//! How long backends take to answer a SYN.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_common::connect::{ConnectTimes, bucket};
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::ACK;
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, syn};

/// Shorter than what sends a SYN to another backend.
const PAUSE: Duration = Duration::from_millis(20);

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_first_syn_ack_counts_from_the_syn_that_made_the_flow(
    #[values(V4, V6)] family: Family,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
) {
    let mut harness = Harness::of(family, mode);
    let start = now();
    let connection = Connection::syn(&mut harness, CLIENT);
    sleep(PAUSE);
    // Sent again, it does not begin anew.
    connection.request(&mut harness, &syn(CLIENT));
    connection.reply(&mut harness, &connection.syn_ack());
    let took = start.elapsed();
    let times = harness.connect_times(connection.id);
    let sum = Duration::from_micros(times.sum_us);
    assert!(sum >= PAUSE && sum <= took, "{sum:?} of {took:?}");
    assert_eq!(count(&times), 1);
    assert_eq!(times.buckets[bucket(u32::try_from(times.sum_us).unwrap())], 1);

    // Neither one that is sent again, nor one for an established flow.
    connection.reply(&mut harness, &connection.syn_ack());
    connection.request(&mut harness, &connection.of_client(ACK));
    connection.reply(&mut harness, &connection.syn_ack());
    assert_eq!(harness.connect_times(connection.id), times);
    let (original, reply) = connection.halves(&harness);
    assert_eq!((original.fin_end, reply.fin_end), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn each_backend_that_is_tried_has_its_own_time(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let first = Connection::syn(&mut harness, CLIENT);
    sleep(PAUSE);
    harness.age(&first.original_key(), 900_000_000);
    let start = now();
    let second = Connection::syn(&mut harness, CLIENT);
    assert_ne!(second.id, first.id);
    second.reply(&mut harness, &second.syn_ack());
    let took = start.elapsed();
    assert_eq!(count(&harness.connect_times(first.id)), 0);
    let times = harness.connect_times(second.id);
    assert_eq!(count(&times), 1);
    assert!(Duration::from_micros(times.sum_us) <= took, "{times:?} of {took:?}");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_begins_in_mid_stream_is_not_measured(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let first = crate::harness::from_client(CLIENT, ACK);
    let connection = Connection::open_with(&mut harness, &first);
    assert_eq!(connection.half_open(&harness).1.fin_end, 0);
    harness.send(&connection.syn_ack());
    assert_eq!(count(&harness.connect_times(connection.id)), 0);
}

/// The clock costs something each time: of very many connections a sample is timed.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn beyond_the_rate_nobody_is_measured(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.time_from(u64::MAX / 2);
    let first = Connection::syn(&mut harness, CLIENT);
    assert_eq!(first.half_open(&harness).1.fin_end, 0);
    first.reply(&mut harness, &first.syn_ack());
    assert_eq!(count(&harness.connect_times(first.id)), 0);

    harness.time_from(0);
    let other = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + 1);
    let second = Connection::syn(&mut harness, other);
    second.reply(&mut harness, &second.syn_ack());
    assert_eq!(count(&harness.connect_times(second.id)), 1);
}

fn count(times: &ConnectTimes) -> u64 {
    times.buckets.iter().sum()
}

#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn now() -> Instant {
    Instant::now()
}
