use std::path::Path;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::{Fall, HealthCheck, Identity, Pace, Probe, Request, Statuses, Tls, Verify};
use super::*;
use crate::config::flow_log::{FlowLog, Output};
use crate::config::local_clients::Enabled;
use crate::config::{self, Cidr, EXAMPLE, parse};

fn read(text: &str) -> Config {
    parse(text, Path::new("shown.yaml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_example_is_shown_with_every_default() {
    let config = read(EXAMPLE);
    let shown = show(&config).unwrap();
    assert_eq!(read(&shown.yaml), config, "{}", shown.yaml);
    assert_eq!(shown.json["services"][0]["timeouts"]["half_closed"], "1h");
    assert_eq!(shown.json["services"][0]["backends"][1]["port"], 6443);
    assert_eq!(shown.json["admin"]["socket"], config::DEFAULT_SOCKET);
    assert!(shown.hidden.is_empty());
}

#[test]
fn secrets_are_not_shown() {
    let text = "notify:
  - { webhook: \"https://hooks.example/secret?key=secret\", token_file: /t, events: [stop] }
  - { exec: [/bin/page, secret] }
services:
  - { name: a, vips: [10.0.0.1], port: 1, backends: [{ name: b, address: 10.0.0.2 }] }
";
    let shown = show(&read(text)).unwrap();
    assert!(!shown.yaml.contains("secret") && !shown.json.to_string().contains("secret"));
    assert_eq!(shown.hidden.len(), 2);
    // It is a configuration still, and shown as it is.
    assert_eq!(show(&read(&shown.yaml)).unwrap().yaml, shown.yaml);
    assert_eq!(shown.json["notify"][0]["ca_file"], "/etc/ssl/certs/ca-certificates.crt");
}

/// Names that YAML could take for something else among them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9._-]{0,20}",
        "[0-9]{1,6}",
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1e3".to_owned()),
        Just("0x1f".to_owned()),
        Just("-".to_owned()),
        Just("...".to_owned()),
        Just(".inf".to_owned()),
        Just("yes".to_owned()),
    ]
}

fn time(most: u64) -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1..=most).prop_map(Duration::from_secs),
        (1000..=most * 1000).prop_map(Duration::from_millis)
    ]
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let (day, hour) = (14 * 86_400, 3600);
    (time(day), time(hour), time(hour), time(day), time(hour)).prop_map(
        |(established, half_open, closing, half_closed, closed)| Timeouts {
            established,
            half_open,
            closing,
            half_closed,
            closed,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let path = || "/[a-z0-9?&=:%~!]{0,12}";
    let tier = || proptest::option::of(path());
    let statuses = proptest::collection::vec((200..400_u16, 400..=599_u16), 0..3)
        .prop_map(|ranges| Statuses::new(ranges.into_iter().map(|(first, last)| first..=last)));
    let host = proptest::option::of("[a-z][a-z0-9.:]{0,9}");
    (path(), tier(), tier(), host, statuses).prop_map(
        |(path, degraded_path, live_path, host, expect_status)| Request {
            path,
            degraded_path,
            live_path,
            host,
            expect_status,
        },
    )
}

fn tls() -> impl Strategy<Value = Tls> {
    let file = || "/[a-z#: ]{1,12}".prop_map(PathBuf::from);
    let identity = proptest::option::of(
        (file(), file()).prop_map(|(cert_file, key_file)| Identity { cert_file, key_file }),
    );
    let trust = prop_oneof![
        (file(), proptest::option::of(file())).prop_map(|(ca, token)| (Verify::Ca(ca), token)),
        Just((Verify::Skip, None)),
    ];
    ("[a-z]{1,9}", identity, trust).prop_map(|(server_name, identity, (verify, token_file))| Tls {
        server_name,
        verify,
        identity,
        token_file,
    })
}

fn probe() -> impl Strategy<Value = Probe> {
    prop_oneof![
        Just(Probe::Tcp),
        request().prop_map(|request| Probe::Http { request }),
        (request(), tls()).prop_map(|(request, tls)| Probe::Https { request, tls }),
    ]
}

fn pace() -> impl Strategy<Value = Pace> {
    let number = || 1..=100_u32;
    let fall = (number(), number(), number(), number(), number()).prop_map(
        |(refused, timeout, status, certificate, protocol)| Fall {
            refused,
            timeout,
            status,
            certificate,
            protocol,
        },
    );
    let times = (10..3_600_000_u64, any::<bool>(), time(3600), time(3600), time(3600));
    (times, number(), fall, proptest::option::of(time(3600))).prop_map(
        |((interval, fast, down_interval, damping, slow_start), rise, fall, shutdown_delay)| Pace {
            interval: Duration::from_millis(interval),
            fast_interval: Duration::from_millis(if fast { 10 } else { interval }),
            down_interval,
            rise,
            fall,
            damping,
            slow_start,
            shutdown_delay,
        },
    )
}

fn health() -> impl Strategy<Value = HealthCheck> {
    (probe(), pace(), 10..60_000_u64, any::<bool>()).prop_map(|(probe, pace, timeout, short)| {
        HealthCheck {
            probe,
            connect_timeout: Duration::from_millis(if short { 10 } else { timeout }),
            timeout: Duration::from_millis(timeout),
            pace,
        }
    })
}

/// The addresses of one service; no two have one in common.
fn address(index: usize, family: u8, host: u8) -> IpAddr {
    let index = u8::try_from(index).unwrap();
    match family {
        4 => IpAddr::from([10, 1, index, host]),
        _ => format!("fd00:{index:x}::{host:x}").parse().unwrap(),
    }
}

fn numbers()
-> impl Strategy<Value = (u16, Mode, OnAllDown, Vec<Cidr>, Option<RateLimit>, [bool; 4])> {
    let modes = prop_oneof![Just(Mode::Nat), Just(Mode::Dnat), Just(Mode::Dsr)];
    let all_down = prop_oneof![Just(OnAllDown::FailOpen), Just(OnAllDown::Reject)];
    let range = (any::<[u8; 4]>(), 0..=32_u8)
        .prop_map(|(address, length)| Cidr::containing(address.into(), length));
    let ranges = proptest::collection::btree_set(range, 0..4);
    let limit = proptest::option::of(
        (1..=65_535_u32, 1..=65_535_u32)
            .prop_map(|(rate, burst)| RateLimit { connections_per_second: rate, burst }),
    );
    let ranges = ranges.prop_map(|ranges| ranges.into_iter().collect());
    (1..=u16::MAX, modes, all_down, ranges, limit, any::<[bool; 4]>())
}

fn service(index: usize) -> impl Strategy<Value = Service> {
    let times = (time(3600), time(7 * 86_400), timeouts());
    let backends = proptest::collection::btree_map(name(), 1..=1000_u16, 1..5);
    let families = subsequence(vec![4_u8, 6], 1..=2);
    (name(), numbers(), times, backends, health(), families).prop_map(
        move |(name, numbers, times, backends, health, families)| {
            let (
                port,
                mode,
                on_all_down,
                allow,
                rate_limit,
                [is_exclusive, snat, other, prefer_local],
            ) = numbers;
            let (reset_delay, drain_timeout, timeouts) = times;
            let own = |host| families.iter().map(move |family| (*family, host));
            let at = |(family, host)| address(index, family, host);
            let port_of = if other && mode != Mode::Dsr { port / 2 + 1 } else { port };
            let named = backends.into_iter().zip(10_u8..);
            let backends = named.flat_map(|((name, weight), host)| {
                families.iter().map(move |family| Backend {
                    name: format!("{name}.{family}"),
                    address: address(index, *family, host),
                    port: port_of,
                    weight,
                })
            });
            Service {
                name: format!("{name}.{index}"),
                standalone: false,
                names: vec![],
                vips: own(1).map(at).collect(),
                port,
                mode,
                snat_addresses: match mode {
                    Mode::Nat if snat => own(2).map(at).collect(),
                    Mode::Nat | Mode::Dnat | Mode::Dsr => vec![],
                },
                exclusive: is_exclusive && mode == Mode::Dnat,
                allow: if families.contains(&4) { allow } else { vec![] },
                rate_limit,
                on_all_down,
                prefer_local,
                drain_timeout,
                reset_delay,
                timeouts,
                backends: backends.collect(),
                health,
            }
        },
    )
}

/// Nodes of another network than the VIPs'.
fn sync() -> impl Strategy<Value = Option<Sync>> {
    let node = |index: u8, port| SocketAddr::from(([10, 2, 0, index], port));
    let peers = proptest::collection::btree_set(2..=250_u8, 1..=7);
    let sync =
        (1..=u16::MAX, peers, "/[a-z#: ]{0,11}[a-z]").prop_map(move |(port, peers, file)| Sync {
            listen: node(1, port),
            peers: peers.into_iter().map(|index| node(index, port)).collect(),
            key_file: file.into(),
        });
    proptest::option::of(sync)
}

/// What there is of a listener.
fn listener() -> impl Strategy<Value = Admin> {
    let path = || "/[a-z#: ]{0,11}[a-z]".prop_map(PathBuf::from);
    let tls = (path(), path()).prop_map(|(cert_file, key_file)| ServerTls { cert_file, key_file });
    let hosts = proptest::collection::btree_set("[a-z][a-z0-9-]{0,9}(\\.[a-z]{2,5})?", 0..3);
    let address = prop_oneof![Just("127.0.0.1"), Just("::1"), Just("10.99.0.1"), Just("fd00::99")];
    let listen = (address, 1..u16::MAX)
        .prop_map(|(address, port)| SocketAddr::new(address.parse().unwrap(), port));
    let listener = (listen, proptest::option::of(path()), proptest::option::of(tls), hosts);
    proptest::option::of(listener).prop_map(|listener| match listener {
        None => Admin::default(),
        Some((listen, token_file, tls, hosts)) => Admin {
            listen: Some(listen),
            token_file,
            tls,
            allowed_hosts: hosts.into_iter().collect(),
            ..Admin::default()
        },
    })
}

fn local_clients() -> impl Strategy<Value = LocalClients> {
    let enabled = prop_oneof![Just(Enabled::Auto), Just(Enabled::Always), Just(Enabled::Never)];
    let cgroup = proptest::option::of("/[a-z#: ]{0,11}[a-z]".prop_map(PathBuf::from));
    (enabled, cgroup, any::<bool>()).prop_map(|(enabled, cgroup, end_in_pods)| LocalClients {
        enabled,
        cgroup,
        end_in_pods,
    })
}

fn flow_log() -> impl Strategy<Value = Option<FlowLog>> {
    let file = prop_oneof![
        Just(Output::Stdout),
        "/[a-z#: ]{0,11}[a-z]".prop_map(|path| Output::File(path.into()))
    ];
    let log = (file, 1..=1_000_000_u32).prop_map(|(file, sample)| FlowLog { file, sample });
    proptest::option::of(log)
}

fn config() -> impl Strategy<Value = Config> {
    let interfaces =
        proptest::collection::btree_set("[a-z#@!&*%{\\[-][a-z0-9.@#-]{0,13}[a-z]", 0..3);
    let modes = prop_oneof![Just(XdpMode::Auto), Just(XdpMode::Native), Just(XdpMode::Generic)];
    let xdp = (modes, any::<bool>());
    let services = (1..4_usize).prop_flat_map(|count| (0..count).map(service).collect::<Vec<_>>());
    let limits = (1024..=16_777_216_u32, 1024..=16_777_216_u32);
    let state_file = proptest::option::of("/[a-z#: ]{0,11}[a-z]".prop_map(PathBuf::from));
    let admin = ("/[a-z#: ]{0,11}[a-z]", listener(), state_file, any::<bool>());
    let kinds = subsequence(Kind::CHOICES.to_vec(), 1..11);
    let notify = proptest::collection::vec((kinds, 1..=4096_u32), 0..3);
    (interfaces, xdp, limits, services, admin, (notify, sync(), local_clients(), flow_log()))
        .prop_map(
            |(interfaces, (xdp_mode, replace_xdp), (flows, half_open), services, admin, others)| {
                let (notify, sync, local_clients, flow_log) = others;
                let (socket, listener, state_file, watch_config) = admin;
                let targets = notify.into_iter().map(|(events, queue)| Target {
                    events: events.into_iter().collect(),
                    action: Action::Exec { exec: vec!["/bin/page".to_owned()] },
                    timeout: Duration::from_secs(7),
                    queue,
                });
                Config {
                    interfaces: interfaces.into_iter().collect(),
                    xdp_mode,
                    replace_xdp,
                    limits: Limits { flows, half_open },
                    services,
                    vrrp: vec![],
                    sync,
                    local_clients,
                    flow_log,
                    notify: targets.collect(),
                    admin: Admin { socket: socket.into(), state_file, watch_config, ..listener },
                }
            },
        )
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back_as_it_was(config in config()) {
        let shown = show(&config).unwrap();
        let read = parse(&shown.yaml, Path::new("shown.yaml"));
        let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{}", shown.yaml)))?;
        prop_assert_eq!(read, config);
        // JSON is YAML too.
        let read = parse(&shown.json.to_string(), Path::new("shown.json"));
        let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{}", shown.json)))?;
        prop_assert_eq!(show(&read).unwrap(), shown);
    }
}

#[test]
fn names_and_instances_are_read_back_as_they_were() {
    let text = "
services:
  - name: api
    vips: [10.0.0.100, \"fd00::100\"]
    port: 6443
    backends:
      - { name: a, address: 10.0.0.11 }
      - { name: cp, host: apiservers.example.com, weight: 7 }
  - name: own
    standalone: true
    vips: [10.0.0.101]
    port: 6443
    backends: [{ name: a, address: 10.0.0.11 }]
vrrp:
  - { name: v4, interface: eth0, vrid: 51, vips: [10.0.0.100], priority: 250, sync_group: g,
      track: { backends: { weight: -30, minimum: 2, hold: 1s }, interfaces: [{ name: eth1, weight: -9 }],
               files: [{ path: /run/x, weight: 2, reverse: true }], datapath: { weight: -7 } } }
  - { name: v6, interface: eth0, vrid: 51, priority: 250, advert_interval: 100ms, vips: [\"fd00::100\"], sync_group: g,
      track: { backends: { weight: 0 } }, announce: { refresh: 30s, rate: 50 }, linger: 3s,
      unicast_peers: [\"fd00::3\"], unicast_source: \"fd00::2\", startup_delay: 5s }
  - { name: old, interface: eth0, vrid: 7, version: 2, vips: [10.0.0.102], preempt: false,
      authentication: { type: pass, password_file: /etc/fairlead/password } }
";
    let config = parse(text, Path::new("f")).unwrap();
    let shown = show(&config).unwrap();
    assert_eq!(parse(&shown.yaml, Path::new("shown.yaml")).unwrap(), config, "{}", shown.yaml);
    assert!(shown.hidden.is_empty());
}

#[test]
fn a_password_is_hidden() {
    let text = "
services: [{ name: a, vips: [10.0.0.1], port: 1, backends: [{ name: b, address: 10.0.0.9 }] }]
vrrp: [{ name: v, interface: eth0, vrid: 5, version: 2, vips: [10.0.0.1],
         authentication: { type: pass, password: s3cret } }]
";
    let shown = show(&parse(text, Path::new("f")).unwrap()).unwrap();
    assert!(!shown.yaml.contains("s3cret") && !shown.json.to_string().contains("s3cret"));
    assert_eq!(shown.hidden, ["vrrp[0].authentication.password"]);
}
