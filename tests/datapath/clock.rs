//! The program's clock, which counts the kernel's timer ticks.

use std::time::Duration;

use fairlead::datapath::clock::Clock;
use lb_common::time::Ticks;
use lb_tests::family::Family::{self, V4, V6};
use nix::time::{ClockId, clock_gettime};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness};

/// A timer tick of a kernel of 100 Hz, and a flow's.
const GRAIN: u32 = Ticks::in_ns(10_000_000) + 1;

fn now() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    u64::try_from(now.as_nanos()).unwrap()
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_kernels_ticks_can_be_read_here() {
    assert_ne!(Clock::measure(), Clock::ASK);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn flows_are_stamped_by_the_monotonic_clock(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(7));
        let before = Ticks::from_ns(now());
        connection.reply(&mut harness, &connection.syn_ack());
        let after = Ticks::from_ns(now());
        let (_, reply) = connection.half_open(&harness);
        let (late, early) = (before.since(reply.last_seen), reply.last_seen.since(after));
        assert!(late <= GRAIN && early <= GRAIN, "{late} late, {early} early");
    }
}
