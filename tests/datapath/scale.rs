//! Many flows of a peer's at once: kept, read, compared, removed. CI takes some; `FAIRLEAD_FLOWS=1000000` and
//! `--nocapture` show what a million cost.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use fairlead::datapath::records::Detail;
use fairlead::sync::record::{FlowId, FlowRecord, Progress};
use lb_common::conntrack::flag;
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, RST};
use rstest::rstest;

use crate::harness::{Harness, SERVICE, Setup, Sizes, from_client, local};

const BACKENDS: u32 = 32;
const FLOWS: u32 = 20_000;
/// Fewer than the ring has room for, and a turn takes.
const TOLD: u32 = 16_000;

fn backend(index: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0100 + index % BACKENDS), 6443)
}

fn client(index: u32) -> SocketAddrV4 {
    let port = u16::try_from(1024 + index % 50_000).unwrap();
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0a01_0000 + index / 50_000), port)
}

/// The `index`th flow: 50,000 of each client host, each backend's from SNAT ports of its own.
fn flow(family: Family, index: u32) -> FlowRecord {
    let port = u16::try_from(1024 + index / BACKENDS % 64_000).unwrap();
    let source = SocketAddrV4::new(*SERVICE.ip(), port);
    let at = |name: SocketAddrV4| -> SocketAddr { local(family, name) };
    let sent = |seq_end| Progress { seq_end, ack: index, fin_end: 0, flags: flag::SYN };
    FlowRecord {
        id: FlowId { client: at(client(index)), vip: at(SERVICE) },
        kind: Kind::Nat,
        source: at(source),
        backend: at(backend(index)),
        original: sent(index),
        reply: Some(sent(index + 1)),
    }
}

/// The `index`th client resets its connection.
fn reset(harness: &Harness, index: u32) -> Vec<u8> {
    let frame = from_client(client(index), RST | ACK).seq(index);
    harness.local(&frame).bytes()
}

/// Runs something, and says how long this thread was at work with it.
#[expect(clippy::print_stdout, reason = "figures, which are shown if asked for")]
fn cpu<T>(what: &str, run: impl FnOnce() -> T) -> T {
    use nix::time::{ClockId, clock_gettime};
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let before = now();
    let result = run();
    println!("{what}: {:?}", now() - before);
    result
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn many_flows_are_kept_read_and_removed(#[values(V4, V6)] family: Family) {
    let flows: u32 = env::var("FAIRLEAD_FLOWS").map_or(FLOWS, |flows| flows.parse().unwrap());
    let backends: Vec<SocketAddrV4> = (0..BACKENDS).map(backend).collect();
    // To the last one a table is full by chance only.
    let sizes = Sizes { established: 2 * flows + flows / 4, half_open: 4096 };
    let mut harness = Harness::build(&Setup { sizes, backends: &backends, ..Setup::new(family) });
    let records: Vec<FlowRecord> = (0..flows).map(|index| flow(family, index)).collect();
    let mut replica = harness.replica();
    for what in ["kept", "kept again"] {
        cpu(what, || {
            for record in &records {
                assert_eq!(replica.put(record), Ok(()));
            }
        });
    }
    let outlines = cpu("read for a digest", || harness.records(Detail::Outline));
    assert_eq!(outlines.len(), records.len());
    let read = cpu("read whole", || harness.records(Detail::Whole));
    assert!(records.iter().all(|record| read.get(&record.id) == Some(record)));
    let mut told = harness.listen();
    let resets: Vec<Vec<u8>> = (0..flows.min(TOLD)).map(|index| reset(&harness, index)).collect();
    cpu("reset", || resets.iter().for_each(|frame| drop(harness.run(frame))));
    let mut changes = vec![];
    cpu("told", || changes.extend(told.changes()));
    assert_eq!(changes.len(), resets.len());
    cpu("removed", || {
        for record in &records {
            assert!(replica.remove(&record.id));
        }
    });
    assert_eq!(harness.flows().0, 0);
    harness.forget_counts();
}
