//! What the two files say together, and what neither says.

use rstest::rstest;

use super::*;

const HAPROXY: &str = "\
listen api
    bind *:6443
    option httpchk GET /readyz
    server cp1 10.0.0.11:6443 check check-ssl verify none
";

const KEEPALIVED: &str = "\
vrrp_instance api {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100
    }
}
";

fn with(haproxy: &str) -> Imported {
    texts(haproxy, KEEPALIVED).unwrap()
}

#[test]
fn both_files_make_a_complete_configuration() {
    let imported = with(HAPROXY);
    assert!(imported.is_complete(), "{:?}", imported.findings);
    assert!(imported.yaml.contains("vips: [10.0.0.100]"), "{}", imported.yaml);
    assert!(imported.yaml.contains("interfaces: [eth0]"), "{}", imported.yaml);
}

#[test]
fn without_keepalived_the_vip_of_a_wildcard_is_to_do() {
    let imported = texts(HAPROXY, "").unwrap();
    assert!(!imported.is_complete());
    assert!(has(&imported, Kind::ToDo, "no VIP is known; write the address that clients use"));
    assert!(has(&imported, Kind::Assumed, "this node is taken for the only one"));
    let named = HAPROXY.replace("*:6443", "10.0.0.100:6443");
    let imported = texts(&named, "").unwrap();
    assert!(imported.is_complete());
    assert!(has(&imported, Kind::Assumed, "10.0.0.100 is taken for a VIP"));
    config::parse(&imported.yaml, Path::new("f")).unwrap();
}

#[test]
fn without_haproxy_the_services_are_to_do() {
    let imported = texts("", KEEPALIVED).unwrap();
    assert!(!imported.is_complete());
    assert!(has(&imported, Kind::ToDo, "what is balanced is not known"));
    assert!(imported.yaml.contains("services: []\n"), "{}", imported.yaml);
    assert!(imported.yaml.contains("- name: api\n    interface: eth0\n    vrid: 51"));
}

#[test]
fn virtual_servers_need_no_haproxy() {
    let imported = texts(
        "",
        &(KEEPALIVED.to_owned()
            + "virtual_server 10.0.0.100 6443 {
        lb_kind DR
        real_server 10.0.0.11 6443 {
        }
    }"),
    )
    .unwrap();
    assert!(imported.is_complete(), "{:?}", imported.findings);
    assert!(imported.yaml.contains("mode: dsr"), "{}", imported.yaml);
}

#[test]
fn the_nodes_own_address_does_not_become_a_vip() {
    let imported = with(&HAPROXY.replace("*:6443", "10.0.0.100:6443,10.0.0.5:6443"));
    assert!(imported.yaml.contains("    vips: [10.0.0.100]"), "{}", imported.yaml);
    assert!(has(&imported, Kind::NotCarriedOver, "10.0.0.5 is no VIP of keepalived.conf"));
}

#[test]
fn a_wildcard_leaves_vips_to_those_that_name_them() {
    let two = KEEPALIVED.replace("10.0.0.100", "10.0.0.100\n10.0.0.101");
    let other = HAPROXY.replace("listen api", "listen b").replace("*:", "10.0.0.101:");
    let imported = texts(&(HAPROXY.to_owned() + &other), &two).unwrap();
    assert!(imported.is_complete(), "{:?}", imported.findings);
    assert!(imported.yaml.contains("    vips: [10.0.0.100]"), "{}", imported.yaml);
    assert!(imported.yaml.contains("    vips: [10.0.0.101]"), "{}", imported.yaml);
}

#[rstest]
#[case::no_check(
    "check check-ssl verify none",
    "",
    Kind::Assumed,
    "checks no server",
    "path: /readyz"
)]
#[case::healthz(
    "/readyz",
    "/healthz",
    Kind::Changed,
    "/readyz instead of /healthz",
    "path: /readyz"
)]
#[case::other_path(
    "/readyz",
    "/ok?x=1",
    Kind::Changed,
    "takes any certificate",
    "path: \"/ok?x=1\""
)]
#[case::hello(
    "option httpchk GET /readyz",
    "option ssl-hello-chk",
    Kind::Changed,
    "only begins a TLS handshake",
    "type: https"
)]
#[case::layer_4(
    "option httpchk GET /readyz\n    server cp1 10.0.0.11:6443 check check-ssl",
    "server cp1 10.0.0.11:6443 check",
    Kind::Assumed,
    "HAProxy only connects",
    "type: tcp"
)]
#[case::ca(
    "verify none",
    "verify required ca-file /ca.crt",
    Kind::Assumed,
    "wants `kubernetes`",
    "ca_file: /ca.crt"
)]
#[case::system_ca(
    "verify none",
    "verify required ca-file @system-ca",
    Kind::Changed,
    "absolute path",
    "insecure_skip_verify: true"
)]
#[case::sni(
    "verify none",
    "verify none check-sni a.b",
    Kind::Changed,
    "any certificate",
    "server_name: a.b"
)]
#[case::pace(
    "verify none",
    "verify none inter 1500 fastinter 2s rise 200 fall 1",
    Kind::Changed,
    "cannot be longer",
    "interval: 1s 500ms\n"
)]
#[case::head("GET /readyz", "HEAD /readyz", Kind::Changed, "sends GET, not HEAD", "path: /readyz")]
fn checks_become_probes(
    #[case] from: &str,
    #[case] to: &str,
    #[case] kind: Kind,
    #[case] finding: &str,
    #[case] expected: &str,
) {
    assert!(HAPROXY.contains(from));
    let imported = with(&HAPROXY.replace(from, to));
    assert!(has(&imported, kind, finding), "{}", findings::report(&imported.findings));
    assert!(imported.yaml.contains(expected), "{}", imported.yaml);
    assert!(imported.is_complete(), "{:?}", imported.findings);
}

#[rstest]
#[case::http("mode http", "", "it is of mode http")]
#[case::tls("bind *:6443", " ssl crt /x.pem", "TLS ends in HAProxy here")]
#[case::proxy("bind *:6443", " accept-proxy", "clients send the PROXY protocol's header")]
#[case::reencrypt("verify none", " ssl", "HAProxy itself speaks TLS to the servers")]
fn what_is_not_plain_tcp_is_left_out(#[case] at: &str, #[case] added: &str, #[case] message: &str) {
    let text = HAPROXY.replace("    bind", "    mode tcp\n    bind");
    let text = if at == "mode http" {
        text.replace("mode tcp", at)
    } else {
        text.replace(at, &format!("{at}{added}"))
    };
    let imported = with(&text);
    assert!(has(&imported, Kind::NotCarriedOver, message), "{:?}", imported.findings);
    assert!(has(&imported, Kind::ToDo, "no service that can be carried over"));
}

#[rstest]
#[case("timeout tunnel 2h", "timeouts: { established: 2h }")]
#[case("timeout client 24h\n timeout server 5h", "timeouts: { established: 5h }")]
#[case("timeout client 0", "timeouts: { established: 336h }")]
fn long_idle_timeouts_are_carried_over(#[case] line: &str, #[case] expected: &str) {
    let imported = with(&HAPROXY.replace("    bind", &format!("    {line}\n    bind")));
    assert!(imported.yaml.contains(expected), "{}", imported.yaml);
}

#[test]
fn short_idle_timeouts_are_not() {
    let imported = with(&HAPROXY.replace("    bind", "    timeout client 35s\n    bind"));
    assert!(!imported.yaml.contains("\n    timeouts:"), "{}", imported.yaml);
    assert!(has(&imported, Kind::Changed, "cuts connections that are idle for 35s"));
}

#[test]
fn families_are_not_translated() {
    let v6 = HAPROXY.replace("10.0.0.11", "[fd00::11]");
    let imported = with(&v6);
    assert!(has(&imported, Kind::ToDo, "none of its VIPs is of a family"), "{}", imported.yaml);
    let both = KEEPALIVED.replace(
        "    }\n}",
        "    }\n    virtual_ipaddress_excluded {\n        fd00::100\n    }\n}",
    );
    let imported = texts(&HAPROXY.replace("*:6443", ":::6443 v4v6"), &both).unwrap();
    assert!(imported.is_complete(), "{:?}", imported.findings);
    assert!(has(&imported, Kind::NotCarriedOver, "fd00::100 is left out: no backend has an IPv6"));
    assert!(imported.yaml.contains("name: api-v6"), "{}", imported.yaml);
    let imported = texts(&v6.replace("*:6443", ":::6443"), &both).unwrap();
    assert!(imported.is_complete(), "{:?}", imported.findings);
    assert!(imported.yaml.contains("    vips: [\"fd00::100\"]"), "{}", imported.yaml);
}

#[rstest]
#[case("cp.example.com:6443", "{ name: cp1, host: cp.example.com }")]
#[case("CP.Example.com:443", "{ name: cp1, host: cp.example.com, port: 443 }")]
#[case("cp.example.com", "{ name: cp1, host: cp.example.com }")]
fn names_are_followed(#[case] address: &str, #[case] expected: &str) {
    let imported = with(&HAPROXY.replace("10.0.0.11:6443", address));
    assert!(imported.is_complete(), "{:?}", imported.findings);
    assert!(imported.yaml.contains(expected), "{}", imported.yaml);
}

#[test]
fn names_that_stand_for_no_server_are_to_do() {
    for name in ["localhost:6443", "_https._tcp.example.com:6443", "cp.300:6443"] {
        let imported = with(&HAPROXY.replace("10.0.0.11:6443", name));
        assert!(has(&imported, Kind::ToDo, "none of the servers"), "{name}: {}", imported.yaml);
    }
}

#[rstest]
#[case("200", "type: https\n      path: /readyz\n      insecure_skip_verify: true\n\n")]
#[case("200,401", "expect_status: [200, 401]")]
#[case("200-299", "expect_status: [200-299]")]
fn statuses_are_carried_over(#[case] status: &str, #[case] expected: &str) {
    let line = format!("    http-check expect status {status}\n    server");
    let imported = with(&HAPROXY.replace("    server", &line));
    assert!(imported.yaml.contains(expected), "{}", imported.yaml);
}

#[test]
fn passwords_are_carried_over_for_version_2_only() {
    let auth = "    authentication {\n auth_type PASS\n auth_pass 123456789\n }\n    virtual_ip";
    let text = KEEPALIVED.replace("    virtual_ip", auth);
    let imported = texts(HAPROXY, &text).unwrap();
    assert!(imported.yaml.contains("authentication: { type: pass, password: \"12345678\" }"));
    let imported = texts(HAPROXY, &text.replace("interface", "version 3\n interface")).unwrap();
    assert!(!imported.yaml.contains("12345678"), "{}", imported.yaml);
    assert!(has(&imported, Kind::Needless, "version 3 has none"));
    let imported = texts(HAPROXY, &text.replace("PASS", "AH")).unwrap();
    assert!(has(&imported, Kind::NotCarriedOver, "AH is not available"));
}

#[test]
fn what_is_unknown_is_never_ignored() {
    let haproxy =
        HAPROXY.replace("    bind *:6443", "    frob x\n    bind *:6443 frob\n    option frob");
    let haproxy = haproxy.replace("verify none", "verify none frob") + "global\n frob\n";
    let keepalived = KEEPALIVED.replace("interface", "frob 1\n    interface")
        + "frob {\n}\nglobal_defs {\n frob\n}\n";
    let imported = texts(&haproxy, &keepalived).unwrap();
    let unknown: Vec<(&str, u32)> = imported
        .findings
        .iter()
        .filter(|it| it.kind == Kind::NotUnderstood)
        .map(|it| (it.file.as_deref().unwrap(), it.line))
        .collect();
    let expected = [
        ("haproxy.cfg", 2),
        ("haproxy.cfg", 3),
        ("haproxy.cfg", 4),
        ("haproxy.cfg", 6),
        ("haproxy.cfg", 8),
        ("keepalived.conf", 2),
        ("keepalived.conf", 9),
        ("keepalived.conf", 12),
    ];
    assert_eq!(unknown, expected);
}
