use rstest::rstest;

use super::*;
use crate::config::{
    Backend, HealthCheck, Limits, Mode, Pace, Probe, Service, Timeouts as ConfiguredTimeouts,
    XdpMode,
};

use Admin::{Disabled, Draining, Enabled};
use Health::{Degraded, Down, Unknown, Unverified, Up};

#[rstest]
#[case(Enabled, Unknown, State::Unknown)]
#[case(Enabled, Up, State::Up)]
#[case(Enabled, Down, State::Down)]
#[case(Enabled, Unverified, State::Up)]
#[case(Enabled, Degraded, State::Degraded)]
#[case(Enabled, Health::Draining, State::Draining)]
#[case(Disabled, Degraded, State::Disabled)]
#[case(Draining, Up, State::Draining)]
#[case(Draining, Down, State::Draining)]
#[case(Disabled, Up, State::Disabled)]
#[case(Disabled, Unknown, State::Disabled)]
fn operators_overrule_probes(
    #[case] admin: Admin,
    #[case] health: Health,
    #[case] expected: State,
) {
    let view = view([health, Up, Up]).admin(1, admin);
    let service = only(&config(OnAllDown::FailOpen), &view);
    assert_eq!(service.backends[0].state, expected);
    assert_eq!(service.backends[0].effective_weight > 0, expected == State::Up);
}

#[test]
fn who_is_on_this_node_and_out_of_reach_gets_no_flows() {
    for healths in [[Up, Up, Up], [Degraded, Down, Down], [Down, Down, Down]] {
        let mut view = view(healths);
        view.last_up = last_up(&[1, 2, 3]);
        view.ways.insert(ip("10.0.0.1"), Way::Barred);
        let service = only(&config(OnAllDown::FailOpen), &view);
        let weights: Vec<_> = service.backends.iter().map(|it| it.effective_weight).collect();
        assert_eq!(weights[0], 0, "{healths:?}");
        assert!(weights[1..].iter().all(|weight| *weight > 0), "{healths:?}: {weights:?}");
    }
}

/// Healths of cp1 to cp3, who was up before, who takes new flows, whether in panic.
#[rstest]
#[case::all_up([Up, Up, Up], &[], &[1, 2, 3], false)]
#[case::the_others_of_one_down([Down, Up, Up], &[1, 2, 3], &[2, 3], false)]
#[case::unknown_gets_nothing([Unknown, Up, Unknown], &[1, 2, 3], &[2], false)]
#[case::cold_start([Unknown, Unknown, Unknown], &[], &[], false)]
#[case::never_up([Down, Down, Down], &[], &[], false)]
#[case::all_down([Down, Down, Down], &[1, 2, 3], &[1, 2, 3], true)]
#[case::the_last_set([Down, Down, Down], &[2], &[2], true)]
#[case::unknown_never_gets_traffic([Unknown, Down, Down], &[1, 2], &[2], true)]
#[case::unverified_is_up([Unverified, Up, Down], &[], &[1, 2], false)]
#[case::all_unverified([Unverified, Unverified, Unverified], &[], &[1, 2, 3], false)]
#[case::degraded_waits([Degraded, Up, Degraded], &[1, 2, 3], &[2], false)]
#[case::all_degraded([Degraded, Degraded, Degraded], &[1, 2, 3], &[1, 2, 3], false)]
#[case::degraded_before_panic([Degraded, Down, Health::Draining], &[2, 3], &[1], false)]
#[case::draining_waits([Health::Draining, Up, Up], &[1, 2, 3], &[2, 3], false)]
#[case::all_not_ready([Health::Draining; 3], &[1, 2, 3], &[1, 2, 3], true)]
#[case::not_ready_before_dead([Health::Draining, Down, Down], &[1, 2, 3], &[1], true)]
#[case::not_ready_and_never_up([Health::Draining, Down, Down], &[2], &[2], true)]
fn new_flows_go_to(
    #[case] healths: [Health; 3],
    #[case] before: &[u8],
    #[case] expected: &[u8],
    #[case] panic: bool,
) {
    let mut view = view(healths);
    view.last_up = last_up(before);
    let service = only(&config(OnAllDown::FailOpen), &view);
    assert_eq!(taking(&service), expected);
    assert_eq!(service.panic, panic);
}

#[test]
fn reject_leaves_no_backend() {
    let mut view = view([Down, Down, Down]);
    view.last_up = last_up(&[1, 2, 3]);
    let service = only(&config(OnAllDown::Reject), &view);
    assert!(taking(&service).is_empty() && !service.panic);
}

#[test]
fn fail_open_respects_operators() {
    let mut view = view([Down, Down, Down]).admin(1, Draining).admin(2, Disabled);
    view.last_up = last_up(&[1, 2, 3]);
    assert_eq!(taking(&only(&config(OnAllDown::FailOpen), &view)), [3]);
}

#[test]
fn a_drained_backend_is_not_used_because_the_others_are_down() {
    let mut view = view([Up, Down, Down]).admin(1, Draining);
    view.last_up = last_up(&[1, 2]);
    let service = only(&config(OnAllDown::FailOpen), &view);
    assert_eq!(taking(&service), [2]);
    assert!(service.panic);
}

#[test]
fn a_weight_of_an_operator_replaces_the_configured_one() {
    let mut view = view([Up, Up, Up]);
    let key = name(1);
    view.overrides.insert(key.clone(), Override { weight: Some(7), ..Override::default() });
    let service = only(&config(OnAllDown::FailOpen), &view);
    assert_eq!((service.backends[0].weight, service.backends[0].effective_weight), (7, 7));
    view.overrides.insert(key, Override { weight: Some(0), ..Override::default() });
    assert_eq!(taking(&only(&config(OnAllDown::FailOpen), &view)), [2, 3]);
}

#[test]
fn a_backend_that_comes_back_gets_a_part_of_its_weight() {
    let mut view = view([Up, Up, Degraded]);
    view.shares.extend([(name(1), 25), (name(3), 25)]);
    let weights = |view: &View| -> Vec<u16> {
        let service = only(&config(OnAllDown::FailOpen), view);
        service.backends.iter().map(|backend| backend.effective_weight).collect()
    };
    assert_eq!(weights(&view), [25, 100, 0]);
    let weight = |weight| Override { weight: Some(weight), ..Override::default() };
    view.overrides.insert(name(1), weight(3));
    assert_eq!(weights(&view), [1, 100, 0], "never nothing of something");
    view.overrides.insert(name(1), weight(0));
    assert_eq!(weights(&view), [0, 100, 0]);
    view.overrides.insert(name(1), weight(u16::MAX));
    assert_eq!(weights(&view), [16_383, 100, 0]);
}

/// Who is held because it flaps is better than who is dead, and than nobody.
#[rstest]
#[case::somebody_is_up([Down, Up, Down], &[2])]
#[case::nobody_else([Down, Down, Down], &[1])]
#[case::degraded_is_better([Down, Degraded, Down], &[2])]
fn a_held_backend_is_used_when_nobody_else_is(
    #[case] healths: [Health; 3],
    #[case] expected: &[u8],
    #[values(OnAllDown::FailOpen, OnAllDown::Reject)] on_all_down: OnAllDown,
) {
    let mut view = view(healths);
    view.held.insert(name(1));
    view.last_up = last_up(&[1, 2, 3]);
    let service = only(&config(on_all_down), &view);
    assert_eq!((taking(&service), service.panic), (expected.to_vec(), false));
    let service = only(&config(on_all_down), &view.admin(1, Disabled));
    assert!(!taking(&service).contains(&1));
}

#[test]
fn the_set_that_was_up_is_remembered_while_all_are_down() {
    let config = config(OnAllDown::FailOpen);
    let start = origin();
    let after = |healths, previous: &LastUp, seconds| {
        let mut view = view(healths);
        view.last_up.clone_from(previous);
        let desired = desired(&config, &view);
        last_up_after(&desired, previous, start + Duration::from_secs(seconds))
    };
    let first = after([Up, Down, Up], &LastUp::new(), 0);
    assert_eq!(names_of(&first), ["cp1", "cp3"]);
    let panicking = after([Down, Down, Down], &first, 1000);
    assert_eq!(panicking, first);
    let next = after([Down, Up, Down], &panicking, 1001);
    assert_eq!(names_of(&next), ["cp2"]);
}

/// One after the other within seconds: most likely for one reason, which may be ours.
#[test]
fn those_that_were_up_just_before_the_last_one_are_of_the_set() {
    let config = config(OnAllDown::FailOpen);
    let start = origin();
    let after = |healths, previous: &LastUp, seconds| {
        let desired = desired(&config, &view(healths));
        last_up_after(&desired, previous, start + Duration::from_secs(seconds))
    };
    let all = after([Up, Up, Up], &LastUp::new(), 0);
    let two = after([Down, Up, Up], &all, 20);
    assert_eq!(names_of(&two), ["cp2", "cp3"]);
    let one = after([Down, Down, Up], &two, 25);
    let none = after([Down, Down, Down], &one, 26);
    assert_eq!(names_of(&none), ["cp2", "cp3"]);
}

#[test]
fn what_is_no_longer_configured_is_forgotten() {
    let mut config = config(OnAllDown::FailOpen);
    config.services[0].backends.remove(0);
    let all_down = desired(&config, &view([Down, Down, Down]));
    let left = last_up_after(&all_down, &last_up(&[1, 2]), origin());
    assert_eq!(names_of(&left), ["cp2"]);
    let nothing = last_up_after(&Desired::default(), &last_up(&[1, 2]), origin());
    assert_eq!(nothing, LastUp::new());
}

#[test]
fn the_rest_is_taken_from_the_configuration() {
    let mut view = view([Up, Up, Up]);
    let next_hop = NextHop { link: 3, ..NextHop::default() };
    view.ways.insert(ip("10.0.0.1"), Way::Hop(next_hop));
    let desired = desired(&config(OnAllDown::FailOpen), &view);
    let vips = [ip("10.0.0.100"), ip("10.1.0.100")];
    assert_eq!(desired.vips, BTreeSet::from(vips));
    let service = &desired.services[0];
    assert_eq!((&service.vips[..], &service.snat[..]), (&vips[..1], &vips[1..]));
    assert_eq!(service.timeouts, Timeouts::default());
    let ways: Vec<_> = service.backends.iter().map(|backend| backend.way).collect();
    assert_eq!(ways, [Way::Hop(next_hop), Way::Unknown, Way::Unknown]);
}

#[test]
fn a_dual_stack_service_is_two() {
    let mut config = config(OnAllDown::FailOpen);
    let service = &mut config.services[0];
    service.vips.insert(0, ip("fd00::100"));
    service.snat_addresses.push(ip("fd01::100"));
    service.allow.push(range("fd00::", 8));
    service.backends[1].address = ip("fd00::2");
    let desired = desired(&config, &view([Up, Down, Down]));
    let [v4, v6] = &desired.services[..] else { panic!("{desired:?}") };
    assert_eq!((v4.family, v6.family), (Family::V4, Family::V6));
    assert_eq!((&v4.vips[..], &v6.vips[..]), (&[ip("10.0.0.100")][..], &[ip("fd00::100")][..]));
    assert_eq!((&v4.snat[..], &v6.snat[..]), (&[ip("10.1.0.100")][..], &[ip("fd01::100")][..]));
    assert_eq!((v4.allow.len(), v6.allow[..].to_vec()), (1, vec![range("fd00::", 8)]));
    assert_eq!((v4.name.as_str(), v6.name.as_str()), ("api", "api"));
    let names = |service: &DesiredService| -> Vec<String> {
        service.backends.iter().map(|backend| backend.name.clone()).collect()
    };
    assert_eq!((names(v4), names(v6)), (vec!["cp1".into(), "cp3".into()], vec!["cp2".into()]));
}

/// One family may be all down while the other is not.
#[test]
fn each_family_fails_open_to_its_own() {
    let mut config = config(OnAllDown::FailOpen);
    config.services[0].vips.push(ip("fd00::100"));
    config.services[0].backends[2].address = ip("fd00::3");
    let now = origin();
    let both = last_up_after(&desired(&config, &view([Up, Down, Up])), &LastUp::new(), now);
    assert_eq!(names_of(&both), ["cp1", "cp3"]);
    let mut view = view([Up, Down, Down]);
    view.last_up = both.clone();
    let after = desired(&config, &view);
    assert_eq!((taking_names(&after.services[0]), after.services[0].panic), (vec!["cp1"], false));
    assert_eq!((taking_names(&after.services[1]), after.services[1].panic), (vec!["cp3"], true));
    assert_eq!(last_up_after(&after, &both, now), both);
}

fn taking_names(service: &DesiredService) -> Vec<&str> {
    let takes = |backend: &&DesiredBackend| backend.effective_weight > 0;
    service.backends.iter().filter(takes).map(|backend| backend.name.as_str()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(network: &str, prefix_len: u8) -> Cidr {
    Cidr::containing(ip(network), prefix_len)
}

fn name(number: u8) -> BackendName {
    ("api".to_owned(), format!("cp{number}"))
}

fn view(healths: [Health; 3]) -> View {
    View { health: (1..).map(name).zip(healths).collect(), ..View::default() }
}

impl View {
    fn admin(mut self, number: u8, admin: Admin) -> Self {
        self.overrides.insert(name(number), Override { admin, weight: None });
        self
    }
}

fn last_up(numbers: &[u8]) -> LastUp {
    if numbers.is_empty() {
        return LastUp::new();
    }
    let now = origin();
    LastUp::from([("api".to_owned(), numbers.iter().map(|it| (name(*it).1, now)).collect())])
}

fn names_of(last_up: &LastUp) -> Vec<&str> {
    last_up["api"].keys().map(String::as_str).collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn origin() -> Instant {
    Instant::now()
}

fn only(config: &Config, view: &View) -> DesiredService {
    desired(config, view).services.remove(0)
}

/// Numbers of the backends that take new flows.
fn taking(service: &DesiredService) -> Vec<u8> {
    let backends = (1..).zip(&service.backends);
    backends.filter(|(_, backend)| backend.effective_weight > 0).map(|(n, _)| n).collect()
}

fn config(on_all_down: OnAllDown) -> Config {
    let backend = |number| Backend {
        name: format!("cp{number}"),
        address: ip(&format!("10.0.0.{number}")),
        port: 6443,
        weight: 100,
    };
    let service = Service {
        name: "api".to_owned(),
        vips: vec![ip("10.0.0.100")],
        standalone: false,
        port: 6443,
        mode: Mode::Nat,
        snat_addresses: vec![ip("10.1.0.100")],
        exclusive: false,
        allow: vec![range("10.0.0.0", 8)],
        rate_limit: None,
        on_all_down,
        prefer_local: false,
        drain_timeout: Duration::ZERO,
        reset_delay: Duration::ZERO,
        timeouts: ConfiguredTimeouts::default(),
        backends: (1..=3).map(backend).collect(),
        names: Vec::new(),
        health: HealthCheck {
            probe: Probe::Tcp,
            connect_timeout: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            pace: Pace::default(),
        },
    };
    Config {
        interfaces: Vec::new(),
        xdp_mode: XdpMode::Auto,
        replace_xdp: false,
        limits: Limits::default(),
        services: vec![service],
        vrrp: Vec::new(),
        sync: None,
        local_clients: config::LocalClients::default(),
        flow_log: None,
        notify: Vec::new(),
        admin: config::Admin::default(),
    }
}
