//! What is not for a service passes untouched.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::addr::IpBe;
use lb_common::filter::AddressFilter;
use lb_common::lease::Lease;
use lb_common::nat::Kind;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, ARP, AUTHENTICATION, FIN, Frame, L4, PSH, QINQ, RST, SYN, VLAN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, Connection, Harness, SERVICE, from_client, insert, local_ip, syn,
};

const ELSEWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), 6443);

const VRRP_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// An advertisement of version 2 behind an authentication header (RFC 2338 5.3.6.3), which is 24 octets.
fn ah(to: Ipv4Addr) -> Frame {
    let mut payload = vec![0; 24 + 20];
    // The next header, and the length of this one in words less two (RFC 4302 2.2).
    payload[..2].copy_from_slice(&[112, 4]);
    payload[24] = 0x21;
    Frame::raw(*CLIENT.ip(), to, AUTHENTICATION, &payload)
}

fn ssh(address: SocketAddrV4) -> SocketAddrV4 {
    SocketAddrV4::new(*address.ip(), 22)
}

fn ephemeral(address: SocketAddrV4) -> SocketAddrV4 {
    SocketAddrV4::new(*address.ip(), 50_000)
}

#[rstest]
#[case::arp(syn(CLIENT).ether_type(ARP), "pass_not_ip")]
#[case::three_tags(syn(CLIENT).tag(QINQ, 10).tag(VLAN, 20).tag(VLAN, 30), "pass_not_ip")]
#[case::lldp(syn(CLIENT).ether_type(0x88cc), "pass_not_ip")]
#[case::length_field_of_802_3(syn(CLIENT).ether_type(0x0040), "pass_not_ip")]
#[case::syn_to_another_address(syn(CLIENT).to(ELSEWHERE), "pass_not_vip")]
#[case::data_to_another_address(from_client(CLIENT, ACK | PSH).payload(b"x").to(ELSEWHERE), "pass_not_vip")]
#[case::fin_to_another_address(from_client(CLIENT, FIN | ACK).to(ELSEWHERE), "pass_not_vip")]
#[case::rst_to_another_address(from_client(CLIENT, RST).to(ELSEWHERE), "pass_not_vip")]
#[case::from_the_service_to_a_client(Frame::tcp(SERVICE, CLIENT).flags(SYN | ACK), "pass_not_vip")]
#[case::broadcast(syn(CLIENT).to(SocketAddrV4::new(Ipv4Addr::BROADCAST, 6443)), "pass_not_vip")]
#[case::vrrp(Frame::raw(*CLIENT.ip(), VRRP_GROUP, 112, &[0x21; 20]), "pass_not_vip")]
#[case::vrrp_in_ah(ah(VRRP_GROUP), "pass_not_vip")]
#[case::ttl_0_elsewhere(syn(CLIENT).to(ELSEWHERE).ttl(0), "pass_not_vip")]
#[case::ttl_1_elsewhere(syn(CLIENT).to(ELSEWHERE).ttl(1), "pass_not_vip")]
#[case::options_elsewhere(syn(CLIENT).to(ELSEWHERE).ip_options(&[1; 8]), "pass_not_vip")]
#[case::first_fragment_elsewhere(syn(CLIENT).to(ELSEWHERE).frags(0x2000), "pass_not_vip")]
#[case::middle_fragment_elsewhere(syn(CLIENT).to(ELSEWHERE).frags(0x2005), "pass_not_vip")]
#[case::last_fragment_elsewhere(syn(CLIENT).to(ELSEWHERE).frags(0x0005), "pass_not_vip")]
#[case::short_ihl_elsewhere(syn(CLIENT).to(ELSEWHERE).ihl(4), "pass_not_vip")]
#[case::long_total_elsewhere(syn(CLIENT).to(ELSEWHERE).total_len(9000), "pass_not_vip")]
#[case::short_data_offset_elsewhere(syn(CLIENT).to(ELSEWHERE).data_offset(4), "pass_not_vip")]
#[case::udp_to_the_service_port(Frame::udp(CLIENT, SERVICE, b"?"), "pass_not_tcp")]
#[case::echo(Frame::echo(*CLIENT.ip(), *SERVICE.ip()), "pass_not_tcp")]
#[case::sctp(Frame::raw(*CLIENT.ip(), *SERVICE.ip(), 132, &[0; 12]), "pass_not_tcp")]
#[case::ipip(Frame::raw(*CLIENT.ip(), *SERVICE.ip(), 4, &[0x45; 40]), "pass_not_tcp")]
#[case::ah_to_the_vip(ah(*SERVICE.ip()), "pass_not_tcp")]
#[case::ssh_to_the_vip(syn(CLIENT).to(ssh(SERVICE)), "pass_not_service")]
#[case::ssh_with_options(syn(CLIENT).to(ssh(SERVICE)).ip_options(&[1; 4]), "pass_not_service")]
#[case::ssh_with_ttl_1(syn(CLIENT).to(ssh(SERVICE)).ttl(1), "pass_not_service")]
#[case::high_port_of_the_vip(syn(CLIENT).to(ephemeral(SERVICE)), "pass_not_service")]
#[case::rst_to_another_port(from_client(CLIENT, RST).to(ephemeral(SERVICE)), "pass_not_service")]
#[case::null_flags_to_another_port(from_client(CLIENT, 0).to(ssh(SERVICE)), "pass_not_service")]
#[case::ssh_from_a_backend(syn(ephemeral(BACKENDS[0])).to(ssh(SERVICE)), "pass_not_service")]
#[case::ssh_from_a_backend_endpoint(syn(BACKENDS[0]).to(ssh(SERVICE)), "pass_not_service")]
#[case::ssh_answer_of_a_backend(
    Frame::tcp(ssh(BACKENDS[0]), ephemeral(SERVICE)).flags(SYN | ACK), "pass_not_service"
)]
#[case::backend_endpoint_to_the_last_port_below_the_range(
    Frame::tcp(BACKENDS[0], SocketAddrV4::new(*SERVICE.ip(), 1023)).flags(ACK), "pass_not_service"
)]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_is_not_for_a_service_passes_untouched(
    #[case] frame: Frame,
    #[case] counter: &str,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    harness.expect(&frame, counter);
    assert_eq!(harness.flows(), (0, 0));
}

/// RFC 9568 6.4.3: with Accept_Mode false what is of no service is for nobody.
#[rstest]
#[case::udp_to_the_service_port(Frame::udp(CLIENT, SERVICE, b"?"))]
#[case::echo(Frame::echo(*CLIENT.ip(), *SERVICE.ip()))]
#[case::sctp(Frame::raw(*CLIENT.ip(), *SERVICE.ip(), 132, &[0; 12]))]
#[case::ssh_to_the_vip(syn(CLIENT).to(ssh(SERVICE)))]
#[case::ssh_with_options(syn(CLIENT).to(ssh(SERVICE)).ip_options(&[1; 4]))]
#[case::high_port_of_the_vip(syn(CLIENT).to(ephemeral(SERVICE)))]
#[case::rst_to_another_port(from_client(CLIENT, RST).to(ephemeral(SERVICE)))]
#[case::ssh_from_a_backend(syn(ephemeral(BACKENDS[0])).to(ssh(SERVICE)))]
#[case::ssh_from_a_backend_endpoint(syn(BACKENDS[0]).to(ssh(SERVICE)))]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_vip_that_accepts_nothing_drops_what_is_of_no_service(
    #[case] frame: Frame,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    harness.close_vip();
    harness.expect(&frame, "drop_not_accepted");
    // Only of this VIP, and what was known before is known still.
    harness.expect(&syn(CLIENT).to(ELSEWHERE), "pass_not_vip");
    let stale = Frame::tcp(BACKENDS[0], ephemeral(SERVICE)).flags(SYN | ACK);
    harness.expect(&stale, "drop_stale_reply");
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer");
    harness.set_lease(0, Lease::EXPIRED);
    harness.expect(&frame, "drop_lease_expired");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn frames_cut_above_the_ip_header_pass(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let frame = harness.local(&syn(CLIENT)).bytes();
    for length in 14..family.pick(34, 54) {
        let outcome = harness.send_bytes(&frame[..length]);
        assert_eq!(outcome.counter, "pass_not_ip", "{length} bytes");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_hosts_own_frames_pass_beside_a_flow(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.expect(&syn(CLIENT).to(ssh(SERVICE)), "pass_not_service");
    harness.expect(&connection.of_client(RST).to(ELSEWHERE), "pass_not_vip");
    // From the backend's address to the flow's SNAT port, but of another program there.
    let other = connection.of_backend(SYN | ACK).from(ssh(connection.backend));
    harness.expect(&other, "pass_not_service");
    connection.exchange(&mut harness, b"question", b"answer");
}

#[test]
#[ignore = "needs root: cargo xtask test datapath"]
fn fragments_of_what_is_not_balanced_pass() {
    let mut harness = Harness::new(V4);
    let datagram = Frame::udp(CLIENT, SERVICE, b"?");
    for fragment in [datagram.clone().fragment(0, true), datagram.fragment(8, false)] {
        harness.expect(&fragment, "pass_not_tcp");
    }
}

/// The name of an address that the filter takes for a VIP.
pub(crate) fn look_alike(family: Family) -> Ipv4Addr {
    let filter_of = |name| {
        let mut filter = AddressFilter::EMPTY;
        insert(&mut filter, family, IpBe::new(local_ip(family, name)));
        filter
    };
    let vip = filter_of(*SERVICE.ip());
    (0x0a01_0000u32..).map(Ipv4Addr::from_bits).find(|name| filter_of(*name) == vip).unwrap()
}

#[rstest]
#[case::syn(syn(CLIENT), "pass_not_vip")]
#[case::rst(from_client(CLIENT, RST), "pass_not_vip")]
#[case::fin(from_client(CLIENT, FIN | ACK), "pass_not_vip")]
#[case::fragment(syn(CLIENT).frags(0x2000), "pass_not_vip")]
#[case::last_fragment(syn(CLIENT).frags(0x0010), "pass_not_vip")]
#[case::short_ihl(syn(CLIENT).ihl(4), "pass_not_vip")]
#[case::wrong_version(syn(CLIENT).version(5), "pass_not_vip")]
#[case::long_total(syn(CLIENT).total_len(9000), "pass_not_vip")]
#[case::short_data_offset(syn(CLIENT).data_offset(4), "pass_not_vip")]
#[case::ttl_1(syn(CLIENT).ttl(1), "pass_not_vip")]
#[case::not_tcp(
    Frame { protocol: 17, l4: L4::Raw(vec![0; 8]), ..syn(CLIENT) }, "pass_not_vip"
)]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_address_that_looks_like_a_vip_passes(
    #[case] frame: Frame,
    #[case] counter: &str,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let address = SocketAddrV4::new(look_alike(family), SERVICE.port());
    let frame = harness.local(&Frame { dst: (*address.ip()).into(), ..frame });
    harness.expect(&frame, counter);
    // Cut anywhere behind the IP header, which it is too short to be counted by otherwise.
    let bytes = frame.bytes();
    for length in family.pick(34, 54)..bytes.len() {
        let outcome = harness.send_bytes(&bytes[..length]);
        assert_eq!(outcome.counter, counter, "{length} bytes");
    }
}

/// As a switch that knows no port of the backend's sends it to everybody, us included.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn in_dsr_what_was_sent_and_comes_back_passes(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::of(family, Kind::Dsr);
    let first = harness.send(&syn(CLIENT));
    assert_eq!(first.counter, "forward_request");
    assert_eq!(harness.send_bytes(&first.bytes).counter, "pass_other_host");

    let connection = Connection::establish(&mut harness, CLIENT);
    for frame in [connection.of_client(ACK), connection.of_client(FIN | ACK)] {
        harness.expect(&connection.forwarded(&frame), "pass_other_host");
    }
    connection.request(&mut harness, &connection.of_client(ACK | PSH).payload(b"x"));
}
