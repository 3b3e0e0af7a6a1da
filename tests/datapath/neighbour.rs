//! Who asks for a VIP's MAC address, while the lease lasts and afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::lease::Lease;
use lb_tests::family::Family::{V4, V6};
use lb_tests::packet::{Frame, VLAN};
use rstest::rstest;

use crate::harness::{CLIENT, CLIENT_MAC, Harness, LB_MAC, NODE, SERVICE, local_ip};

const BROADCAST: [u8; 6] = [0xff; 6];
const NO_ANSWERS: Lease = Lease { answer_until: 0, forward_until: u64::MAX };
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

fn arp(operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [BROADCAST, CLIENT_MAC].concat();
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(CLIENT_MAC);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, 7]);
    frame
}

fn v6(address: Ipv4Addr) -> Ipv6Addr {
    match local_ip(V6, address) {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => unreachable!("{address} of IPv6"),
    }
}

/// The group of a target (RFC 4291 section 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

fn icmpv6(kind: u8, to: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    Frame::raw(v6(*CLIENT.ip()), to, 58, &message).ttl(255).macs(CLIENT_MAC, LB_MAC)
}

#[rstest]
#[case::a_question(arp(REQUEST, *CLIENT.ip(), *SERVICE.ip()), "drop_lease_expired")]
#[case::a_probe_of_a_newcomer(arp(REQUEST, Ipv4Addr::UNSPECIFIED, *SERVICE.ip()), "drop_lease_expired")]
#[case::in_a_vlan(tagged(arp(REQUEST, *CLIENT.ip(), *SERVICE.ip())), "drop_lease_expired")]
#[case::the_new_owners_announcement(arp(REQUEST, *SERVICE.ip(), *SERVICE.ip()), "pass_not_ip")]
#[case::an_answer(arp(REPLY, *SERVICE.ip(), *CLIENT.ip()), "pass_not_ip")]
#[case::for_the_node(arp(REQUEST, *CLIENT.ip(), NODE), "pass_not_ip")]
#[case::from_the_vip(arp(REQUEST, *SERVICE.ip(), NODE), "pass_not_ip")]
#[case::cut(arp(REQUEST, *CLIENT.ip(), *SERVICE.ip())[..41].to_vec(), "pass_not_ip")]
#[ignore = "needs root: cargo xtask test datapath"]
fn arp_for_a_vip_is_answered_while_the_lease_lasts(#[case] frame: Vec<u8>, #[case] after: &str) {
    let mut harness = Harness::new(V4);
    assert_eq!(harness.send_bytes(&frame).counter, "pass_not_ip");
    harness.set_lease(0, NO_ANSWERS);
    assert_eq!(harness.send_bytes(&frame).counter, after);
    harness.set_lease(0, Lease::EXPIRED);
    assert_eq!(harness.send_bytes(&frame).counter, after);
    harness.set_lease(0, Lease::FOREVER);
    assert_eq!(harness.send_bytes(&frame).counter, "pass_not_ip");
}

#[rstest]
#[case::a_solicitation(icmpv6(135, solicited_node(v6(*SERVICE.ip())), v6(*SERVICE.ip())), "drop_lease_expired")]
#[case::in_a_vlan(
    icmpv6(135, solicited_node(v6(*SERVICE.ip())), v6(*SERVICE.ip())).tag(VLAN, 7), "drop_lease_expired"
)]
#[case::of_another_in_the_group(icmpv6(135, solicited_node(v6(*SERVICE.ip())), v6(NODE)), "pass_not_vip")]
#[case::for_the_node(icmpv6(135, solicited_node(v6(NODE)), v6(NODE)), "pass_not_vip")]
#[case::the_new_owners_announcement(
    icmpv6(136, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), v6(*SERVICE.ip())), "pass_not_vip"
)]
#[case::of_listeners(icmpv6(131, solicited_node(v6(*SERVICE.ip())), v6(*SERVICE.ip())), "pass_not_vip")]
#[ignore = "needs root: cargo xtask test datapath"]
fn solicitations_of_a_vip_are_answered_while_the_lease_lasts(
    #[case] frame: Frame,
    #[case] after: &str,
) {
    let mut harness = Harness::new(V6);
    assert_eq!(harness.send_bytes(&frame.bytes()).counter, "pass_not_vip");
    harness.set_lease(0, NO_ANSWERS);
    assert_eq!(harness.send_bytes(&frame.bytes()).counter, after);
    harness.set_lease(0, Lease::EXPIRED);
    assert_eq!(harness.send_bytes(&frame.bytes()).counter, after);
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn whoever_asks_the_vip_itself_whether_it_is_there_gets_no_answer_either() {
    let mut harness = Harness::new(V6);
    let vip = v6(*SERVICE.ip());
    let (question, echo) = (icmpv6(135, vip, vip), icmpv6(128, vip, vip));
    for frame in [&question, &echo] {
        assert_eq!(harness.send_bytes(&frame.bytes()).counter, "pass_not_tcp");
    }
    harness.set_lease(0, NO_ANSWERS);
    assert_eq!(harness.send_bytes(&question.bytes()).counter, "drop_lease_expired");
    assert_eq!(harness.send_bytes(&echo.bytes()).counter, "pass_not_tcp");
    harness.set_lease(0, Lease::EXPIRED);
    for frame in [&question, &echo] {
        assert_eq!(harness.send_bytes(&frame.bytes()).counter, "drop_lease_expired");
    }
}

/// RFC 9568 6.4.3: neighbour discovery goes on whatever the VIP accepts.
#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_vip_that_accepts_nothing_can_still_be_found() {
    let mut harness = Harness::new(V6);
    harness.close_vip();
    let vip = v6(*SERVICE.ip());
    let group = icmpv6(135, solicited_node(vip), vip);
    assert_eq!(harness.send_bytes(&group.bytes()).counter, "pass_not_vip");
    for (kind, counter) in [
        (135, "pass_not_tcp"),
        (136, "pass_not_tcp"),
        (128, "drop_not_accepted"),
        (133, "drop_not_accepted"),
        (137, "drop_not_accepted"),
    ] {
        let outcome = harness.send_bytes(&icmpv6(kind, vip, vip).bytes());
        assert_eq!(outcome.counter, counter, "type {kind}");
    }
    harness.set_lease(0, NO_ANSWERS);
    let asked = harness.send_bytes(&icmpv6(135, vip, vip).bytes());
    assert_eq!(asked.counter, "drop_lease_expired");

    let mut harness = Harness::new(V4);
    harness.close_vip();
    let frame = arp(REQUEST, *CLIENT.ip(), *SERVICE.ip());
    assert_eq!(harness.send_bytes(&frame).counter, "pass_not_ip");
}
