//! Wrong configuration → place, key and remedy. A place is `line:column: key`.

use rstest::rstest;

use super::super::super::ConfigError;
use super::{MINIMAL, refusal};

mod admin;
mod families;
mod flow_log;
mod needed;
mod optional;
mod sync;
mod vrrp;

const NO_KEY: &str = "";

#[rstest]
#[case::empty("", "1:1", NO_KEY, "write at least `services:`")]
#[case::only_comments("# nothing\n\n", "1:1", NO_KEY, "write at least `services:`")]
#[case::only_a_marker("---\n", "1:1", NO_KEY, "write at least `services:`")]
#[case::text("hello\n", "1:1", NO_KEY, "write at least `services:`")]
#[case::list("\n- a\n", "2:1", NO_KEY, "write at least `services:`")]
#[case::no_services("version: 1\n", "1:1", "services", "add a list with one service")]
#[case::empty_services("services: []\n", "1:11", "services", "write a list with one service")]
#[case::services_are_one("services: api\n", "1:11", "services", "a line for each element")]
#[case::service_is_text("services:\n  - api\n", "2:5", "services[0]", "write `key: value` lines")]
#[case::two_documents(
    "version: 1\n---\nversion: 1\n",
    "3:1",
    NO_KEY,
    "remove the lines that say `---`"
)]
#[case::tab("services:\n\t- a\n", "2:1", NO_KEY, "spaces only, so replace it")]
#[case::tab_after(
    "services:\n  - name: a\n\t  port: 1\n",
    "3:1",
    "services[0]",
    "spaces only, so replace it"
)]
#[case::nul("a\0b: 1\n", "1:2", NO_KEY, "correct the syntax")]
#[case::unclosed("services: [\n", "1:11", "services", "correct the syntax")]
#[case::unknown_alias("services: *x\n", "1:11", NO_KEY, "correct the syntax")]
#[case::alias_of_itself("services: &a [*a]\n", "1:15", "services", "write the values out")]
#[case::twice("version: 1\nversion: 1\n", "2:1", "version", "remove one of the two")]
#[case::twice_within(
    "limits:\n  flows: 1024\n  flows: 1024\n",
    "3:3",
    "limits.flows",
    "remove one of the two"
)]
#[case::misspelt("servces: []\n", "1:1", "servces", "did you mean `services`?")]
#[case::unknown(
    "tls: 1\n",
    "1:1",
    "tls",
    "Keys known here: version, interfaces, xdp_mode, replace_xdp, limits, services, vrrp, sync, local_clients, flow_log, notify, admin"
)]
#[case::misspelt_within("admin: { sock: /a }\n", "1:10", "admin.sock", "did you mean `socket`?")]
fn documents(#[case] text: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    assert_refused(text, place, key, remedy);
}

/// The lines stand before those of `MINIMAL`.
#[rstest]
#[case::version("version: 2", "1:10", "version", "write 1")]
#[case::interface_twice(
    "interfaces: [eth0, eth0]",
    "1:20",
    "interfaces[1]",
    "remove one of the two"
)]
#[case::interface_is_long(
    "interfaces: [a234567890123456]",
    "1:14",
    "interfaces[0]",
    "1 to 15 bytes"
)]
#[case::interface_is_a_path(
    "interfaces: [dev/eth0]",
    "1:14",
    "interfaces[0]",
    "a name that `ip link` shows"
)]
#[case::interface_is_null(
    "interfaces: [~]",
    "1:14",
    "interfaces[0]",
    "write one, or remove the line"
)]
#[case::interfaces_are_text("interfaces: eth0", "1:13", "interfaces", "write one: [a, b]")]
#[case::local_clients(
    "local_clients: { enabled: yes }",
    "1:27",
    "local_clients.enabled",
    "write auto or true or false"
)]
#[case::cgroup(
    "local_clients: { cgroup: kubepods }",
    "1:26",
    "local_clients.cgroup",
    "write one such as /sys/fs/cgroup/kubepods.slice"
)]
#[case::xdp_mode("xdp_mode: fast", "1:11", "xdp_mode", "write auto or native or generic")]
#[case::few_flows("limits: { flows: 1023 }", "1:18", "limits.flows", "from 1024 to 16777216")]
#[case::many_flows(
    "limits: { half_open: 16777217 }",
    "1:22",
    "limits.half_open",
    "from 1024 to 16777216"
)]
#[case::limits_are_a_number("limits: 5", "1:9", "limits", "write `key: value` lines")]
#[case::vrrp_mapping("vrrp: { vrid: 51 }", "1:7", "vrrp", "write one: [a, b]")]
#[case::socket_is_relative(
    "admin: { socket: a.sock }",
    "1:18",
    "admin.socket",
    "write one such as /run/fairlead/admin.sock"
)]
fn globals(#[case] line: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    assert_refused(&format!("{line}\n{MINIMAL}"), place, key, remedy);
}

/// The first service is that of `MINIMAL`; the second starts in line 6.
#[rstest]
#[case::name("api", "10.0.0.101", "10.0.0.12", "6:13", "name", "give each its own name")]
#[case::vip("b", "10.0.0.100", "10.0.0.12", "6:23", "vips[0]", "take another VIP or port")]
#[case::backend(
    "b",
    "10.0.0.101",
    "10.0.0.100",
    "6:79",
    "backends[0].address",
    "services[0].vips[0]"
)]
fn two_services(
    #[case] name: &str,
    #[case] vip: &str,
    #[case] backend: &str,
    #[case] place: &str,
    #[case] key: &str,
    #[case] remedy: &str,
) {
    let second = format!(
        "  - {{ name: {name}, vips: [{vip}], port: 6443, backends: [{{ name: a, address: {backend} }}] }}\n"
    );
    let text = format!("{MINIMAL}{second}");
    assert_refused(&text, place, &format!("services[1].{key}"), remedy);
}

#[test]
fn problem_names_file_place_key_and_remedy() {
    let text = MINIMAL.replace("10.0.0.100", "10.0.0.100/24");
    assert_eq!(
        refusal(&text).to_string(),
        "/etc/fairlead/fairlead.yaml:3:12: services[0].vips[0]: \"10.0.0.100/24\" has a prefix \
         other than /32; write 10.0.0.100 (a VIP is always added as /32)"
    );
}

#[test]
fn all_problems_are_listed_in_the_order_of_the_file() {
    let text = MINIMAL.replace("6443", "0").replace("cp1", "c p").replace("api", "a/b");
    let keys: Vec<String> = refusal(&text).problems().iter().map(|it| it.key.clone()).collect();
    assert_eq!(keys, ["services[0].name", "services[0].port", "services[0].backends[0].name"]);
}

#[test]
fn more_problems_than_a_screen_holds_are_counted() {
    let error = refusal(&MINIMAL.replace("10.0.0.100", &["x"; 50].join(", ")));
    assert!(
        matches!(&error, ConfigError::Invalid { problems, omitted: 30 } if problems.len() == 20)
    );
    assert!(error.to_string().ends_with("\nand 30 more"));
}

#[test]
fn more_backends_than_a_service_takes_are_refused() {
    let backends = ["{ name: a, address: 10.0.0.11 }"; 1025].join(", ");
    let text = MINIMAL.replace("{ name: cp1, address: 10.0.0.11 }", &backends);
    assert_refused(&text, "5:15", "services[0].backends", "keep at most 1024");
}

#[test]
fn more_vips_than_there_can_be_are_refused() {
    let vips: Vec<String> =
        (0..1025).map(|number| format!("10.1.{}.{}", number / 250, number % 250 + 1)).collect();
    let text = MINIMAL.replace("10.0.0.100", &vips.join(", "));
    let remedy = "1025 VIPs and SNAT addresses are too many; keep at most 1024 in all";
    assert_refused(&text, "2:3", "services", remedy);
}

#[test]
fn socket_path_that_no_socket_can_have_is_refused() {
    let text = format!("admin: {{ socket: /{} }}\n{MINIMAL}", "a".repeat(107));
    assert_refused(&text, "1:18", "admin.socket", "write at most 107 bytes");
}

#[test]
fn alias_bomb_is_refused() {
    let backends = ["{ name: a, address: 10.0.0.1 }"; 500].join(", ");
    let mut text = format!("services:\n  - backends: &b [{backends}]\n");
    text.push_str(&"  - backends: *b\n".repeat(50));
    let error = refusal(&text);
    assert!(error.to_string().contains("write the values out"), "{error}");
}

#[rstest]
#[case::flow("[".repeat(100_000))]
#[case::block("- ".repeat(100_000))]
#[case::mapping("{a: ".repeat(100_000))]
#[case::ignored(format!("vrrp: {}", "[".repeat(100_000)))]
#[case::indented((0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect())]
fn deep_nesting_is_refused(#[case] text: String) {
    assert_eq!(refusal(&text).problems().len(), 1);
}

pub(super) fn assert_refused(text: &str, place: &str, key: &str, remedy: &str) {
    let error = refusal(text);
    let [problem] = error.problems() else { panic!("not one problem:\n{error}") };
    let found = format!("{}:{}", problem.line, problem.column);
    assert_eq!((found.as_str(), problem.key.as_str()), (place, key), "{error}");
    assert!(problem.message.contains(remedy), "no {remedy:?} in: {error}");
}
