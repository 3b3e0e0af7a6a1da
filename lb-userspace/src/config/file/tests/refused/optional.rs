//! Keys that a service may have.

use rstest::rstest;

use super::super::MINIMAL;
use super::assert_refused;

/// The line follows those of `MINIMAL`, as the sixth.
#[rstest]
#[case::standalone("standalone: yes", "6:17", "standalone", "write false or true")]
#[case::mode("mode: masquerade", "6:11", "mode", "write nat or dnat or dsr")]
#[case::snat("snat_address: 10.1.0.1/24", "6:19", "snat_address", "write 10.1.0.1")]
#[case::snat_number("snat_address: 5", "6:19", "snat_address", "write one such as")]
#[case::snat_mapping(
    "snat_address: { a: b }",
    "6:19",
    "snat_address",
    "write one value or a list of them"
)]
#[case::snat_twice(
    "snat_address: [10.1.0.1, 10.1.0.1]",
    "6:30",
    "snat_address[1]",
    "remove one of the two"
)]
#[case::snat_many(
    "snat_address: [1.0.0.1, 1.0.0.2, 1.0.0.3, 1.0.0.4, 1.0.0.5]",
    "6:19",
    "snat_address",
    "write at most 4"
)]
#[case::snat_is_a_backend(
    "snat_address: 10.0.0.11",
    "5:38",
    "backends[0].address",
    "write the apiserver's own address"
)]
#[case::on_all_down("on_all_down: fail", "6:18", "on_all_down", "write fail_open or reject")]
#[case::no_unit("reset_delay: 3", "6:18", "reset_delay", "write 3s or 3ms")]
#[case::no_duration(
    "reset_delay: soon",
    "6:18",
    "reset_delay",
    "250ms, 1s, 1.5s, 5m, 24h or 1m30s"
)]
#[case::negative("reset_delay: -1s", "6:18", "reset_delay", "write a number and a unit")]
#[case::days("drain_timeout: 1d", "6:20", "drain_timeout", "write a number and a unit")]
#[case::long("drain_timeout: 1000h", "6:20", "drain_timeout", "from 0s to 168h")]
#[case::idle("timeouts: { half_open: 0s }", "6:28", "timeouts.half_open", "from 1s to 1h")]
#[case::type_("health: { type: grpc }", "6:21", "health.type", "write https or http or tcp")]
#[case::both(
    "health: { ca_file: /a, insecure_skip_verify: true }",
    "6:50",
    "health.insecure_skip_verify",
    "keep ca_file, or remove it"
)]
#[case::relative_ca(
    "health: { ca_file: ca.crt }",
    "6:24",
    "health.ca_file",
    "write one such as /etc/kubernetes/pki/ca.crt"
)]
#[case::http_with_ca(
    "health: { type: http, ca_file: /a }",
    "6:36",
    "health.ca_file",
    "remove it, or write `type: https`"
)]
#[case::tcp_with_path(
    "health: { type: tcp, path: /a }",
    "6:32",
    "health.path",
    "remove it, or write `type: https`"
)]
#[case::path(
    "health: { type: http, path: readyz }",
    "6:33",
    "health.path",
    "write one that starts with /"
)]
#[case::path_with_space(
    "health: { type: http, path: /a b }",
    "6:33",
    "health.path",
    "has no spaces"
)]
#[case::server_name(
    "health: { ca_file: /a, server_name: a b }",
    "6:41",
    "health.server_name",
    "such as kubernetes"
)]
#[case::interval(
    "health: { type: tcp, interval: 0s }",
    "6:36",
    "health.interval",
    "from 10ms to 1h"
)]
#[case::interval_number(
    "health: { type: tcp, interval: 1 }",
    "6:36",
    "health.interval",
    "write 1s or 1ms"
)]
#[case::fast(
    "health: { type: tcp, fast_interval: 2s }",
    "6:41",
    "health.fast_interval",
    "write at most 1s, or remove the key"
)]
#[case::timeout("health: { type: tcp, timeout: 2m }", "6:35", "health.timeout", "from 10ms to 1m")]
#[case::connect_timeout(
    "health: { type: tcp, connect_timeout: 2s }",
    "6:43",
    "health.connect_timeout",
    "write at most 1s, or remove the key"
)]
#[case::degraded_path(
    "health: { degraded_path: a }",
    "6:30",
    "health.degraded_path",
    "write one that starts with /"
)]
#[case::live_path("health: { live_path: '/a b' }", "6:26", "health.live_path", "has no spaces")]
#[case::live_path_of_tcp(
    "health: { type: tcp, live_path: /a }",
    "6:37",
    "health.live_path",
    "remove it, or write `type: https`"
)]
#[case::host("health: { host: a b }", "6:21", "health.host", "such as api.example.com:6443")]
#[case::host_is_a_url("health: { host: 'a/b' }", "6:21", "health.host", "write a name")]
#[case::status("health: { expect_status: ok }", "6:30", "health.expect_status", "from 200 to 599")]
#[case::early_status("health: { expect_status: 101 }", "6:30", "health.expect_status", "200-299")]
#[case::statuses(
    "health: { expect_status: [200, 300-299] }",
    "6:36",
    "health.expect_status[1]",
    "a range such as 200-299"
)]
#[case::no_status("health: { expect_status: [] }", "6:30", "health.expect_status", "1 to 32")]
#[case::client_cert_alone(
    "health: { client_cert_file: /a }",
    "6:13",
    "health.client_key_file",
    "add the key of client_cert_file"
)]
#[case::client_key_alone(
    "health: { client_key_file: /a }",
    "6:13",
    "health.client_cert_file",
    "add the certificate of client_key_file"
)]
#[case::relative_client_key(
    "health: { client_cert_file: /a, client_key_file: b }",
    "6:54",
    "health.client_key_file",
    "write one such as /etc/fairlead/client.key"
)]
#[case::token_for_anyone(
    "health: { insecure_skip_verify: true, token_file: /a }",
    "6:55",
    "health.token_file",
    "write ca_file in place of insecure_skip_verify"
)]
#[case::token_in_clear(
    "health: { type: http, token_file: /a }",
    "6:39",
    "health.token_file",
    "remove it, or write `type: https`"
)]
#[case::rise("health: { type: tcp, rise: 0 }", "6:32", "health.rise", "from 1 to 100")]
#[case::fall("health: { type: tcp, fall: 101 }", "6:32", "health.fall", "from 1 to 100")]
#[case::fall_text("health: { type: tcp, fall: no }", "6:32", "health.fall", "from 1 to 100")]
#[case::fall_part("health: { type: tcp, fall: 1.5 }", "6:32", "health.fall", "from 1 to 100")]
#[case::fall_of_a_class(
    "health: { type: tcp, fall: { timeout: 0 } }",
    "6:43",
    "health.fall.timeout",
    "from 1 to 100"
)]
#[case::fall_of_no_class(
    "health: { type: tcp, fall: { time: 1 } }",
    "6:34",
    "health.fall.time",
    "did you mean `timeout`?"
)]
#[case::fall_list("health: { type: tcp, fall: [1] }", "6:26", "health.fall", "write a number")]
#[case::down(
    "health: { type: tcp, down_interval: 2h }",
    "6:41",
    "health.down_interval",
    "from 10ms to 1h"
)]
#[case::damping("health: { type: tcp, damping: 2h }", "6:35", "health.damping", "from 0s to 1h")]
#[case::slow_start(
    "health: { type: tcp, slow_start: 9 }",
    "6:38",
    "health.slow_start",
    "write 9s or 9ms"
)]
#[case::shutdown_delay(
    "health: { type: tcp, shutdown_delay: soon }",
    "6:42",
    "health.shutdown_delay",
    "write a number and a unit"
)]
fn more_of_services(
    #[case] line: &str,
    #[case] place: &str,
    #[case] key: &str,
    #[case] remedy: &str,
) {
    let text = format!("{MINIMAL}    {line}\n");
    assert_refused(&text, place, &format!("services[0].{key}"), remedy);
}
