use lb_common::addr::{Ipv4Be, Ports};
use lb_common::link::NextHop;

use super::*;

const NOW: Ticks = Ticks(1_000_000);

fn key(client: &str) -> FlowKey<Ipv4Be> {
    let client: std::net::SocketAddrV4 = client.parse().unwrap();
    FlowKey::new(
        Ipv4Be::new(*client.ip()),
        Ipv4Be::new([10, 0, 0, 100].into()),
        Ports::new(PortBe::new(client.port()), PortBe::new(6443)),
    )
}

/// A flow from 10.0.0.2:40000 to backend 7 by way of 10.0.0.100:2000, idle for 100 ticks.
fn halves(kind: Kind) -> (FlowKey<Ipv4Be>, FlowHalf<Ipv4Be>, FlowHalf<Ipv4Be>) {
    let key = key("10.0.0.2:40000");
    let out = FlowKey::new(
        Ipv4Be::new([10, 0, 0, 100].into()),
        Ipv4Be::new([10, 0, 0, 11].into()),
        Ports::new(PortBe::new(2000), PortBe::new(6443)),
    );
    let half = |from: &FlowKey<Ipv4Be>, to: &FlowKey<Ipv4Be>, flags, idle| {
        let mut half = FlowHalf {
            translation: lb_common::nat::Translation::new(from, to),
            flags: 0,
            seq_end: 0,
            ack: 0,
            fin_end: 0,
            backend: 0,
            epoch: 0,
            vip: 0,
            service: 0,
            kind: 0,
            attempts: 0,
            last_seen: Ticks(0),
            checked: Ticks(0),
            next_hop: NextHop::UNKNOWN,
            #[cfg(feature = "second-layout")]
            later: 0,
        };
        half.init(kind, from, to);
        half.flags = flags;
        half.backend = 7;
        half.epoch = 3;
        half.service = 1;
        half.last_seen = NOW.minus(idle);
        half
    };
    let original = half(&key, &out, flag::ORIGINAL | flag::SYN | flag::CONFIRMED, 200);
    let reply = half(&out.reversed(), &key.reversed(), flag::SYN | flag::CONFIRMED, 100);
    (key, original, reply)
}

fn facts(kind: Kind) -> Facts {
    let (key, original, reply) = halves(kind);
    let reply = (kind != Kind::Dsr).then_some(&reply);
    Facts::of(&key, &original, reply, NOW)
}

fn directory() -> Directory {
    let named = |name: &str| Named { name: name.to_owned(), timeouts: Timeouts::default() };
    let installed = |last, epoch| InstalledBackend {
        epoch,
        address: SocketAddr::new([10, 0, 0, last].into(), 6443),
    };
    let backend = |service: &str, name: &str| BackendNames {
        service: service.to_owned(),
        name: name.to_owned(),
    };
    Directory {
        services: [(1, named("api")), (2, named("api")), (3, named("other"))].into(),
        backends: [(7, backend("api", "cp1")), (8, backend("other", "cp1"))].into(),
        installed: [(7, installed(11, 3)), (8, installed(12, 0))].into(),
    }
}

#[test]
fn both_halves_are_one_flow() {
    let flow = directory().describe(&facts(Kind::Nat));
    assert_eq!(flow.client, "10.0.0.2:40000".parse().unwrap());
    assert_eq!(flow.vip, "10.0.0.100:6443".parse().unwrap());
    assert_eq!(flow.source, "10.0.0.100:2000".parse().unwrap());
    assert_eq!(flow.backend_address, "10.0.0.11:6443".parse().unwrap());
    assert_eq!((flow.service.as_deref(), flow.backend.as_deref()), (Some("api"), Some("cp1")));
    assert_eq!((flow.mode.as_str(), flow.state), ("nat", FlowState::Established));
    // The younger of the two.
    assert_eq!(flow.idle_ms, 104);
    assert_eq!(
        flow.expires_in_ms,
        Some(u64::from(Ticks::in_ns(86_400_000_000_000) - 100) * (1 << 20) / 1_000_000)
    );
    assert_eq!(
        (flow.closed_first, flow.reset_by, flow.given_up),
        (Closed::Nobody, Closed::Nobody, false)
    );
}

#[test]
fn a_flow_that_nobody_has_confirmed_is_half_open() {
    let (key, mut original, reply) = halves(Kind::Nat);
    assert!(!Facts::of(&key, &original, Some(&reply), NOW).half_open);
    original.clear(flag::CONFIRMED);
    assert!(Facts::of(&key, &original, Some(&reply), NOW).half_open);
}

#[test]
fn who_closed_first_is_told() {
    let (key, mut original, mut reply) = halves(Kind::Nat);
    reply.flags |= flag::FIN | flag::FIN_FIRST;
    original.flags |= flag::FIN;
    let flow = directory().describe(&Facts::of(&key, &original, Some(&reply), NOW));
    assert_eq!(flow.closed_first, Closed::Backend);
    original.flags |= flag::RST;
    let flow = directory().describe(&Facts::of(&key, &original, Some(&reply), NOW));
    assert_eq!((flow.state, flow.reset_by), (FlowState::Closed, Closed::Client));
}

#[test]
fn a_flow_of_dsr_is_one_half() {
    let (key, mut original, _) = halves(Kind::Dsr);
    let flow = directory().describe(&Facts::of(&key, &original, None, NOW));
    assert_eq!((flow.mode.as_str(), flow.state), ("dsr", FlowState::Established));
    original.flags |= flag::FIN;
    let flow = directory().describe(&Facts::of(&key, &original, None, NOW));
    assert_eq!((flow.state, flow.closed_first), (FlowState::Closing, Closed::Client));
}

#[test]
fn a_backend_that_is_gone_or_given_up_is_said_so() {
    let mut facts = facts(Kind::Nat);
    facts.epoch = 2;
    assert!(directory().describe(&facts).given_up);
    facts.backend = 99;
    facts.service = 98;
    let flow = directory().describe(&facts);
    assert_eq!((flow.service, flow.backend, flow.expires_in_ms), (None, None, None));
}

#[test]
fn filters_take_what_they_say() {
    let facts = facts(Kind::Nat);
    let matches = |filter: Filter| filter.resolve(&directory()).unwrap().matches(&facts);
    let range = |text: &str| Some(crate::admin::model::flows::range(text).unwrap());
    let none = Filter::default;
    assert!(matches(none()));
    assert!(matches(Filter { service: Some("api".into()), ..none() }));
    assert!(!matches(Filter { service: Some("other".into()), ..none() }));
    assert!(matches(Filter { backend: Some((None, "cp1".into())), ..none() }));
    assert!(!matches(Filter { backend: Some((Some("other".into()), "cp1".into())), ..none() }));
    assert!(matches(Filter { client: range("10.0.0.0/24"), ..none() }));
    assert!(matches(Filter { client: range("10.0.0.2"), ..none() }));
    assert!(!matches(Filter { client: range("fd00::/8"), ..none() }));
    assert!(matches(Filter { state: Some(FlowState::Established), ..none() }));
    assert!(!matches(Filter { state: Some(FlowState::TimeWait), ..none() }));
    assert!(matches(Filter { older_than: Some(Duration::from_millis(100)), ..none() }));
    assert!(!matches(Filter { older_than: Some(Duration::from_millis(110)), ..none() }));
}

#[test]
fn names_that_do_not_exist_are_refused() {
    let error = |filter: Filter| filter.resolve(&directory()).unwrap_err();
    let none = Filter::default;
    assert_eq!(error(Filter { service: Some("x".into()), ..none() }), "there is no service x");
    let backend = Some((Some("api".into()), "cp9".into()));
    assert_eq!(error(Filter { backend, ..none() }), "there is no backend api/cp9");
    assert_eq!(
        error(Filter { backend: Some((None, "z".into())), ..none() }),
        "there is no backend z"
    );
}
