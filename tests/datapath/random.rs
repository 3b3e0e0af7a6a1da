//! Frames that nobody thought of.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use lb_common::counters::Counter;
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{
    ACK, DESTINATION, ETH_LEN, Extension, FIN, Frame, HOP_BY_HOP, IPV4, IPV6, PSH, RST, Report,
    SYN, URG, VLAN,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rstest::rstest;

use crate::harness::{
    Action, BACKENDS, CLIENT, Connection, Harness, LB_MAC, SERVICE, backend_mac, from_client,
    local, local_frame, name_of, syn,
};

fn words(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<[u8; 4]>(), 0..=most).prop_map(|words| words.concat())
}

/// A segment in mid-flow with any contents.
fn contents() -> impl Strategy<Value = Frame> {
    let ip = (any::<u8>(), any::<u16>(), 2..=255u8, words(10), any::<bool>());
    let flags = prop_oneof![Just(ACK), Just(ACK | PSH), Just(ACK | URG), Just(ACK | 0xc0)];
    let tcp = (any::<u32>(), any::<u32>(), flags, any::<u16>(), any::<u16>(), words(10));
    let payload = proptest::collection::vec(any::<u8>(), 0..1400);
    (ip, tcp, payload, proptest::collection::vec(any::<u8>(), 0..8)).prop_map(
        |((tos, id, ttl, ip_options, may_fragment), tcp, payload, padding)| {
            let (seq, ack, flags, window, urgent, options) = tcp;
            from_client(CLIENT, flags)
                .tos(tos)
                .id(id)
                .ttl(ttl)
                .frags(if may_fragment { 0 } else { 0x4000 })
                .ip_options(&ip_options)
                .seq(seq)
                .ack(ack)
                .window(window)
                .urgent(urgent)
                .options(&options)
                .payload(&payload)
                .padding(&padding)
        },
    )
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// An echo server that copies all fields: what comes back is what was sent.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn there_and_back_all_but_ttl_macs_and_checksums_is_the_same(#[values(V4, V6)] family: Family) {
    let harness = std::cell::RefCell::new(Harness::new(family));
    let client = (any::<u32>(), 1..=65_535u16)
        .prop_map(|(bits, port)| SocketAddrV4::new(Ipv4Addr::from_bits(bits), port));
    let strategy = (client, contents());
    let result = runner(500).run(&strategy, |(client, contents)| {
        let harness = &mut *harness.borrow_mut();
        let sent = contents.from(client);
        let connection = Connection::open_with(harness, &sent.clone().flags(ACK));
        let there = connection.forwarded(&sent);
        let echo = there.from(connection.backend).to(connection.snat);
        // It must fit the client's window, to confirm the guess.
        let tcp = sent.segment().unwrap();
        let next = tcp.seq.wrapping_add(u32::try_from(tcp.payload.len()).unwrap());
        let echo = echo.macs(backend_mac(connection.id), LB_MAC);
        let echo = echo.seq(tcp.ack).ack(next).flags(ACK).ttl(64);
        let outcome = harness.send(&echo);
        prop_assert_eq!(outcome.counter, "forward_reply");
        let back = outcome.frame();
        let ends = [back.source(), back.destination()].map(name_of);
        prop_assert_eq!(ends, [SERVICE, client]);
        let restored = back
            .macs(sent.eth_src, sent.eth_dst)
            .from(local(family, client))
            .to(local(family, SERVICE))
            .ttl(sent.ttl)
            .seq(tcp.seq)
            .ack(tcp.ack)
            .flags(tcp.flags);
        prop_assert_eq!(restored, harness.local(&sent));
        Ok(())
    });
    result.unwrap();
}

/// Frames that reach every stage, for their bytes to be changed.
fn seeds(harness: &Harness, connection: &Connection) -> Vec<Vec<u8>> {
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), 6443);
    [
        syn(CLIENT),
        syn(CLIENT).ip_options(&[1; 12]),
        syn(CLIENT).to(elsewhere),
        syn(CLIENT).tag(VLAN, 5),
        syn(CLIENT).ether_type(IPV6),
        syn(CLIENT).ttl(1),
        syn(CLIENT).frags(0x2000),
        from_client(CLIENT, ACK | PSH).payload(b"data"),
        from_client(CLIENT, FIN | ACK),
        connection.of_client(ACK).payload(&[7; 300]),
        connection.of_client(RST),
        connection.of_backend(ACK).payload(&[7; 300]),
        connection.of_backend(FIN | ACK),
        connection.of_backend(SYN | ACK).from(BACKENDS[0]),
        Frame::udp(CLIENT, SERVICE, b"question"),
        Frame::echo(*CLIENT.ip(), *SERVICE.ip()),
    ]
    .iter()
    .chain(&errors(harness, connection))
    .chain(&extended(connection))
    .map(|frame| harness.local(frame).bytes())
    .collect()
}

/// ICMP errors about both directions, with long and short quotes.
fn errors(harness: &Harness, connection: &Connection) -> Vec<Frame> {
    let about = [
        connection.forwarded(&connection.of_client(ACK).payload(&[7; 60])),
        connection.returned(&connection.of_backend(ACK).payload(&[7; 60])),
    ];
    let [router, vip] = [CLIENT, SERVICE].map(|name| local(harness.family, name).ip());
    let quotes = about.iter().map(|frame| harness.local(frame).packet());
    quotes
        .flat_map(|quote| [quote[..harness.family.pick(28, 48)].to_vec(), quote])
        .map(|quote| Frame::error(router, vip, Report::TooBig(1400), &quote))
        .collect()
}

/// Segments behind IPv6 extension headers; in IPv4 they are as any other.
fn extended(connection: &Connection) -> Vec<Frame> {
    let chains = [
        vec![Extension::padding(HOP_BY_HOP, 1)],
        vec![Extension::padding(DESTINATION, 9), Extension::routing(4, 0)],
        vec![Extension::padding(DESTINATION, 1); 7],
    ];
    let frame = local_frame(V6, &connection.of_client(ACK).payload(b"data"));
    let extend = |chain: Vec<_>| chain.into_iter().fold(frame.clone(), Frame::extension);
    chains.into_iter().map(extend).collect()
}

/// A number less than `limit`.
fn below(rng: &mut TestRng, limit: usize) -> usize {
    usize::try_from(rng.next_u32()).unwrap() % limit
}

fn mutate(rng: &mut TestRng, frame: &mut Vec<u8>) {
    for _ in 0..=below(rng, 4) {
        // Mostly the headers.
        let range = if below(rng, 10) != 0 { frame.len().min(74) } else { frame.len() };
        let at = below(rng, range);
        frame[at] = if below(rng, 2) == 0 {
            rng.next_u32().to_le_bytes()[0]
        } else {
            frame[at] ^ 1 << (at % 8)
        };
    }
    if below(rng, 5) == 0 {
        frame.truncate(14 + below(rng, frame.len() - 13));
    } else if below(rng, 10) == 0 {
        let more = 1 + below(rng, 59);
        frame.resize(frame.len() + more, 0xee);
    }
}

/// How many frames, if not a million.
const FRAMES_VARIABLE: &str = "FAIRLEAD_FUZZ_FRAMES";
/// Frames between two looks at the counters.
const CHUNK: u64 = 1000;
/// Bytes that the program may add to a frame: the headers of an ICMPv6 error.
const MAY_ADD: usize = 48;

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_million_mutated_frames(
    #[values(Kind::Nat, Kind::Dsr)] mode: Kind,
    #[values(V4, V6)] family: Family,
) {
    let frames = env::var(FRAMES_VARIABLE).map_or(1_000_000, |text| text.parse().unwrap());
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    let seeds = seeds(&harness, &connection);
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let start = Counted::of(&harness);
    let mut counted = start;
    for done in (0..frames).step_by(CHUNK.try_into().unwrap()) {
        let mut ran = Counted::default();
        for _ in 0..CHUNK.min(frames - done) {
            let mut frame = seeds[below(&mut rng, seeds.len())].clone();
            mutate(&mut rng, &mut frame);
            ran.add(check(&harness, &frame));
        }
        let after = Counted::of(&harness);
        assert_eq!(after.since(&counted), ran, "after {done} frames");
        counted = after;
    }
    let all = counted.since(&start);
    assert!(all.passed > 0 && all.dropped > 0 && all.sent > 0, "{all:?}");
}

/// Runs a frame; what no frame may do, this does not.
fn check(harness: &Harness, frame: &[u8]) -> Action {
    let (action, out) = harness.run(frame);
    let to_vip = is_to_vip(harness.family, frame);
    assert!(out.len() <= frame.len() + MAY_ADD, "{frame:02x?} grew to {out:02x?}");
    if !to_vip {
        assert_eq!(action, Action::Pass, "{frame:02x?}");
    }
    if action == Action::Pass || action == Action::Drop {
        assert_eq!(out, frame);
    }
    action
}

/// Frames by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    passed: u64,
    dropped: u64,
    /// Forwarded, or answered.
    sent: u64,
}

impl Counted {
    /// By the program's own counters.
    fn of(harness: &Harness) -> Self {
        let mut counted = Self::default();
        for (counter, count) in Counter::ALL.iter().zip(harness.counters()) {
            match counter.name().split_once('_').unwrap().0 {
                "pass" => counted.passed += count,
                "drop" => counted.dropped += count,
                _ => counted.sent += count,
            }
        }
        counted
    }

    fn add(&mut self, action: Action) {
        match action {
            Action::Pass => self.passed += 1,
            Action::Drop => self.dropped += 1,
            Action::Tx | Action::Redirect => self.sent += 1,
            Action::Aborted | Action::Unknown(_) => panic!("{action:?}"),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            passed: self.passed - earlier.passed,
            dropped: self.dropped - earlier.dropped,
            sent: self.sent - earlier.sent,
        }
    }
}

/// By its bytes, behind any tags that the mutation made.
fn is_to_vip(family: Family, frame: &[u8]) -> bool {
    let vip = match local(family, SERVICE).ip() {
        IpAddr::V4(vip) => vip.octets().to_vec(),
        IpAddr::V6(vip) => vip.octets().to_vec(),
    };
    let mut l3 = ETH_LEN;
    while matches!(frame.get(l3 - 2..l3), Some([0x81, 0x00] | [0x88, 0xa8])) && l3 < ETH_LEN + 8 {
        l3 += 4;
    }
    let ether_type = family.pick(IPV4, IPV6).to_be_bytes();
    let at = l3 + family.pick(16, 24);
    frame.get(l3 - 2..l3) == Some(&ether_type) && frame.get(at..at + vip.len()) == Some(&vip)
}
