//! Packets that are followed are told as they came and as they left, with the program's own verdict.

use std::net::{SocketAddr, SocketAddrV4};

use lb_common::addr::{Address as _, IpBe, PortBe};
use lb_common::counters::Counter;
use lb_common::nat::Kind;
use lb_common::rate::RateLimit;
use lb_common::trace::{BackendAt, Filter, MAX_SNAP, Record, found, side};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{
    ACK, DESTINATION, Extension, FIN, FRAGMENT, Frame, QINQ, RST, Report, VLAN,
};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, Connection, Followed, Harness, INGRESS, IRS, ISS, LB_MAC, OTHER_CLIENT,
    OTHER_LINK, SERVICE, backend_mac, from_client, local, local_frame, local_ip, syn,
};

const NONE: &[(u16, u16)] = &[];
const TWO: &[(u16, u16)] = &[(QINQ, 20), (VLAN, 30)];

/// All of every frame.
fn whole() -> Filter {
    Filter { snap: u32::try_from(MAX_SNAP).unwrap(), leaving: leaving(), ..Filter::ALL }
}

fn leaving() -> u64 {
    let all = Counter::ALL.iter().filter(|counter| {
        !counter.name().starts_with("drop") && !counter.name().starts_with("pass")
    });
    all.fold(0, |bits, counter| bits | Filter::bit(*counter))
}

/// Sends a frame, of which exactly what became of it must be told.
#[track_caller]
fn told(harness: &mut Harness, followed: &mut Followed, frame: &Frame) -> Record {
    let outcome = harness.send(frame);
    let seen = followed.one();
    let record = seen.record;
    let counter = Counter::ALL[record.counter as usize];
    assert_eq!(counter.name(), outcome.counter);
    assert_eq!(seen.came, harness.local(frame).bytes());
    let is_sent = leaving() & Filter::bit(counter) != 0;
    assert_eq!(seen.left, if is_sent { outcome.bytes } else { vec![] });
    assert_eq!(record.length_in as usize, seen.came.len());
    assert_eq!(record.length_out as usize, seen.left.len());
    assert_eq!(record.ifindex, INGRESS);
    assert!(record.entered < record.left);
    assert_eq!(record.has(found::IPV6), harness.family == V6);
    record
}

fn is_confirmed(record: &Record) -> bool {
    match (record.v4(), record.v6()) {
        (Some(it), _) => it.original.is_confirmed(),
        (None, Some(it)) => it.original.is_confirmed(),
        (None, None) => panic!("of no family"),
    }
}

/// Whose the flow of a record is, and by whom it was met.
fn flow(record: &Record) -> (SocketAddr, u32) {
    let end = |address: IpBe, port: PortBe| SocketAddr::new(address.get(), port.get());
    match (record.v4(), record.v6()) {
        (Some(it), _) => (end(it.key.src.ip(), it.key.ports.src()), it.original.backend),
        (None, Some(it)) => (end(it.key.src.ip(), it.key.ports.src()), it.original.backend),
        (None, None) => panic!("of no family"),
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_connection_is_told_in_both_directions(
    #[values(V4, V6)] family: Family,
    #[values(Kind::Nat, Kind::Dnat)] mode: Kind,
    #[values(NONE, TWO)] tags: &[(u16, u16)],
) {
    let mut harness = Harness::of(family, mode);
    let mut followed = harness.follow(whole());
    let first = syn(CLIENT).tagged(tags);
    let record = told(&mut harness, &mut followed, &first);
    assert!(record.has(found::FLOW) && record.has(found::REPLY) && !is_confirmed(&record));
    assert!(!record.has(found::BEFORE) && !record.has(found::FROM_BACKEND));
    let (client, id) = flow(&record);
    assert_eq!(client, local(family, CLIENT));
    let source = match (record.v4(), record.v6()) {
        (Some(it), _) => it.original.translation.ports.src().get(),
        (_, Some(it)) => it.original.translation.ports.src().get(),
        (None, None) => panic!("of no family"),
    };
    let snat = if mode == Kind::Nat { (*SERVICE.ip(), source) } else { (*CLIENT.ip(), source) };
    let connection = Connection {
        kind: mode,
        client: CLIENT,
        id,
        backend: BACKENDS[id as usize - 1],
        snat: SocketAddrV4::new(snat.0, snat.1),
        client_next: ISS.wrapping_add(1),
        backend_next: IRS + 1,
    };
    let record = told(&mut harness, &mut followed, &connection.syn_ack());
    assert!(record.has(found::FROM_BACKEND) && record.has(found::BEFORE));
    assert_eq!(flow(&record), (client, id));
    let ack = connection.of_client(ACK).tagged(tags);
    let record = told(&mut harness, &mut followed, &ack);
    assert!(record.has(found::FLOW) && is_confirmed(&record), "it is promoted");
    let data = connection.of_client(ACK).tagged(tags).payload(&[7; 1400]);
    assert_eq!(flow(&told(&mut harness, &mut followed, &data)), (client, id));
    let answer = connection.of_backend(ACK).payload(&[8; 1400]);
    assert_eq!(flow(&told(&mut harness, &mut followed, &answer)), (client, id));
    let record = told(&mut harness, &mut followed, &connection.of_backend(FIN | ACK));
    assert_eq!(flow(&record), (client, id));
}

/// What is forwarded moves no counter of its own: its way out and its direction say which verdict it was.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_way_out_is_told_of_each_direction(
    #[values(V4, V6)] family: Family,
    #[values(Kind::Nat, Kind::Dnat, Kind::Dsr)] mode: Kind,
) {
    let mut harness = Harness::of(family, mode);
    let connection = Connection::establish(&mut harness, CLIENT);
    harness.add_device(OTHER_LINK);
    harness.change_backend(connection.id, |backend| backend.next_hop.link = OTHER_LINK);
    let mut followed = harness.follow(whole());
    let counter = |record: &Record| Counter::ALL[record.counter as usize];
    let record = told(&mut harness, &mut followed, &connection.of_client(ACK));
    assert_eq!(counter(&record), Counter::RedirectRequest);
    if mode != Kind::Dsr {
        let record = told(&mut harness, &mut followed, &connection.of_backend(ACK));
        assert_eq!(counter(&record), Counter::ForwardReply);
    }
}

/// As many headers as the datapath walks through, one of them of a packet that is no fragment (RFC 6946).
#[rstest]
#[case::destination(DESTINATION)]
#[case::atomic_fragment(FRAGMENT)]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_is_told_behind_extension_headers(#[case] last: u8) {
    let mut harness = Harness::new(V6);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut followed = harness.follow(whole());
    let chain =
        [DESTINATION, DESTINATION, DESTINATION, DESTINATION, DESTINATION, DESTINATION, last];
    let frame = local_frame(V6, &connection.of_client(ACK));
    let frame = chain.into_iter().fold(frame, |frame, header| match header {
        FRAGMENT => frame.extension(Extension::fragment(0, false, 7)),
        other => frame.extension(Extension::padding(other, 1)),
    });
    let outcome = harness.send_bytes(&frame.bytes());
    let record = followed.one().record;
    assert_eq!(Counter::ALL[record.counter as usize].name(), outcome.counter);
    assert_eq!(outcome.counter, "forward_request");
    assert!(record.has(found::FLOW) && record.has(found::BEFORE));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_belongs_to_no_flow_is_told_too(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut followed = harness.follow(whole());
    for frame in [from_client(CLIENT, RST), from_client(CLIENT, FIN | ACK), from_client(CLIENT, 0)]
    {
        let record = told(&mut harness, &mut followed, &frame);
        assert!(!record.has(found::FLOW) && !record.has(found::BEFORE));
    }
}

/// It is about what the backend was sent, and goes to the client.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_error_is_of_the_flow_that_it_is_about(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let sent = connection.forwarded(&connection.of_client(ACK).payload(b"question"));
    let packet = harness.local(&sent).packet();
    let ends = [*connection.backend.ip(), *connection.snat.ip()].map(|name| local_ip(family, name));
    let error = Frame::error(ends[0], ends[1], Report::TooBig(1400), &packet)
        .macs(backend_mac(connection.id), LB_MAC);
    let client = local(family, CLIENT);
    let mut followed = harness.follow(Filter {
        client: IpBe::new(client.ip()),
        client_mask: IpBe::mask(128),
        client_port: PortBe::new(client.port()),
        ..whole()
    });
    let record = told(&mut harness, &mut followed, &error);
    assert_eq!(Counter::ALL[record.counter as usize], Counter::ForwardIcmpError);
    assert!(record.has(found::FROM_BACKEND));
    assert_eq!(flow(&record), (client, connection.id));
}

/// A segment of the second client without flags, and two handshakes.
fn count(family: Family, ask: impl FnOnce(&mut Filter)) -> usize {
    let mut harness = Harness::new(family);
    let mut filter = whole();
    ask(&mut filter);
    let mut followed = harness.follow(filter);
    harness.expect(&from_client(OTHER_CLIENT, 0), "drop_bad_flags");
    Connection::establish(&mut harness, CLIENT);
    Connection::establish(&mut harness, OTHER_CLIENT);
    followed.take().len()
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn only_what_is_asked_for_is_told(#[values(V4, V6)] family: Family) {
    let (client, vip) = (local(family, CLIENT), IpBe::new(local(family, SERVICE).ip()));
    let mine = |filter: &mut Filter| {
        filter.client = IpBe::new(client.ip());
        filter.client_mask = IpBe::mask(128);
        filter.client_port = PortBe::new(client.port());
    };
    assert_eq!(count(family, |_| ()), 7);
    assert_eq!(count(family, mine), 3);
    let replies = |filter: &mut Filter| {
        mine(filter);
        filter.sides = side::REPLY;
    };
    assert_eq!(count(family, replies), 1);
    let of_vip = |port| {
        move |filter: &mut Filter| {
            filter.vip = vip;
            filter.vip_port = PortBe::new(port);
        }
    };
    assert_eq!(count(family, of_vip(6443)), 7);
    assert_eq!(count(family, of_vip(80)), 0);
    let drops = Filter::bit(Counter::DropBadFlags) | Filter::bit(Counter::DropRstWithoutFlow);
    assert_eq!(count(family, |filter| filter.counters = drops), 1);
    assert_eq!(count(family, |filter| filter.until = 1), 0);
    let backends = |ids: [u32; 2]| {
        move |filter: &mut Filter| {
            for (slot, id) in filter.backends.iter_mut().zip(ids) {
                *slot = BackendAt { id, ..BackendAt::default() };
            }
        }
    };
    // Each segment of a flow is of one of the three, and the first one of none.
    let of_each = [1, 2, 3].map(|id| count(family, backends([id, 0])));
    assert_eq!(of_each.iter().sum::<usize>(), 6, "{of_each:?}");
    assert_eq!(count(family, backends([1, 2])), of_each[0] + of_each[1]);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn above_the_rate_packets_are_counted_only() {
    let mut harness = Harness::new(V4);
    let limit = RateLimit::new(1, 3);
    let mut followed = harness.follow(Filter { limit, ..whole() });
    for _ in 0..20 {
        harness.expect(&from_client(CLIENT, RST), "drop_rst_without_flow");
    }
    let told = followed.take().len() as u64;
    let tally = followed.tally();
    assert!((3..=4).contains(&told), "{told}");
    assert_eq!((tally.matched, tally.suppressed, tally.lost), (20, 20 - told, 0));
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_finds_the_ring_full_is_counted() {
    let mut harness = Harness::new(V4);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut followed = harness.follow(whole());
    let data = harness.local(&connection.of_client(ACK).payload(&[7; 1400])).bytes();
    for _ in 0..1500 {
        harness.run(&data);
    }
    let told = followed.take();
    let tally = followed.tally();
    assert_eq!(tally.matched, 1500);
    assert_eq!(told.len() as u64 + tally.lost, 1500);
    assert!(tally.lost > 0 && told.iter().all(|seen| seen.came == data), "{}", tally.lost);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn frames_are_cut_off_where_it_is_asked_for() {
    let mut harness = Harness::new(V4);
    let connection = Connection::establish(&mut harness, CLIENT);
    let mut followed = harness.follow(Filter { snap: 60, ..whole() });
    let data = connection.of_client(ACK).payload(&[7; 1400]);
    let bytes = harness.send(&data).bytes;
    let seen = followed.one();
    assert_eq!(seen.came, harness.local(&data).bytes()[..60]);
    assert_eq!(seen.left, bytes[..60]);
    assert_eq!(seen.record.length_in as usize, bytes.len());
}
