//! VRRP instances that are right.

use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;

use super::super::super::Family;
use super::super::super::vrrp::{
    Announce, Effect, Track, TrackedBackends, TrackedFile, TrackedInterface, Vrrp,
};
use super::{EXAMPLE, MINIMAL, ip, parsed};
use crate::vrrp::Version;
use crate::vrrp::packet::ChecksumForm;
use crate::vrrp::settings::Password;

/// The least an instance must say.
const INSTANCE: &str = "vrrp:\n  - { name: api, interface: eth0, vrid: 51, vips: [10.0.0.100] }\n";

fn default_instance() -> Vrrp {
    Vrrp {
        name: "api".to_owned(),
        interface: "eth0".to_owned(),
        vrid: 51,
        priority: 100,
        version: Version::V3,
        advert_interval: Duration::from_secs(1),
        down_timer_adverts: 3,
        preempt: true,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        vips: vec![ip("10.0.0.100")],
        unicast_peers: Vec::new(),
        unicast_source: None,
        password: None,
        password_file: None,
        checksum: ChecksumForm::PseudoHeader,
        accept: true,
        linger: Duration::from_secs(2),
        restart_grace: Duration::from_secs(3),
        track: Track {
            interfaces: Vec::new(),
            files: Vec::new(),
            backends: Some(TrackedBackends {
                weight: -20,
                minimum: 1,
                hold: Duration::from_secs(3),
            }),
            datapath: Some(Effect { weight: -50, reverse: false }),
        },
        announce: Announce { refresh: Duration::from_secs(60), rate: 1000 },
        sync_group: None,
    }
}

#[test]
fn minimal_instance_gets_every_default() {
    assert_eq!(parsed(&format!("{MINIMAL}{INSTANCE}")).vrrp, [default_instance()]);
}

#[test]
fn the_example_says_the_defaults_in_its_comments() {
    let (head, commented) = EXAMPLE.split_once("# vrrp:\n").unwrap();
    let (instance, tail) = commented.split_once("vrrp: []\n").unwrap();
    let line = |line: &str| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n";
    let instance: String = instance.lines().map(line).collect();
    let config = parsed(&format!("{head}vrrp:\n{instance}{tail}"));
    assert_eq!(config.vrrp, [default_instance()]);
}

#[test]
fn every_value_of_an_instance_can_be_other_than_the_default() {
    let text = "
vrrp:
  - name: old
    interface: bond0.100
    vrid: 255
    priority: 255
    version: 2
    advert_interval: 5s
    down_timer_adverts: 5
    preempt: true
    preempt_delay: 30s
    startup_delay: 10s
    vips: [10.0.0.100/32, 10.0.0.101]
    unicast_peers: [10.0.0.3, 10.0.0.4]
    unicast_source: 10.0.0.2
    authentication: { type: pass, password: secret }
    accept: true
    linger: 0s
    track:
      interfaces: [{ name: eth1, weight: -30, reverse: true }, { name: eth2 }]
      files: [{ path: /run/x, weight: 2, reverse: true }, { path: /run/y }]
      backends: { weight: -100, minimum: 2, hold: 0s }
      datapath: { weight: 0 }
    announce: { refresh: 0s, rate: 50 }
";
    let effect = |weight, reverse| Effect { weight, reverse };
    let interface = |name: &str, effect| TrackedInterface { name: name.to_owned(), effect };
    let file = |path: &str, effect| TrackedFile { path: PathBuf::from(path), effect };
    let expected = Vrrp {
        name: "old".to_owned(),
        interface: "bond0.100".to_owned(),
        vrid: 255,
        priority: 255,
        version: Version::V2,
        advert_interval: Duration::from_secs(5),
        down_timer_adverts: 5,
        preempt_delay: Duration::from_secs(30),
        startup_delay: Duration::from_secs(10),
        vips: vec![ip("10.0.0.100"), ip("10.0.0.101")],
        unicast_peers: vec![ip("10.0.0.3"), ip("10.0.0.4")],
        unicast_source: Some(ip("10.0.0.2")),
        password: Some(Password(*b"secret\0\0")),
        linger: Duration::ZERO,
        restart_grace: Duration::ZERO,
        track: Track {
            interfaces: vec![
                interface("eth1", effect(-30, true)),
                interface("eth2", effect(0, false)),
            ],
            files: vec![file("/run/x", effect(2, true)), file("/run/y", effect(1, false))],
            backends: Some(TrackedBackends { weight: -100, minimum: 2, hold: Duration::ZERO }),
            datapath: Some(effect(0, false)),
        },
        announce: Announce { refresh: Duration::ZERO, rate: 50 },
        ..default_instance()
    };
    assert_eq!(parsed(&format!("{MINIMAL}{text}")).vrrp, [expected]);
}

#[test]
fn a_dual_stack_pair_moves_together() {
    let text = MINIMAL
        .replace("[10.0.0.100]", "[10.0.0.100, \"fd00::100\"]")
        .replace("}]", "}, { name: cp1-v6, address: \"fd00::11\" }]");
    let vrrp = "
vrrp:
  - { name: v4, interface: eth0, vrid: 51, vips: [10.0.0.100], sync_group: edge }
  - { name: v6, interface: eth0, vrid: 51, vips: [\"fd00::100\", \"fe80::1\"], sync_group: edge,
      unicast_peers: [\"fe80::2\"] }
";
    let config = parsed(&format!("{text}{vrrp}"));
    let families: Vec<Family> = config.vrrp.iter().map(Vrrp::family).collect();
    assert_eq!(families, [Family::V4, Family::V6]);
    assert_eq!(config.vrrp[1].vips, [ip("fe80::1"), ip("fd00::100")], "link-local first");
    assert!(config.vips().contains(&ip("fe80::1")));
    assert!(config.standalone_vips().is_empty());
}

#[test]
fn without_preemption_nothing_is_tracked_by_default() {
    let text = INSTANCE.replace("vrid: 51", "vrid: 51, preempt: false");
    let instance = &parsed(&format!("{MINIMAL}{text}")).vrrp[0];
    assert!(!instance.preempt);
    assert_eq!(instance.track, Track::default());
}

#[test]
fn a_weight_of_zero_ignores_the_backends() {
    let text = INSTANCE.replace("vrid: 51", "vrid: 51, track: { backends: { weight: 0 } }");
    assert_eq!(parsed(&format!("{MINIMAL}{text}")).vrrp[0].track.backends, None);
}

#[test]
fn a_standalone_service_is_on_this_node_only() {
    let other = "
services:
  - { name: b, standalone: true, vips: [10.0.0.101], snat_address: 10.0.0.102, port: 1,
      backends: [{ name: b, address: 10.0.0.12 }] }
";
    let text = MINIMAL.replace("services:\n", other.trim_start());
    let config = parsed(&format!("{text}{INSTANCE}"));
    let standalone: Vec<_> = config.standalone_vips().into_iter().collect();
    assert_eq!(standalone, [ip("10.0.0.101"), ip("10.0.0.102")]);
    assert_eq!(config.vips().len(), 3);
}

/// 12 bits of centiseconds, so many times over.
#[rstest]
#[case("restart_grace: 122850ms", 122_850)]
#[case("restart_grace: 0s", 0)]
#[case("down_timer_adverts: 100, restart_grace: 4095s", 4_095_000)]
#[case("version: 2", 0)]
#[case("version: 2, restart_grace: 0s", 0)]
fn a_restart_is_waited_for_as_long_as_can_be_announced(#[case] keys: &str, #[case] millis: u64) {
    let text = INSTANCE.replace("vrid: 51", &format!("vrid: 51, {keys}"));
    let instance = &parsed(&format!("{MINIMAL}{text}")).vrrp[0];
    assert_eq!(instance.restart_grace, Duration::from_millis(millis));
}

#[rstest]
#[case("10ms", 10)]
#[case("100ms", 100)]
#[case("40.95s", 40_950)]
fn version_3_counts_centiseconds(#[case] text: &str, #[case] millis: u64) {
    let text = INSTANCE.replace("vrid: 51", &format!("vrid: 51, advert_interval: {text}"));
    let instance = &parsed(&format!("{MINIMAL}{text}")).vrrp[0];
    assert_eq!(instance.advert_interval, Duration::from_millis(millis));
}
