//! Keys that every service has.

use rstest::rstest;

use super::super::MINIMAL;
use super::assert_refused;

/// A line of `MINIMAL` becomes another; its indentation is 4.
#[rstest]
#[case::no_name("name: api", "standalone: true", "2:5", "name", "add `name: kube-apiserver`")]
#[case::name("name: api", "name: a b", "2:11", "name", "letters, digits, dots")]
#[case::empty_name("name: api", "name: \"\"", "2:11", "name", "1 to 63 letters")]
#[case::no_port("port: 6443", "mode: nat", "2:5", "port", "add `port: 6443`")]
#[case::port_zero("port: 6443", "port: 0", "4:11", "port", "from 1 to 65535")]
#[case::port_above("port: 6443", "port: 65536", "4:11", "port", "from 1 to 65535")]
#[case::port_is_a_word("port: 6443", "port: https", "4:11", "port", "from 1 to 65535")]
#[case::port_is_a_list("port: 6443", "port: [6443]", "4:11", "port", "write one on the key's line")]
#[case::no_vips("vips: [10.0.0.100]", "mode: nat", "2:5", "vips", "add `vips: [10.0.0.100]`")]
#[case::empty_vips(
    "vips: [10.0.0.100]",
    "vips: []",
    "3:11",
    "vips",
    "write the address that clients use"
)]
#[case::one_vip("[10.0.0.100]", "10.0.0.100", "3:11", "vips", "write one: [a, b]")]
#[case::prefix(
    "10.0.0.100",
    "10.0.0.100/24",
    "3:12",
    "vips[0]",
    "write 10.0.0.100 (a VIP is always added as /32)"
)]
#[case::vip_has_a_port(
    "10.0.0.100",
    "\"10.0.0.100:6443\"",
    "3:12",
    "vips[0]",
    "write 10.0.0.100 here and 6443 under `port`"
)]
#[case::vip_is_a_name("10.0.0.100", "api.example", "3:12", "vips[0]", "names are not looked up")]
#[case::unspecified(
    "10.0.0.100",
    "0.0.0.0",
    "3:12",
    "vips[0]",
    "unspecified address; write an address that other hosts can reach"
)]
#[case::loopback("10.0.0.100", "127.0.0.1", "3:12", "vips[0]", "loopback address; write")]
#[case::multicast("10.0.0.100", "224.0.0.18", "3:12", "vips[0]", "multicast address; write")]
#[case::broadcast("10.0.0.100", "255.255.255.255", "3:12", "vips[0]", "broadcast address; write")]
#[case::vip_twice(
    "10.0.0.100",
    "10.0.0.100, 10.0.0.100/32",
    "3:24",
    "vips[1]",
    "remove one of the two"
)]
#[case::no_backends(
    "backends: [{ name: cp1, address: 10.0.0.11 }]",
    "mode: nat",
    "2:5",
    "backends",
    "add `backends:` with a name and an address"
)]
#[case::empty_backends(
    "[{ name: cp1, address: 10.0.0.11 }]",
    "[]",
    "5:15",
    "backends",
    "write `backends:`"
)]
#[case::nameless_backend("name: cp1, ", "", "5:16", "backends[0].name", "`name: cp1`")]
#[case::backend_nowhere(
    ", address: 10.0.0.11",
    "",
    "5:16",
    "backends[0].address",
    "`address: 10.0.0.11`"
)]
#[case::backend_name("cp1", "cp/1", "5:24", "backends[0].name", "letters, digits")]
#[case::backend_is_a_name(
    "10.0.0.11",
    "cp1.example",
    "5:38",
    "backends[0].address",
    "or a name under `host`"
)]
#[case::backend_has_both(
    "address: 10.0.0.11",
    "address: 10.0.0.11, host: cp.example",
    "5:55",
    "backends[0].host",
    "remove one of the two"
)]
#[case::host_is_an_address(
    "address: 10.0.0.11",
    "host: fd00::1",
    "5:35",
    "backends[0].host",
    "write `address: fd00::1` in place of `host`"
)]
#[case::host_is_nearly_an_address(
    "address: 10.0.0.11",
    "host: 10.0.0.256",
    "5:35",
    "backends[0].host",
    "write one such as apiservers.example.com"
)]
#[case::host_is_no_name(
    "address: 10.0.0.11",
    "host: a..b",
    "5:35",
    "backends[0].host",
    "letters, digits, hyphens"
)]
#[case::host_twice(
    "}]",
    "}, { name: a, host: cp.example }, { name: b, host: CP.example }]",
    "5:99",
    "backends[2].host",
    "backends[1] is at cp.example:6443 too; remove one of the two"
)]
#[case::host_has_the_name_of_another(
    "}]",
    "}, { name: cp1, host: cp.example }]",
    "5:59",
    "backends[1].name",
    "give each its own name"
)]
#[case::host_of_an_exclusive_service(
    "address: 10.0.0.11 }]",
    "host: cp.example }]\n    mode: dnat\n    exclusive: true",
    "5:35",
    "backends[0].host",
    "its addresses could be those of the other; write `address`"
)]
#[case::backend_is_loopback(
    "10.0.0.11",
    "127.0.0.1",
    "5:38",
    "backends[0].address",
    "other hosts can reach"
)]
#[case::backend_is_a_vip(
    "10.0.0.11",
    "10.0.0.100",
    "5:38",
    "backends[0].address",
    "write the apiserver's own address"
)]
#[case::backend_port(
    "10.0.0.11",
    "10.0.0.11, port: 0",
    "5:55",
    "backends[0].port",
    "from 1 to 65535"
)]
#[case::weight(
    "10.0.0.11",
    "10.0.0.11, weight: 1001",
    "5:57",
    "backends[0].weight",
    "from 0 to 1000"
)]
#[case::weights("10.0.0.11", "10.0.0.11, weight: 0", "5:15", "backends", "a weight from 1 to 1000")]
#[case::misspelt(
    "address",
    "adress",
    "5:29",
    "backends[0].adress",
    "did you mean `address`? Keys known here: name, address, host, port, weight"
)]
#[case::backend_name_twice(
    "}]",
    "}, { name: cp1, address: 10.0.0.12 }]",
    "5:59",
    "backends[1].name",
    "give each its own name"
)]
#[case::endpoint_twice(
    "}]",
    "}, { name: cp2, address: 10.0.0.11, port: 6443 }]",
    "5:73",
    "backends[1].address",
    "remove one of the two"
)]
fn services(
    #[case] from: &str,
    #[case] to: &str,
    #[case] place: &str,
    #[case] key: &str,
    #[case] remedy: &str,
) {
    assert_refused(&MINIMAL.replace(from, to), place, &format!("services[0].{key}"), remedy);
}
