use std::rc::Rc;

use rstest::rstest;

use super::super::findings::Findings;
use super::*;

fn read_text(text: &str) -> Read<Keepalived> {
    read(&Rc::from("f"), text.as_bytes(), Some("main"), &mut Findings::default())
}

#[test]
fn blocks_may_be_written_in_any_way() {
    for text in [
        "vrrp_instance a {\n priority 7\n virtual_ipaddress {\n 10.0.0.1/24 dev eth1\n }\n}\n",
        "vrrp_instance a\n{\npriority 7\nvirtual_ipaddress { 10.0.0.1/24 dev eth1 } }",
        "vrrp_instance a{\npriority 7\nvirtual_ipaddress\n{\n10.0.0.1/24 dev eth1}}",
        "$P=7\nvrrp_instance \"a\" { # c\n @main priority $P ! d\n @other priority 9\n \
         virtual_ipaddress { 10.0.0.1/24 dev 'eth1' }\n}",
    ] {
        let keepalived = read_text(text).unwrap();
        let [instance] = &keepalived.instances[..] else { panic!("{text}") };
        assert_eq!(instance.priority.as_ref().map(|it| it.value), Some(7), "{text}");
        let [address] = &instance.addresses[..] else { panic!("{text}") };
        assert_eq!(address.prefix, Some(24), "{text}");
        assert_eq!(address.device.as_ref().unwrap().text, "eth1", "{text}");
    }
}

#[test]
fn tracked_interfaces_have_weights() {
    let text = "vrrp_instance a {\n track_interface {\n eth1\n eth2 weight -10 reverse\n }\n}";
    let keepalived = read_text(text).unwrap();
    let tracked = &keepalived.instances[0].tracked;
    let shown: Vec<(&str, i16, bool)> =
        tracked.iter().map(|it| (it.name.text.as_str(), it.weight, it.reverse)).collect();
    assert_eq!(shown, [("eth1", 0, false), ("eth2", -10, true)]);
}

#[rstest]
#[case("vrrp_instance a {\n", "f:1:17: the block of `vrrp_instance` is not closed; expected }")]
#[case("}\n", "f:1:1: no block is open here; expected no }")]
#[case("{\n", "f:1:1: expected a name before {")]
#[case("a {\n}\n{\n", "f:3:1: expected a name before {")]
#[case(
    "vrrp_instance {\n}\n",
    "f:1:1: the line ends after `vrrp_instance`; expected the instance's"
)]
#[case(
    "vrrp_instance a {\n}\nvrrp_instance a {\n}\n",
    "f:3:15: the instance of line 1 has this name"
)]
#[case(
    "vrrp_instance a {\n priority 256\n}\n",
    "f:2:11: `256` is not possible; expected a number from"
)]
#[case("vrrp_instance a {\n virtual_router_id 0\n}\n", "f:2:20: `0` is not possible")]
#[case("vrrp_instance a {\n advert_int x\n}\n", "f:2:13: `x` is no time; expected seconds")]
#[case("vrrp_instance a {\n advert_int -1\n}\n", "f:2:13: `-1` is no time; expected seconds")]
#[case(
    "vrrp_instance a {\n virtual_ipaddress {\n  x\n }\n}\n",
    "f:3:3: `x` is no address; expected"
)]
#[case(
    "vrrp_instance a {\n virtual_ipaddress {\n  10.0.0.1/33\n }\n}\n",
    "f:3:3: `33` is not possible"
)]
#[case(
    "vrrp_instance a {\n virtual_ipaddress {\n  10.0.0.1 dev\n }\n}\n",
    "f:3:12: `dev` ends the line"
)]
#[case("vrrp_instance a {\n unicast_peer {\n  host\n }\n}\n", "f:3:3: `host` is no address")]
#[case(
    "vrrp_instance a {\n authentication {\n  auth_type X\n }\n}\n",
    "f:3:13: `X` is unknown; expected"
)]
#[case(
    "vrrp_instance a {\n track_interface {\n  e weight\n }\n}\n",
    "f:3:5: `weight` ends the line"
)]
#[case("virtual_server 10.0.0.1 {\n}\n", "f:1:16: the line ends after `10.0.0.1`; expected a port")]
#[case("virtual_server 10.0.0.1 80 {\n lb_kind X\n}\n", "f:2:10: `X` is unknown; expected NAT, DR")]
fn what_cannot_be_read_has_its_place(#[case] text: &str, #[case] expected: &str) {
    let error = read_text(text).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}
