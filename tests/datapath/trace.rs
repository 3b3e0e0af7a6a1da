//! What the controller says of a SYN is what the program does with it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use fairlead::control::trace::{Fate, Outcome};
use lb_common::nat::Kind;
use lb_common::rate::RateLimit;
use lb_common::service::{SnatAddress, flag};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, RST};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rstest::rstest;

use crate::harness::{BACKENDS, CLIENT, Connection, Harness, SERVICE, local, syn};

const SYNS: u32 = 600;
const SECOND: u64 = 1_000_000_000;

/// A number less than `limit`.
fn below(rng: &mut TestRng, limit: u32) -> u32 {
    rng.next_u32() % limit
}

/// 60 clients, of which one host is a backend, so that many come again.
fn client(rng: &mut TestRng) -> SocketAddrV4 {
    let host = [2, 3, 11][below(rng, 3) as usize];
    let port = 40_000 + u16::try_from(below(rng, 20)).unwrap();
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
}

/// What steps say where something special happens.
const SPECIAL: [&str; 8] = [
    "it stays there",
    "a SYN starts anew",
    "does not answer: another is tried",
    "refused: another is tried",
    "given up since",
    "free again",
    "the client's first choice",
    ", choice ",
];

/// Asks the controller, then the program.
#[track_caller]
fn agreed(harness: &mut Harness, client: SocketAddrV4) -> Option<Connection> {
    agreed_noting(harness, client, &mut BTreeSet::new())
}

#[track_caller]
fn agreed_noting(
    harness: &mut Harness,
    client: SocketAddrV4,
    met: &mut BTreeSet<&str>,
) -> Option<Connection> {
    let Outcome { fate, steps, .. } = harness.traced(client);
    let said = |what: &&&str| steps.iter().any(|step| step.detail.contains(**what));
    met.extend(SPECIAL.iter().filter(said));
    let sent = syn(client);
    let seen = harness.send(&sent);
    let why = format!("{client}: {steps:#?}, but {}", seen.counter);
    let chosen = match fate {
        Fate::Forward(chosen) => chosen,
        Fate::Reset(counter) | Fate::Drop(counter) | Fate::Pass(counter) => {
            assert_eq!(seen.counter, counter.name(), "{why}");
            return None;
        }
        Fate::ByPort => panic!("{why}"),
    };
    assert_eq!(seen.counter, "forward_request", "{why}");
    let out = seen.frame();
    let [.., id] = out.eth_dst;
    assert_eq!(u32::from(id), chosen.backend, "{why}");
    assert_eq!(out.source(), chosen.source, "{why}");
    let name = BACKENDS[usize::from(id) - 1];
    assert_eq!(chosen.endpoint, local(harness.family, name), "{why}");
    let connection = Connection::found(harness, &sent, &out, id.into());
    assert_eq!(chosen.kind, Some(connection.kind), "{why}");
    Some(connection)
}

/// Lets a connection go on as chance will have it: so far, or to its end, or for a while.
fn live(harness: &mut Harness, connection: &Connection, rng: &mut TestRng) {
    let is_seen = connection.kind != Kind::Dsr;
    let age = [0, SECOND, 3 * SECOND, 61 * SECOND, 86_401 * SECOND][below(rng, 5) as usize];
    let keys = [connection.original_key(), connection.reply_key()];
    let step = below(rng, 4);
    if step == 1 && is_seen {
        harness.send(&connection.of_backend(RST | ACK).seq(0));
    }
    if step > 1 && harness.half_open(&keys[0]).is_some() {
        if is_seen {
            harness.send(&connection.syn_ack());
        }
        harness.send(&connection.of_client(ACK));
        let end = below(rng, 4);
        if end == 1 {
            harness.send(&connection.of_client(FIN | ACK));
        }
        if is_seen && (end == 1 || end == 2) {
            harness.send(&connection.of_backend(FIN | ACK));
            harness.send(&connection.of_client(FIN | ACK).ack(connection.backend_next + 1));
        }
        if end == 3 {
            harness.send(&connection.of_client(RST));
        }
    }
    for key in &keys[..if is_seen { 2 } else { 1 }] {
        if harness.half(key).is_some() {
            harness.age(key, age);
        }
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_controller_foretells_where_a_syn_goes(
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut harness = Harness::of(family, mode);
    if mode != Kind::Dsr {
        let address = harness.ip(Ipv4Addr::new(10, 0, 0, 101));
        // Few ports, so that clients meet at them.
        harness.change_service(|service| {
            service.snat[1] = SnatAddress { address, ..SnatAddress::default() };
            service.snat_count = 2;
            service.snat_port_max = service.snat_port_min + 15;
        });
    }
    let mut met = BTreeSet::new();
    for round in 0..SYNS {
        if round % 50 == 0 {
            let length = 1 + below(&mut rng, 30);
            let table: Vec<u32> = (0..length).map(|_| 1 + below(&mut rng, 3)).collect();
            harness.set_table(&table);
        }
        if round % 70 == 69 {
            let id = 1 + below(&mut rng, 3);
            harness.change_backend(id, |backend| backend.epoch += 1);
        }
        let client = client(&mut rng);
        if let Some(connection) = agreed_noting(&mut harness, client, &mut met) {
            live(&mut harness, &connection, &mut rng);
        }
    }
    // In `dsr` nobody knows that a backend does not answer, and no port is needed.
    let expected = if mode == Kind::Dsr { &SPECIAL[..2] } else { &SPECIAL[..] };
    assert!(expected.iter().all(|what| met.contains(what)), "met {met:?} only");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_controller_foretells_refusals(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let client = |host, port| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port);
    harness.change_service(|service| {
        service.flags = flag::RESTRICTED;
        service.rate = RateLimit { interval: u32::MAX, burst: 3 };
    });
    harness.allow(*CLIENT.ip(), 32);
    for port in 1..=5 {
        let answers = [2, 3].map(|host| agreed(&mut harness, client(host, port)).is_some());
        assert_eq!(answers, [port <= 3, false]);
    }
    harness.change_service(|service| (service.flags, service.rate) = (0, RateLimit::NONE));
    harness.set_table(&[]);
    assert!(agreed(&mut harness, client(2, 9)).is_none());
    harness.set_lease(0, lb_common::lease::Lease::EXPIRED);
    assert!(agreed(&mut harness, client(2, 10)).is_none());
    assert!(agreed(&mut harness, client(2, 1)).is_none());
    assert_eq!(harness.traced(SERVICE).flow, None);
}
