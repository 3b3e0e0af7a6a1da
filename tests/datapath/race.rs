//! What two CPUs do to one flow at the same moment.
//!
//! Each race is run many times, both sides starting from a barrier that spins; afterwards the halves
//! that are left must belong together.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lb_common::conntrack::flag;
use lb_common::nat::Kind;
use lb_tests::bpf;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rstest::rstest;

use crate::harness::{BACKENDS, Connection, Harness, key, peer_key, syn};

const ROUNDS: u16 = 1500;
/// Of races that each take a handshake first.
const FEWER: u16 = 300;
const TX: u32 = 3;
const DROP: u32 = 1;

fn client(round: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 20_000 + round)
}

/// Runs one frame on each of two CPUs, at the same moment as near as can be.
fn at_once(harness: &Harness, frames: [&Frame; 2]) -> [u32; 2] {
    let bytes = frames.map(|frame| harness.local(frame).bytes());
    let ready = AtomicUsize::new(0);
    let program = harness.program();
    let run = |cpu: usize| run_on(cpu, &ready, program, &bytes[cpu]);
    thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        [run(0), other.join().unwrap()]
    })
}

fn run_on(cpu: usize, ready: &AtomicUsize, program: BorrowedFd<'_>, frame: &[u8]) -> u32 {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    let mut out = [0; 256];
    ready.fetch_add(1, Ordering::SeqCst);
    while ready.load(Ordering::SeqCst) < 2 {
        std::hint::spin_loop();
    }
    bpf::run(program, frame, &mut out).unwrap().action
}

/// Every reply half answers an original half that says so.
fn assert_no_reply_half_is_alone(harness: &Harness) {
    for (id, found) in harness.snapshot() {
        if found.is_original() {
            continue;
        }
        let original = harness.half(&peer_key(&found)).unwrap_or_else(|| panic!("{id:?} alone"));
        assert_eq!(peer_key(&original), id, "of another flow");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn one_client_s_syn_twice_makes_one_flow(
    #[values(V4, V6)] family: Family,
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
) {
    let harness = Harness::of(family, mode);
    for round in 0..ROUNDS {
        let first = syn(client(round));
        let actions = at_once(&harness, [&first, &first]);
        assert!(actions.contains(&TX), "{actions:?}");
        // The one that came a moment too late is sent again by its client.
        assert!(actions.iter().all(|action| [TX, DROP].contains(action)), "{actions:?}");
    }
    assert_no_reply_half_is_alone(&harness);
    let halves = if mode == Kind::Dsr { 1 } else { 2 };
    assert_eq!(harness.flows(), (0, halves * usize::from(ROUNDS)));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn two_clients_do_not_share_a_port(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    harness.change_service(|service| {
        service.snat_port_min = 30_000;
        service.snat_port_max = 30_000;
    });
    for round in 0..FEWER {
        let [one, other] = [client(2 * round), client(2 * round + 1)].map(syn);
        at_once(&harness, [&one, &other]);
        let replies: Vec<_> =
            harness.snapshot().into_iter().filter(|(_, half)| !half.has(flag::ORIGINAL)).collect();
        let [(id, reply)] = &replies[..] else { panic!("{replies:?}") };
        let original = harness.half(&peer_key(reply)).expect("the reply half's own flow");
        assert_eq!(peer_key(&original), *id);
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_is_promoted_while_its_backend_speaks(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    for round in 0..FEWER {
        let connection = Connection::syn(&mut harness, client(round));
        connection.reply(&mut harness, &connection.syn_ack());
        let [ack, data] = [connection.of_client(ACK), connection.of_backend(ACK).payload(b"hi")];
        assert_eq!(at_once(&harness, [&ack, &data]), [TX, TX]);
        harness.forget_counts();
        let (original, reply) = connection.halves(&harness);
        assert!(original.has(flag::CONFIRMED) && reply.has(flag::CONFIRMED));
        connection.request(&mut harness, &connection.of_client(ACK).payload(b"question"));
        connection.reply(&mut harness, &connection.of_backend(ACK).payload(b"answer"));
    }
    assert_no_reply_half_is_alone(&harness);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn both_ends_close_at_once(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    for round in 0..FEWER {
        let connection = Connection::establish(&mut harness, client(round));
        let fins = [connection.of_client(FIN | ACK), connection.of_backend(FIN | ACK)];
        assert_eq!(at_once(&harness, [&fins[0], &fins[1]]), [TX, TX]);
        harness.forget_counts();
        let (original, reply) = connection.halves(&harness);
        assert!(original.has(flag::FIN) && reply.has(flag::FIN), "a FIN was forgotten");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_closed_flow_is_renewed_once(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut ports = BTreeSet::new();
    for round in 0..FEWER {
        let client = client(round);
        let connection = Connection::establish(&mut harness, client);
        connection.reply(&mut harness, &connection.of_backend(FIN | ACK));
        connection.request(&mut harness, &connection.of_client(FIN | ACK));
        let again = syn(client);
        let actions = at_once(&harness, [&again, &again]);
        assert!(actions.contains(&TX), "{actions:?}");
        harness.forget_counts();
        let original = harness.half_open(&key(client, crate::harness::SERVICE)).expect("renewed");
        let reply = harness.half_open(&peer_key(&original)).expect("its reply half");
        assert_eq!(peer_key(&reply), key(client, crate::harness::SERVICE));
        ports.insert((original.translation.src, original.translation.ports));
        harness.forget(&key(client, crate::harness::SERVICE));
        harness.forget(&peer_key(&original));
    }
    assert!(!ports.is_empty());
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_syn_ack_that_is_sent_again_meets_the_acknowledgement(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    for round in 0..FEWER {
        let connection = Connection::syn(&mut harness, client(round));
        connection.reply(&mut harness, &connection.syn_ack());
        let [ack, again] = [connection.of_client(ACK), connection.syn_ack()];
        assert_eq!(at_once(&harness, [&ack, &again]), [TX, TX]);
        harness.forget_counts();
        let (original, reply) = connection.halves(&harness);
        assert_eq!((original.fin_end, reply.fin_end), (0, 0));
    }
}
