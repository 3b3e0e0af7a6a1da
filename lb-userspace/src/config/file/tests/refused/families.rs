//! IPv6, and what belongs together in one family.

use rstest::rstest;

use super::super::MINIMAL;
use super::assert_refused;

const VIP: &str = "10.0.0.100";
const BACKEND: &str = "10.0.0.11";

/// A part of `MINIMAL` becomes another.
#[rstest]
#[case::prefix(
    VIP,
    "\"fd00::1/64\"",
    "3:12",
    "vips[0]",
    "write fd00::1 (a VIP is always added as /128)"
)]
#[case::v4_prefix(VIP, "10.0.0.100/128", "3:12", "vips[0]", "always added as /32")]
#[case::port(
    VIP,
    "\"[fd00::1]:6443\"",
    "3:12",
    "vips[0]",
    "write fd00::1 here and 6443 under `port`"
)]
#[case::zone(
    VIP,
    "\"fe80::1%eth0\"",
    "3:12",
    "vips[0]",
    "write one such as 10.0.0.100 or fd00::100"
)]
#[case::brackets(VIP, "\"[fd00::1]\"", "3:12", "vips[0]", "is no IP address")]
#[case::link_local(VIP, "\"fe80::1\"", "3:12", "vips[0]", "a link-local address; write")]
#[case::link_local_v4(VIP, "169.254.0.1", "3:12", "vips[0]", "a link-local address; write")]
#[case::zero_net(VIP, "0.1.2.3", "3:12", "vips[0]", "for no host; write")]
#[case::unspecified(VIP, "\"::\"", "3:12", "vips[0]", "the unspecified address; write")]
#[case::loopback(VIP, "\"::1\"", "3:12", "vips[0]", "a loopback address; write")]
#[case::multicast(VIP, "\"ff02::1\"", "3:12", "vips[0]", "a multicast address; write")]
#[case::mapped(VIP, "\"::ffff:10.0.0.100\"", "3:12", "vips[0]", "in IPv6 form; write 10.0.0.100")]
#[case::vip_without_backend(
    VIP,
    "10.0.0.100, \"fd00::1\"",
    "3:24",
    "vips[1]",
    "no backend has an IPv6 address; add one that has, or remove the VIP"
)]
#[case::v4_vip_without_backend(
    "10.0.0.100]\n    port: 6443\n    backends: [{ name: cp1, address: 10.0.0.11 }",
    "10.0.0.100, \"fd00::1\"]\n    port: 6443\n    backends: [{ name: cp1, address: \"fd00::11\" }",
    "3:12",
    "vips[0]",
    "no backend has an IPv4 address"
)]
#[case::backend_without_vip(
    BACKEND,
    "\"fd00::11\"",
    "5:38",
    "backends[0].address",
    "the service has no IPv6 VIP; add one to `vips`, or remove the backend"
)]
#[case::backend_link_local(
    BACKEND,
    "\"fe80::11\"",
    "5:38",
    "backends[0].address",
    "link-local address"
)]
#[case::backend_multicast(
    BACKEND,
    "\"ff02::2\"",
    "5:38",
    "backends[0].address",
    "multicast address"
)]
#[case::backend_mapped(
    BACKEND,
    "\"::ffff:10.0.0.11\"",
    "5:38",
    "backends[0].address",
    "write 10.0.0.11"
)]
#[case::backend_port(
    BACKEND,
    "\"[fd00::11]:6443\"",
    "5:38",
    "backends[0].address",
    "write fd00::11 here and 6443 under `port`"
)]
#[case::second_backend(
    "}]",
    "}, { name: b, address: \"fd00::12\" }]",
    "5:71",
    "backends[1].address",
    "fd00::12 is IPv6, but the service has no IPv6 VIP"
)]
fn addresses(
    #[case] from: &str,
    #[case] to: &str,
    #[case] place: &str,
    #[case] key: &str,
    #[case] remedy: &str,
) {
    assert_refused(&MINIMAL.replace(from, to), place, &format!("services[0].{key}"), remedy);
}

/// The line follows those of `MINIMAL`, as the sixth.
#[rstest]
#[case::snat_family("snat_address: \"fd00::1\"", "6:19", "snat_address", "no IPv6 VIP; remove it")]
#[case::snat_link_local(
    "snat_address: \"fe80::1\"",
    "6:19",
    "snat_address",
    "a link-local address"
)]
#[case::allow_text("allow: 10.0.0.0/8", "6:12", "allow", "write one: [a, b]")]
#[case::allow_name("allow: [office]", "6:13", "allow[0]", "write one such as 10.0.0.0/8")]
#[case::allow_long("allow: [10.0.0.0/33]", "6:13", "allow[0]", "is no range of addresses")]
#[case::allow_no_length("allow: [10.0.0.0/]", "6:13", "allow[0]", "is no range of addresses")]
#[case::allow_mask("allow: [10.0.0.0/255.0.0.0]", "6:13", "allow[0]", "is no range of addresses")]
#[case::allow_plus("allow: [10.0.0.0/+8]", "6:13", "allow[0]", "is no range of addresses")]
#[case::allow_host_bits(
    "allow: [10.1.2.3/8]",
    "6:13",
    "allow[0]",
    "beyond its prefix; write 10.0.0.0/8"
)]
#[case::allow_host_bits_v6("allow: [\"fd00::1/64\"]", "6:13", "allow[0]", "write fd00::/64")]
#[case::allow_mapped("allow: [\"::ffff:10.0.0.0/104\"]", "6:13", "allow[0]", "write it as IPv4")]
#[case::allow_family(
    "allow: [10.0.0.0/8, \"fd00::/8\"]",
    "6:25",
    "allow[1]",
    "no IPv6 VIP; remove it"
)]
#[case::allow_twice(
    "allow: [10.0.0.1, 10.0.0.1/32]",
    "6:23",
    "allow[1]",
    "10.0.0.1/32 is in the list already"
)]
#[case::rate_empty(
    "rate_limit: { burst: 5 }",
    "6:17",
    "rate_limit.connections_per_second",
    "add `connections_per_second: 100`"
)]
#[case::rate_zero(
    "rate_limit: { connections_per_second: 0 }",
    "6:43",
    "rate_limit.connections_per_second",
    "from 1 to 65535"
)]
#[case::rate_burst(
    "rate_limit: { connections_per_second: 5, burst: 0 }",
    "6:53",
    "rate_limit.burst",
    "from 1 to 65535"
)]
#[case::rate_number("rate_limit: 100", "6:17", "rate_limit", "write `key: value` lines")]
#[case::rate_unit(
    "rate_limit: { connections_per_second: 5/s }",
    "6:43",
    "rate_limit.connections_per_second",
    "a whole number"
)]
#[case::exclusive("exclusive: yes", "6:16", "exclusive", "write false or true")]
#[case::exclusive_nat(
    "exclusive: true",
    "6:16",
    "exclusive",
    "remove the key, or write `mode: dnat`"
)]
#[case::weeks("timeouts: { established: 337h }", "6:30", "timeouts.established", "from 1s to 336h")]
fn access(#[case] line: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    let text = format!("{MINIMAL}    {line}\n");
    assert_refused(&text, place, &format!("services[0].{key}"), remedy);
}

#[test]
fn one_address_may_be_written_in_two_ways() {
    let text =
        MINIMAL.replace(VIP, "\"fd00::1\", \"fd00:0::1/128\"").replace(BACKEND, "\"fd00::11\"");
    let remedy = "fd00::1 is in the list already; remove one";
    assert_refused(&text, "3:23", "services[0].vips[1]", remedy);
}

#[test]
fn dsr_leaves_ports_as_they_are() {
    let text = MINIMAL.replace("10.0.0.11", "10.0.0.11, port: 443") + "    mode: dsr\n";
    let remedy = "write 6443, or `mode: nat`";
    assert_refused(&text, "5:55", "services[0].backends[0].port", remedy);
}

#[test]
fn dsr_has_no_snat() {
    let text = format!("{MINIMAL}    mode: dsr\n    snat_address: 10.0.0.1\n");
    assert_refused(
        &text,
        "7:19",
        "services[0].snat_address",
        "remove the key, or write `mode: nat`",
    );
}

#[test]
fn dsr_is_not_exclusive() {
    let text = format!("{MINIMAL}    mode: dsr\n    exclusive: true\n");
    assert_refused(&text, "7:16", "services[0].exclusive", "write `mode: dnat`");
}

#[test]
fn an_exclusive_service_has_one_vip_of_a_family() {
    let text =
        MINIMAL.replace(VIP, "10.0.0.100, 10.0.0.101") + "    mode: dnat\n    exclusive: true\n";
    let remedy = "make it a service of its own, or remove `exclusive`";
    assert_refused(&text, "3:24", "services[0].vips[1]", remedy);
}

/// What the second service, on another VIP with the same backend, says.
#[rstest]
#[case::both("mode: dnat, exclusive: true")]
#[case::the_first("mode: dnat")]
fn an_exclusive_endpoint_is_of_one_dnat_service(#[case] second: &str) {
    let text = format!(
        "{MINIMAL}    mode: dnat\n    exclusive: true\n  - {{ name: b, vips: [10.0.0.101], port: 443, \
         backends: [{{ name: a, address: 10.0.0.11, port: 6443 }}], {second} }}\n"
    );
    let remedy =
        "is services[0].backends[0].address too, so its replies could be of either service";
    assert_refused(&text, "8:78", "services[1].backends[0].address", remedy);
}

#[test]
fn a_vip_is_of_one_service_in_ipv6_too() {
    let text = MINIMAL.replace(VIP, "\"fd00::1\"").replace(BACKEND, "\"fd00::11\"");
    let second = text.replace("services:\n", "").replace("api", "b");
    let remedy = "services[0] has [fd00::1]:6443 already; take another VIP or port";
    assert_refused(&format!("{text}{second}"), "7:12", "services[1].vips[0]", remedy);
}
