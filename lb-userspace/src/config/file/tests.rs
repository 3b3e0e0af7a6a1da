use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rstest::rstest;

use super::super::{
    Admin, Backend, Cidr, Config, ConfigError, EXAMPLE, Fall, Family, HealthCheck, Identity,
    Limits, Mode, NamedBackends, OnAllDown, Pace, Probe, RateLimit, Request, ServerTls, Service,
    Statuses, Timeouts, Tls, Verify, XdpMode,
};
use super::parse;
use crate::config::LocalClients;
use crate::config::local_clients::Enabled;

mod hostile;
mod notify;
mod refused;
mod vrrp;

use notify::notifications;

/// The least a file must say.
const MINIMAL: &str = "\
services:
  - name: api
    vips: [10.0.0.100]
    port: 6443
    backends: [{ name: cp1, address: 10.0.0.11 }]
";

#[test]
fn minimal_file_gets_every_default() {
    assert_eq!(
        parsed(MINIMAL),
        Config {
            interfaces: Vec::new(),
            xdp_mode: XdpMode::Auto,
            replace_xdp: false,
            limits: Limits { flows: 131_072, half_open: 65_536 },
            services: vec![Service {
                name: "api".to_owned(),
                vips: vec![ip("10.0.0.100")],
                standalone: false,
                port: 6443,
                mode: Mode::Nat,
                snat_addresses: Vec::new(),
                exclusive: false,
                allow: Vec::new(),
                rate_limit: None,
                on_all_down: OnAllDown::FailOpen,
                prefer_local: false,
                drain_timeout: Duration::ZERO,
                reset_delay: Duration::from_secs(3),
                timeouts: Timeouts {
                    established: Duration::from_secs(86_400),
                    half_open: Duration::from_secs(30),
                    closing: Duration::from_secs(60),
                    half_closed: Duration::from_secs(3600),
                    closed: Duration::from_secs(2),
                },
                backends: vec![backend("cp1", 11, 6443)],
                names: Vec::new(),
                health: default_health(),
            }],
            vrrp: Vec::new(),
            sync: None,
            local_clients: LocalClients::default(),
            flow_log: None,
            notify: Vec::new(),
            admin: Admin {
                socket: PathBuf::from("/run/fairlead/admin.sock"),
                listen: None,
                token_file: None,
                tls: None,
                allowed_hosts: Vec::new(),
                state_file: None,
                watch_config: false,
            },
        }
    );
}

#[test]
fn example_says_the_defaults_that_it_claims() {
    let example = parsed(EXAMPLE);
    assert_eq!(example.interfaces, ["eth0"]);
    let backends =
        vec![backend("cp1", 11, 6443), backend("cp2", 12, 6443), backend("cp3", 13, 6443)];
    let minimal = parsed(MINIMAL);
    let service =
        Service { name: "kube-apiserver".to_owned(), backends, ..minimal.services[0].clone() };
    assert_eq!(
        example,
        Config { interfaces: vec!["eth0".to_owned()], services: vec![service], ..minimal }
    );
}

#[test]
fn every_value_can_be_other_than_the_default() {
    let config = parsed(include_str!("tests/other.yaml"));
    let service = Service {
        name: "edge_1.a-b".to_owned(),
        vips: vec![ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")],
        standalone: true,
        port: 443,
        mode: Mode::Nat,
        snat_addresses: vec![ip("10.0.0.1"), ip("10.0.0.2"), ip("fd00::1")],
        exclusive: false,
        allow: ["10.0.0.0/8", "192.0.2.77/32", "2001:db8::/32"].map(range).to_vec(),
        rate_limit: Some(RateLimit { connections_per_second: 50, burst: 200 }),
        on_all_down: OnAllDown::Reject,
        prefer_local: true,
        drain_timeout: Duration::from_secs(90),
        reset_delay: Duration::ZERO,
        timeouts: Timeouts {
            established: Duration::from_secs(48 * 3600),
            half_open: Duration::from_secs(10),
            closing: Duration::from_secs(20),
            half_closed: Duration::from_secs(300),
            closed: Duration::from_secs(5),
        },
        backends: vec![
            Backend { weight: 0, ..backend("cp1", 11, 443) },
            Backend { weight: 1000, ..backend("cp2", 12, 6444) },
            Backend { address: ip("fd00::11"), ..backend("cp1-v6", 0, 443) },
        ],
        names: vec![others()],
        health: HealthCheck {
            probe: other_probe(),
            connect_timeout: Duration::from_millis(300),
            timeout: Duration::from_millis(700),
            pace: other_pace(),
        },
    };
    assert_eq!(
        config,
        Config {
            interfaces: vec!["eth0".to_owned(), "bond0.100".to_owned()],
            xdp_mode: XdpMode::Generic,
            replace_xdp: true,
            limits: Limits { flows: 1024, half_open: 16_777_216 },
            services: vec![service],
            vrrp: Vec::new(),
            sync: None,
            local_clients: LocalClients {
                enabled: Enabled::Always,
                cgroup: Some(PathBuf::from("/sys/fs/cgroup/kubepods.slice")),
                end_in_pods: true,
            },
            flow_log: None,
            notify: notifications(),
            admin: Admin {
                socket: PathBuf::from("/tmp/a.sock"),
                listen: Some(SocketAddr::from(([10, 9, 9, 2], 9464))),
                token_file: Some(PathBuf::from("/etc/fairlead/admin-token")),
                tls: Some(ServerTls {
                    cert_file: PathBuf::from("/etc/fairlead/tls.crt"),
                    key_file: PathBuf::from("/etc/fairlead/tls.key"),
                }),
                allowed_hosts: vec!["lb1.example".to_owned(), "fd00::2".to_owned()],
                state_file: Some(PathBuf::from("/tmp/a.json")),
                watch_config: true,
            },
        }
    );
}

const fn other_pace() -> Pace {
    Pace {
        interval: Duration::from_millis(1500),
        fast_interval: Duration::from_millis(100),
        down_interval: Duration::from_secs(3),
        rise: 1,
        fall: Fall { refused: 1, timeout: 5, status: 4, certificate: 1, protocol: 7 },
        damping: Duration::ZERO,
        slow_start: Duration::from_secs(20),
        shutdown_delay: Some(Duration::from_secs(5)),
    }
}

#[test]
fn vips_of_a_config_include_snat_addresses() {
    let config = parsed(&format!("{MINIMAL}    snat_address: 10.1.0.1/32\n"));
    assert!(config.vips().contains(&ip("10.1.0.1")));
    assert_eq!(config.vips().len(), 2);
}

#[rstest]
#[case::tcp("health: { type: tcp }", Probe::Tcp)]
#[case::http("health: { type: http }", Probe::Http { request: default_request() })]
fn probes_without_tls_need_no_ca(#[case] line: &str, #[case] probe: Probe) {
    let config = parsed(&format!("{MINIMAL}    {line}\n"));
    assert_eq!(config.services[0].health, HealthCheck { probe, ..default_health() });
}

#[rstest]
#[case("250ms", 250)]
#[case("1s", 1000)]
#[case("1.5s", 1500)]
#[case("5m", 300_000)]
#[case("1m30s", 90_000)]
#[case("1h", 3_600_000)]
#[case("0", 0)]
#[case("0s", 0)]
fn durations_have_units(#[case] text: &str, #[case] millis: u64) {
    let config = parsed(&format!("{MINIMAL}    reset_delay: {text}\n"));
    assert_eq!(config.services[0].reset_delay, Duration::from_millis(millis));
}

#[test]
fn fast_interval_follows_a_shorter_interval() {
    let config = parsed(&format!("{MINIMAL}    health: {{ type: tcp, interval: 100ms }}\n"));
    assert_eq!(config.services[0].health.pace.fast_interval, Duration::from_millis(100));
}

#[test]
fn one_vip_may_have_services_on_several_ports() {
    let second = MINIMAL.replace("services:\n", "").replace("api", "other").replace("6443", "443");
    assert_eq!(parsed(&format!("{MINIMAL}{second}")).services.len(), 2);
}

#[rstest]
#[case::null_values("version:\ninterfaces:\nlimits: ~\nvrrp: null\nadmin: { listen: null }\n")]
#[case::empty_lists("interfaces: []\nvrrp: []\n")]
#[case::directive("%YAML 1.2\n---\n")]
#[case::comments("# one\n# two\n\n")]
#[case::byte_order_mark("\u{feff}")]
fn what_says_nothing_changes_nothing(#[case] head: &str) {
    assert_eq!(parsed(&format!("{head}{MINIMAL}")), parsed(MINIMAL));
}

#[test]
fn aliases_share_blocks_between_services() {
    let shared = MINIMAL.replace("[{ name", "&backends [{ name");
    let second = "  - { name: b, vips: [10.0.0.101], port: 6443, backends: *backends }\n";
    let config = parsed(&format!("{shared}{second}"));
    assert_eq!(config.services[0].backends, config.services[1].backends);
}

/// More than the parser takes unless it is told to.
#[rstest]
#[case::dsr("dsr", Mode::Dsr)]
#[case::dnat("dnat", Mode::Dnat)]
#[case::nat("nat", Mode::Nat)]
fn every_mode_is_there(#[case] word: &str, #[case] mode: Mode) {
    let service = &parsed(&format!("{MINIMAL}    mode: {word}\n")).services[0];
    assert_eq!((service.mode, service.mode.as_str()), (mode, word));
}

#[test]
fn an_exclusive_service_may_have_a_vip_of_each_family() {
    let text = MINIMAL
        .replace("[10.0.0.100]", "[10.0.0.100, \"fd00::100\"]")
        .replace("}]", "}, { name: cp1-v6, address: \"fd00::11\" }]");
    let service = &parsed(&format!("{text}    mode: dnat\n    exclusive: true\n")).services[0];
    assert!(service.exclusive);
    assert_eq!(service.families().collect::<Vec<_>>(), Family::BOTH);
    assert_eq!(service.backends[1].endpoint().to_string(), "[fd00::11]:6443");
}

#[rstest]
#[case("fd00::100")]
#[case("fd00::100/128")]
#[case("FD00:0::0100")]
fn a_service_may_be_ipv6_only(#[case] vip: &str) {
    let text =
        MINIMAL.replace("10.0.0.100", &format!("\"{vip}\"")).replace("10.0.0.11", "\"fd00::11\"");
    let service = &parsed(&text).services[0];
    assert_eq!(service.vips, [ip("fd00::100")]);
    assert_eq!(service.families().collect::<Vec<_>>(), [Family::V6]);
}

#[test]
fn burst_is_the_rate_unless_given() {
    let config = parsed(&format!("{MINIMAL}    rate_limit: {{ connections_per_second: 9 }}\n"));
    let expected = RateLimit { connections_per_second: 9, burst: 9 };
    assert_eq!(config.services[0].rate_limit, Some(expected));
}

fn parsed(text: &str) -> Config {
    parse(text, Path::new("f")).unwrap()
}

fn refusal(text: &str) -> ConfigError {
    parse(text, Path::new("/etc/fairlead/fairlead.yaml")).unwrap_err()
}

fn backend(name: &str, host: u8, port: u16) -> Backend {
    let address = Ipv4Addr::new(10, 0, 0, host).into();
    Backend { name: name.to_owned(), address, port, weight: 100 }
}

fn other_probe() -> Probe {
    Probe::Https {
        request: Request {
            path: "/k8s/readyz?verbose".to_owned(),
            degraded_path: None,
            live_path: Some("/live".to_owned()),
            host: Some("api.example.com".to_owned()),
            expect_status: Statuses::new([204..=204, 300..=302]),
        },
        tls: Tls {
            identity: Some(Identity {
                cert_file: PathBuf::from("/etc/fairlead/client.crt"),
                key_file: PathBuf::from("/etc/fairlead/client.key"),
            }),
            ..Tls::new("10.96.0.1", Verify::Skip)
        },
    }
}

fn others() -> NamedBackends {
    NamedBackends {
        name: "others".to_owned(),
        host: "apiservers.example.com".to_owned(),
        port: 6445,
        weight: 50,
    }
}

fn default_health() -> HealthCheck {
    HealthCheck {
        probe: Probe::Https {
            request: default_request(),
            tls: Tls::new("kubernetes", default_ca()),
        },
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        pace: Pace {
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(250),
            down_interval: Duration::from_secs(2),
            rise: 2,
            fall: Fall { refused: 2, timeout: 3, status: 3, certificate: 3, protocol: 3 },
            damping: Duration::from_secs(10),
            slow_start: Duration::ZERO,
            shutdown_delay: None,
        },
    }
}

#[rstest]
#[case::more("5", Fall { refused: 2, timeout: 5, status: 5, certificate: 5, protocol: 5 })]
#[case::one("1", Fall { refused: 1, timeout: 1, status: 1, certificate: 1, protocol: 1 })]
#[case::some("{ refused: 1, status: 4 }", Fall { refused: 1, status: 4, ..Fall::default() })]
#[case::none("{}", Fall::default())]
fn fall_is_a_number_or_one_for_each_class(#[case] text: &str, #[case] fall: Fall) {
    let config = parsed(&format!("{MINIMAL}    health: {{ type: tcp, fall: {text} }}\n"));
    assert_eq!(config.services[0].health.pace.fall, fall);
}

/// A backend that is down is not probed more often than one that is up, unless the file says so.
#[test]
fn the_down_interval_follows_a_long_interval() {
    let config = parsed(&format!("{MINIMAL}    health: {{ type: tcp, interval: 5s }}\n"));
    assert_eq!(config.services[0].health.pace.down_interval, Duration::from_secs(5));
}

fn default_request() -> Request {
    Request {
        degraded_path: Some("/readyz?exclude=etcd&exclude=etcd-readiness".to_owned()),
        live_path: Some("/livez".to_owned()),
        ..Request::new("/readyz")
    }
}

fn default_ca() -> Verify {
    Verify::Ca(PathBuf::from("/etc/kubernetes/pki/ca.crt"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(text: &str) -> Cidr {
    let (address, length) = text.split_once('/').unwrap();
    Cidr::containing(ip(address), length.parse().unwrap())
}
