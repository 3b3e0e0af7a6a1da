//! VRRP instances that are refused.

use rstest::rstest;

use super::super::super::super::Problem;
use super::super::{MINIMAL, refusal};
use super::assert_refused;

/// The lines follow those of `MINIMAL` and these; the next one is the ninth.
const BASE: &str = "\
vrrp:
  - { name: api, interface: eth0, vrid: 51, vips: [10.0.0.100],
";

/// The rest of the instance, in line 8.
#[rstest]
#[case::vrid_twice("vrid: 5", "8:1", "vrid", "remove one of the two")]
#[case::priority("priority: 0", "8:11", "priority", "from 1 to 255")]
#[case::priority_large("priority: 256", "8:11", "priority", "from 1 to 255")]
#[case::version("version: 4", "8:10", "version", "write 3 or 2")]
#[case::no_unit("advert_interval: 1", "8:18", "advert_interval", "write 1s or 1ms")]
#[case::short("advert_interval: 5ms", "8:18", "advert_interval", "from 10ms to 40s 950ms")]
#[case::long("advert_interval: 41s", "8:18", "advert_interval", "from 10ms to 40s 950ms")]
#[case::between("advert_interval: 15ms", "8:18", "advert_interval", "a multiple of 10ms")]
#[case::old_and_fast(
    "version: 2, advert_interval: 100ms",
    "8:30",
    "advert_interval",
    "from 1s to 4m 15s"
)]
#[case::old_and_uneven(
    "version: 2, advert_interval: 1500ms",
    "8:30",
    "advert_interval",
    "a multiple of 1s"
)]
#[case::adverts("down_timer_adverts: 0", "8:21", "down_timer_adverts", "from 1 to 100")]
#[case::preempt("preempt: maybe", "8:10", "preempt", "write true or false")]
#[case::delay_of_nothing(
    "preempt: false, preempt_delay: 5s",
    "8:32",
    "preempt_delay",
    "remove it, or write `preempt: true`"
)]
#[case::delay("preempt_delay: 2000s", "8:16", "preempt_delay", "from 0s to 16m 40s")]
#[case::startup("startup_delay: soon", "8:16", "startup_delay", "write a number and a unit")]
#[case::linger("linger: 2h", "8:9", "linger", "from 0s to 1m")]
#[case::grace("restart_grace: 123s", "8:16", "restart_grace", "from 0s to 2m 2s 850ms")]
#[case::grace_of_fewer(
    "down_timer_adverts: 1, restart_grace: 41s",
    "8:39",
    "restart_grace",
    "from 0s to 40s 950ms"
)]
#[case::old_grace("version: 2, restart_grace: 3s", "8:28", "restart_grace", "`version: 3`")]
#[case::checksum("checksum: crc", "8:11", "checksum", "write rfc5798 or rfc9568")]
#[case::old_checksum("version: 2, checksum: rfc9568", "8:23", "checksum", "remove the key")]
#[case::accept("accept: maybe", "8:9", "accept", "write true or false")]
#[case::owners_accept("priority: 255, accept: false", "8:24", "accept", "write another priority")]
#[case::group("sync_group: a b", "8:13", "sync_group", "1 to 63 letters")]
#[case::alone_in_group("sync_group: edge", "8:13", "sync_group", "name it there too, or remove it")]
#[case::peer("unicast_peers: [a]", "8:17", "unicast_peers[0]", "write one such as 10.0.0.3")]
#[case::peer_twice(
    "unicast_peers: [10.0.0.3, 10.0.0.3]",
    "8:27",
    "unicast_peers[1]",
    "remove one of the two"
)]
#[case::peer_of_other_family(
    "unicast_peers: [\"fd00::3\"]",
    "8:17",
    "unicast_peers[0]",
    "write a node's IPv4 address"
)]
#[case::peer_is_a_vip(
    "unicast_peers: [10.0.0.100]",
    "8:17",
    "unicast_peers[0]",
    "write a node's own address"
)]
#[case::peer_is_multicast(
    "unicast_peers: [224.0.0.18]",
    "8:17",
    "unicast_peers[0]",
    "that other hosts can reach"
)]
#[case::peer_is_the_source(
    "unicast_source: 10.0.0.2, unicast_peers: [10.0.0.2]",
    "8:43",
    "unicast_peers[0]",
    "name the other nodes only"
)]
#[case::source_without_peers(
    "unicast_source: 10.0.0.2",
    "8:17",
    "unicast_source",
    "add them, or remove the key"
)]
#[case::password_in_version_3(
    "authentication: { password: secret }",
    "8:17",
    "authentication",
    "write `version: 2` on all nodes"
)]
#[case::ah(
    "version: 2, authentication: { type: ah, password: secret }",
    "8:37",
    "authentication.type",
    "write pass on all nodes"
)]
#[case::authentication_type(
    "version: 2, authentication: { type: md5, password: secret }",
    "8:37",
    "authentication.type",
    "write pass"
)]
#[case::long_password(
    "version: 2, authentication: { password: secret-42 }",
    "8:41",
    "authentication.password",
    "write 1 to 8 letters"
)]
#[case::no_password(
    "version: 2, authentication: { type: pass }",
    "8:29",
    "authentication.password",
    "add `password:` or `password_file:`"
)]
#[case::two_passwords(
    "version: 2, authentication: { password: a, password_file: /a }",
    "8:59",
    "authentication.password_file",
    "remove one of the two"
)]
#[case::relative_password_file(
    "version: 2, authentication: { password_file: a }",
    "8:46",
    "authentication.password_file",
    "write one such as /etc/fairlead/vrrp-password"
)]
#[case::refresh("announce: { refresh: 2h }", "8:22", "announce.refresh", "from 0s to 1h")]
#[case::rate("announce: { rate: 1 }", "8:19", "announce.rate", "from 10 to 100000")]
#[case::weight(
    "track: { datapath: { weight: -254 } }",
    "8:30",
    "track.datapath.weight",
    "from -253 to 253"
)]
#[case::backends_never_help(
    "track: { backends: { weight: 20 } }",
    "8:30",
    "track.backends.weight",
    "from -253 to 0"
)]
#[case::minimum("track: { backends: { minimum: 0 } }", "8:31", "track.backends.minimum", "from 1")]
#[case::tracked_interface(
    "track: { interfaces: [{ weight: -5 }] }",
    "8:23",
    "track.interfaces[0].name",
    "add `name: eth1`"
)]
#[case::tracked_file(
    "track: { files: [{ path: a }] }",
    "8:26",
    "track.files[0].path",
    "write one such as /run/fairlead/maintenance"
)]
#[case::weight_without_preemption(
    "preempt: false, track: { interfaces: [{ name: eth1, weight: -20 }] }",
    "8:61",
    "track.interfaces[0].weight",
    "write `preempt: true`, or remove the weight"
)]
#[case::backends_without_preemption(
    "preempt: false, track: { backends: { weight: -20 } }",
    "8:46",
    "track.backends.weight",
    "write `preempt: true`, or remove the weight"
)]
#[case::unknown("prio: 5", "8:1", "prio", "did you mean `priority`?")]
fn instances(#[case] line: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    let text = format!("{MINIMAL}{BASE}{line} }}\n");
    assert_refused(&text, place, &format!("vrrp[0].{key}"), remedy);
}

/// A whole `vrrp` section, which starts in line 6; one of its problems.
#[rstest]
#[case::no_name("[{ vrid: 1 }]", "6:8", "vrrp[0].name", "add `name: api`")]
#[case::no_interface("[{ vrid: 1 }]", "6:8", "vrrp[0].interface", "add `interface: eth0`")]
#[case::no_vrid("[{ name: a }]", "6:8", "vrrp[0].vrid", "add `vrid: 51`")]
#[case::no_vips("[{ name: a }]", "6:8", "vrrp[0].vips", "add `vips: [10.0.0.100]`")]
#[case::empty_vips("[{ vips: [] }]", "6:16", "vrrp[0].vips", "write the VIPs that are to move")]
#[case::vrid("[{ vrid: 0 }]", "6:16", "vrrp[0].vrid", "from 1 to 255")]
#[case::name("[{ name: a b }]", "6:16", "vrrp[0].name", "1 to 63 letters")]
#[case::interface("[{ interface: a/b }]", "6:21", "vrrp[0].interface", "`ip link` shows")]
#[case::prefix("[{ vips: [10.0.0.100/24] }]", "6:17", "vrrp[0].vips[0]", "write 10.0.0.100")]
#[case::vip_twice(
    "[{ vips: [10.0.0.100, 10.0.0.100] }]",
    "6:29",
    "vrrp[0].vips[1]",
    "remove one of the two"
)]
#[case::two_families(
    "[{ vips: [10.0.0.100, \"fd00::1\"] }]",
    "6:29",
    "vrrp[0].vips[1]",
    "an instance of its own, and both the same `sync_group`"
)]
#[case::version_2_with_ipv6(
    "[{ version: 2, vips: [\"fd00::1\"] }]",
    "6:29",
    "vrrp[0].vips[0]",
    "write `version: 3`"
)]
#[case::link_local_v4(
    "[{ vips: [169.254.0.1] }]",
    "6:17",
    "vrrp[0].vips[0]",
    "that other hosts can reach"
)]
#[case::same_name("[{ name: a }, { name: a }]", "6:29", "vrrp[1].name", "give each its own name")]
#[case::same_vrid(
    "[{ interface: a, vrid: 1, vips: [10.0.0.100] }, { interface: a, vrid: 1, vips: [10.0.0.2] }]",
    "6:77",
    "vrrp[1].vrid",
    "take another"
)]
#[case::vip_in_two(
    "[{ interface: a, vips: [10.0.0.100] }, { interface: b, vips: [10.0.0.100] }]",
    "6:69",
    "vrrp[1].vips[0]",
    "remove it from one of the two"
)]
#[case::group_priorities(
    "[{ sync_group: g, priority: 5 }, { sync_group: g, priority: 6 }]",
    "6:67",
    "vrrp[1].priority",
    "write the same for all"
)]
#[case::group_preempts(
    "[{ sync_group: g }, { sync_group: g, preempt: false }]",
    "6:53",
    "vrrp[1].preempt",
    "write the same for all"
)]
#[case::vip_without_instance(
    "[{ vips: [10.0.0.101] }]",
    "3:12",
    "services[0].vips[0]",
    "add it to the vips of one, or write `standalone: true`"
)]
fn sections(#[case] section: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    let error = refusal(&format!("{MINIMAL}vrrp: {section}\n"));
    let is_it = |problem: &&Problem| {
        let found = format!("{}:{}", problem.line, problem.column);
        (found.as_str(), problem.key.as_str()) == (place, key) && problem.message.contains(remedy)
    };
    assert_eq!(error.problems().iter().filter(is_it).count(), 1, "{error}");
}

#[test]
fn a_standalone_service_has_no_vip_of_an_instance() {
    let service = MINIMAL.replace("port: 6443", "standalone: true\n    port: 6443");
    let text = format!("{service}{BASE} }}\n");
    assert_refused(&text, "3:12", "services[0].vips[0]", "so the service is not standalone");
}

#[test]
fn snat_addresses_have_to_move_too() {
    let text = format!("{MINIMAL}    snat_address: 10.1.0.100\n{BASE} }}\n");
    assert_refused(&text, "6:19", "services[0].snat_address", "10.1.0.100 is in no instance");
}

/// The message is read by whoever sees the log.
#[test]
fn a_password_is_not_repeated() {
    let text =
        format!("{MINIMAL}{BASE} version: 2, authentication: {{ password: hunter2-hunter2 }} }}\n");
    let error = refusal(&text).to_string();
    assert!(error.contains("keepalived cuts longer ones") && !error.contains("hunter2"), "{error}");
}
