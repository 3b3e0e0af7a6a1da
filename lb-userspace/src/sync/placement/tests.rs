use lb_common::addr::{Endpoint, Ipv4Be, Ipv6Be};
use lb_common::backend::Backend;
use lb_common::backend::flag::LOCAL;
use lb_common::conntrack::TcpState;
use lb_common::service::Service;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const NOW: Ticks = Ticks(1000);

/// The family's VIP with one service and two backends, each with a number of its own.
fn places(six: bool) -> Places {
    placed(six, 0)
}

/// Likewise, with backends of these flags.
fn placed(six: bool, flags: u32) -> Places {
    let mut installed = Installed::default();
    let address = |last: u8| socket_of(six, last, 0).ip();
    for (last, index) in [(100, 3), (101, 4)] {
        installed.vips.insert(address(last), index);
    }
    let key = Endpoint::new(IpBe::new(address(100)), PortBe::new(6443), lb_common::IPPROTO_TCP);
    installed.services.insert(key, Service { id: 7, vip: 3, ..Service::default() });
    for (id, last) in [(21, 11), (22, 12)] {
        let endpoint =
            Endpoint::new(IpBe::new(address(last)), PortBe::new(6443), lb_common::IPPROTO_TCP);
        let state = State::Up as u8;
        let backend =
            Backend { endpoint, service: 7, epoch: 5, state, flags, ..Backend::default() };
        installed.backends.insert(id, backend);
    }
    Places::of(&installed)
}

fn socket_of(six: bool, last: u8, port: u16) -> SocketAddr {
    let text = if six { format!("fd00::{last}") } else { format!("10.0.0.{last}") };
    SocketAddr::new(text.parse().unwrap(), port)
}

fn flow(six: bool, kind: Kind) -> FlowRecord {
    let client = socket_of(six, 2, 40_000);
    let source = if kind == Kind::Nat { socket_of(six, 101, 20_000) } else { client };
    let sent = |seq_end, ack| Progress { seq_end, ack, fin_end: 0, flags: flag::SYN };
    FlowRecord {
        id: FlowId { client, vip: socket_of(six, 100, 6443) },
        kind,
        source,
        backend: socket_of(six, 12, 6443),
        original: sent(100, 200),
        reply: (kind != Kind::Dsr).then(|| sent(200, 100)),
    }
}

/// As the other node would read it.
fn there_and_back(six: bool, flow: &FlowRecord) -> FlowRecord {
    fn by<A: Address>(places: &Places, flow: &FlowRecord) -> FlowRecord {
        let halves = places.halves::<A>(flow, NOW).unwrap();
        let (key, original) = halves.original;
        let reply = halves.reply.map(|(_, half)| half);
        record(&key, &original, reply.as_ref(), flow.backend).unwrap()
    }
    if six { by::<Ipv6Be>(&places(six), flow) } else { by::<Ipv4Be>(&places(six), flow) }
}

fn progress() -> impl Strategy<Value = Progress> {
    const FLAGS: [u32; 5] =
        [0, flag::FIN, flag::FIN | flag::FIN_FIRST, flag::RST, flag::FIN | flag::RST];
    (any::<u32>(), any::<u32>(), any::<u32>(), prop::sample::select(&FLAGS[..])).prop_map(
        |(seq_end, ack, fin_end, flags)| Progress {
            seq_end,
            ack,
            fin_end,
            flags: flags | flag::SYN,
        },
    )
}

/// A backend on this node never sees what comes from an address of ours: the client has to be told.
#[rstest]
#[case(Kind::Nat, 4)]
#[case(Kind::Dnat, 5)]
#[case(Kind::Dsr, 5)]
fn a_flow_that_cannot_reach_its_backend_on_this_node_is_one_that_was_given_up(
    #[case] kind: Kind,
    #[case] epoch: u16,
    #[values(false, true)] six: bool,
) {
    fn epochs<A: Address>(places: &Places, flow: &FlowRecord) -> Vec<u16> {
        let Halves { original, reply } = places.halves::<A>(flow, NOW).unwrap();
        let reply = reply.map(|(_, half)| half.epoch);
        std::iter::once(original.1.epoch).chain(reply).collect()
    }
    let (places, flow) = (placed(six, LOCAL), flow(six, kind));
    let found =
        if six { epochs::<Ipv6Be>(&places, &flow) } else { epochs::<Ipv4Be>(&places, &flow) };
    assert!(found.iter().all(|found| *found == epoch), "{found:?}");
}

proptest! {
    #[test]
    fn a_flow_is_read_as_it_was_written(
        six in any::<bool>(),
        kind in prop::sample::select(&[Kind::Nat, Kind::Dnat, Kind::Dsr][..]),
        original in progress(),
        reply in progress(),
    ) {
        let flow = flow(six, kind);
        let flow = FlowRecord { original, reply: flow.reply.map(|_| reply), ..flow };
        prop_assert_eq!(there_and_back(six, &flow), flow);
    }
}

#[test]
fn halves_are_under_the_numbers_of_this_node() {
    let halves = places(false).halves::<Ipv4Be>(&flow(false, Kind::Nat), NOW).unwrap();
    let ((key, original), (reply_key, reply)) = (halves.original, halves.reply.unwrap());
    assert!(original.translation.answers(&reply_key) && reply.translation.answers(&key));
    for half in [original, reply] {
        assert_eq!((half.service, half.backend, half.epoch), (7, 22, 5));
        assert_eq!((half.last_seen, half.next_hop), (NOW, NextHop::UNKNOWN));
        assert!(half.has(flag::REPLICA) && half.has(flag::CONFIRMED));
    }
    assert_eq!((original.vip, reply.vip), (3, 4), "each under the lease of where it comes to");
    assert!(original.is_original() && !reply.is_original());
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
}

#[test]
fn each_half_knows_how_the_other_one_closes() {
    let mut flow = flow(false, Kind::Nat);
    flow.original.flags |= flag::FIN | flag::FIN_FIRST;
    flow.original.fin_end = 101;
    let halves = places(false).halves::<Ipv4Be>(&flow, NOW).unwrap();
    let (original, reply) = (halves.original.1, halves.reply.unwrap().1);
    assert_eq!(TcpState::of(&original, &reply), TcpState::FinWait1);
    assert!(reply.has(flag::PEER_FIN) && !original.has(flag::PEER_FIN));
    let outline = outline(&halves.original.0, &original, flow.backend).unwrap();
    assert_eq!((outline.id, outline.source, outline.backend), (flow.id, flow.source, flow.backend));
    assert!(!outline.is_over());
    let both = FlowHalf { flags: original.flags | flag::PEER_FIN, ..original };
    assert!(super::outline(&halves.original.0, &both, flow.backend).unwrap().is_over());
}

#[rstest]
#[case::vip(Refusal::UnknownService, |flow: &mut FlowRecord| flow.id.vip.set_port(443))]
#[case::backend(Refusal::UnknownBackend, |flow: &mut FlowRecord| flow.backend.set_port(443))]
#[case::source(Refusal::UnknownSource, |flow: &mut FlowRecord| {
    flow.source = "10.0.0.99:20000".parse().unwrap();
})]
#[case::kind(Refusal::UnknownSource, |flow: &mut FlowRecord| flow.kind = Kind::Dnat)]
#[case::families(Refusal::Malformed, |flow: &mut FlowRecord| {
    flow.source = "[fd00::101]:20000".parse().unwrap();
})]
#[case::no_reply(Refusal::Malformed, |flow: &mut FlowRecord| flow.reply = None)]
#[case::a_reply(Refusal::Malformed, |flow: &mut FlowRecord| flow.kind = Kind::Dsr)]
fn what_means_nothing_here_is_refused(
    #[case] expected: Refusal,
    #[case] change: fn(&mut FlowRecord),
) {
    let mut flow = flow(false, Kind::Nat);
    change(&mut flow);
    assert_eq!(places(false).halves::<Ipv4Be>(&flow, NOW), Err(expected));
}

#[test]
fn refusals_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|it| it.name()).collect();
    assert_eq!(names.len(), Refusal::ALL.len());
}
