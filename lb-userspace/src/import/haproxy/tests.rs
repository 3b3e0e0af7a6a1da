use std::rc::Rc;
use std::time::Duration;

use rstest::rstest;

use super::super::findings::Findings;
use super::*;

fn read_text(text: &str) -> Read<Haproxy> {
    let environment = Environment::from([("SET".to_owned(), "10.0.0.11".to_owned())]);
    read(&Rc::from("f"), text.as_bytes(), &environment, &mut Findings::default())
}

fn proxy<'a>(haproxy: &'a Haproxy, name: &str) -> &'a Proxy {
    haproxy.proxies.iter().find(|proxy| proxy.name.text == name).unwrap()
}

fn client(proxy: &Proxy) -> Option<Duration> {
    proxy.settings.client.as_ref().map(|client| client.value)
}

#[test]
fn the_last_defaults_count_unless_others_are_named() {
    let text = "\
listen before
defaults a
    timeout client 1s
defaults b
    timeout client 2s
defaults c from a
    timeout server 3s
listen last
listen named from b
listen own
    timeout client 9s
";
    let haproxy = read_text(text).unwrap();
    let seconds = |name| client(proxy(&haproxy, name)).map(|time| time.as_secs());
    assert_eq!(seconds("before"), None);
    assert_eq!(seconds("last"), Some(1));
    assert_eq!(seconds("named"), Some(2));
    assert_eq!(seconds("own"), Some(9));
}

#[test]
fn default_server_counts_for_the_lines_below_it() {
    let text = "\
defaults
    default-server inter 1s check
backend b
    server a 10.0.0.1:1
    default-server inter 2s
    server b 10.0.0.2:1 no-check
";
    let haproxy = read_text(text).unwrap();
    let servers = &proxy(&haproxy, "b").servers;
    let inter = |at: usize| servers[at].options.inter.as_ref().map(|it| it.value.as_secs());
    assert_eq!((inter(0), servers[0].options.check), (Some(1), true));
    assert_eq!((inter(1), servers[1].options.check), (Some(2), false));
}

#[test]
fn own_check_directives_replace_those_of_the_defaults() {
    let text = "\
defaults
    option httpchk GET /a
    http-check expect status 204
    http-check connect ssl
backend inherits
backend own
    http-check send uri /b
backend without
    no option httpchk
";
    let haproxy = read_text(text).unwrap();
    let check = |name| &proxy(&haproxy, name).settings.check;
    let path = |name| check(name).path.as_ref().map(|path| path.text.clone());
    assert_eq!(path("inherits").as_deref(), Some("/a"));
    assert!(check("inherits").connect_ssl.is_some());
    assert_eq!(path("own").as_deref(), Some("/b"));
    assert!(check("own").connect_ssl.is_none() && check("own").expect_status.is_none());
    assert!(check("without").method.is_none());
}

#[test]
fn variables_come_from_the_environment_and_the_file() {
    let text = "\
global
    setenv OWN 10.0.0.12
    presetenv SET 10.9.9.9
backend b
    server a \"$SET\":1
    server b \"${OWN}:1\"
    server c \"${NONE-10.0.0.13}\":1
";
    let haproxy = read_text(text).unwrap();
    let servers = &proxy(&haproxy, "b").servers;
    let hosts: Vec<String> =
        servers.iter().map(|server| format!("{:?}", server.endpoint.value.host)).collect();
    assert_eq!(hosts, ["Ip(10.0.0.11)", "Ip(10.0.0.12)", "Ip(10.0.0.13)"]);
}

#[rstest]
#[case("bind :1\n", "f:1:1: `bind` is in no section; expected `global`")]
#[case("frontend\n", "f:1:1: the line ends after `frontend`; expected a name")]
#[case("listen a b\n", "f:1:10: `b` follows; expected the end of the line")]
#[case("listen a from x\n", "f:1:15: 0 `defaults` sections above are called `x`; expected one")]
#[case("defaults x\ndefaults x\nlisten a from x\n", "f:3:15: 2 `defaults` sections")]
#[case("backend a\nlisten a\n", "f:2:8: `a` has the name of the section in line 1")]
#[case("listen a\n bind\n", "f:2:2: the line ends after `bind`; expected an address")]
#[case("listen a\n bind :x\n", "f:2:7: `x` is no port; expected a number from 1 to 65535")]
#[case("listen a\n bind :1 interface\n", "f:2:10: `interface` ends the line; expected its value")]
#[case("listen a\n server s\n", "f:2:9: the line ends after `s`; expected the server's address")]
#[case(
    "listen a\n server s 10.0.0.1:1 weight 300\n",
    "f:2:29: `300` is not possible; expected a number from 0 to 256"
)]
#[case(
    "listen a\n server s 10.0.0.1:1 verify maybe\n",
    "f:2:29: `maybe`; expected none or required"
)]
#[case("listen a\n server s 10.0.0.1:1 inter 1w\n", "f:2:28: `1w` is no time; expected")]
#[case(
    "listen a\n server s \"$NONE\":1\n",
    "f:2:11: the environment variable NONE is not set; expected `NONE=VALUE fairlead import"
)]
#[case("listen a\n server-template s 5-1 x:1\n", "f:2:20: expected the lower number first")]
#[case("listen a\n server-template s 9999 x:1\n", "f:2:20: `9999` is not possible")]
#[case("listen a\n mode udp\n", "f:2:7: `udp` is no mode; expected tcp or http")]
#[case("listen a\n timeout client soon\n", "f:2:17: `soon` is no time; expected")]
#[case(".if defined(X)\n", "f:1:1: `.if` depends on the running HAProxy; expected a file without")]
fn what_cannot_be_read_has_its_place(#[case] text: &str, #[case] expected: &str) {
    let error = read_text(text).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}
