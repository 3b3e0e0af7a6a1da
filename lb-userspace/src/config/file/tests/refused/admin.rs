//! The TCP listener.

use rstest::rstest;

use super::super::MINIMAL;
use super::assert_refused;

/// What stands within the braces, as the sixth line of the file.
#[rstest]
#[case::no_port("listen: 127.0.0.1", "6:18", "listen", "write one such as 127.0.0.1:9464")]
#[case::port_of_nothing("listen: 127.0.0.1:0", "6:18", "listen", "address with a port")]
#[case::name("listen: localhost:9464", "6:18", "listen", "address with a port")]
#[case::all("listen: 0.0.0.0:9464", "6:18", "listen", "such as 127.0.0.1:9464")]
#[case::all_v6("listen: \"[::]:9464\"", "6:18", "listen", "the VIPs too")]
#[case::vip("listen: 10.0.0.100:9464", "6:18", "listen", "write the node's own address")]
#[case::group("listen: 224.0.0.18:9464", "6:18", "listen", "a multicast address")]
#[case::token_alone("token_file: /t", "6:22", "token_file", "add `listen: 127.0.0.1:9464`")]
#[case::tls_alone(
    "tls: { cert_file: /c, key_file: /k }",
    "6:15",
    "tls",
    "add `listen: 127.0.0.1:9464`"
)]
#[case::hosts_alone("allowed_hosts: [a]", "6:25", "allowed_hosts", "there is none")]
#[case::token_relative("L, token_file: t", "6:46", "token_file", "/etc/fairlead/admin-token")]
#[case::no_key(
    "L, tls: { cert_file: /c }",
    "6:39",
    "tls.key_file",
    "such as /etc/fairlead/tls.key"
)]
#[case::no_cert(
    "L, tls: { key_file: /c }",
    "6:39",
    "tls.cert_file",
    "such as /etc/fairlead/tls.crt"
)]
#[case::host_with_port("L, allowed_hosts: [\"a:1\"]", "6:50", "allowed_hosts[0]", "is no DNS name")]
#[case::host_twice("L, allowed_hosts: [a, A]", "6:53", "allowed_hosts[1]", "remove one of the two")]
fn listener(#[case] keys: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    let keys = keys.replacen("L,", "listen: 127.0.0.1:9464,", 1);
    let text = format!("{MINIMAL}admin: {{ {keys} }}\n");
    assert_refused(&text, place, &format!("admin.{key}"), remedy);
}
