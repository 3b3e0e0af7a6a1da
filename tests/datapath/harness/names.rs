//! Tests name hosts by IPv4 addresses. In a harness of IPv6 the host 10.0.0.2 is fd00:0:a00:2::1, in a
//! /64 of its own, and what only IPv4 has is replaced by what comes closest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use lb_common::addr::IpBe;
use lb_tests::family::Family;
use lb_tests::packet::{DESTINATION, Extension, Frame, ICMP, ICMPV6, IPV4, IPV6, L4};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// The address that a host's name stands for.
pub(crate) fn local_ip(family: Family, name: Ipv4Addr) -> IpAddr {
    match family {
        Family::V4 => name.into(),
        Family::V6 => {
            let [a, b, c, d] = name.octets();
            let word = |high, low| u16::from_be_bytes([high, low]);
            Ipv6Addr::new(0xfd00, 0, word(a, b), word(c, d), 0, 0, 0, 1).into()
        }
    }
}

pub(crate) fn local(family: Family, name: SocketAddrV4) -> SocketAddr {
    SocketAddr::new(local_ip(family, *name.ip()), name.port())
}

/// The name of an address.
pub(crate) fn name_of(address: SocketAddr) -> SocketAddrV4 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => {
            let [_, _, _, _, a, b, c, d, ..] = ip.octets();
            Ipv4Addr::new(a, b, c, d)
        }
    };
    SocketAddrV4::new(ip, address.port())
}

/// Bits of a prefix of names, in a trie of [`IpBe`].
pub(crate) fn prefix_bits(family: Family, length: u8) -> u32 {
    let any = family.unspecified();
    IpBe::prefix_bits(any, family.pick(length, 32 + length))
}

/// The frame between the hosts that its addresses name; one of IPv6 stays as it is.
pub(crate) fn local_frame(family: Family, frame: &Frame) -> Frame {
    let mut local = frame.clone();
    let (Family::V6, IpAddr::V4(src), IpAddr::V4(dst)) = (family, frame.src, frame.dst) else {
        return local;
    };
    (local.src, local.dst) = (local_ip(family, src), local_ip(family, dst));
    if local.ether_type == IPV4 {
        local.ether_type = IPV6;
    }
    local.id = 0;
    local.ihl = None;
    local.total_len = frame.total_len.map(|total| total.saturating_sub(20));
    if !frame.ip_options.is_empty() {
        let units = frame.ip_options.len().div_ceil(8);
        local.ip_options.clear();
        local.extensions.push(Extension::padding(DESTINATION, u8::try_from(units).unwrap()));
    }
    if frame.frags & (MORE_FRAGMENTS | OFFSET) != 0 {
        let more = frame.frags & MORE_FRAGMENTS != 0;
        local.extensions.push(Extension::fragment(frame.frags & OFFSET, more, 7));
    }
    local.frags = 0;
    if local.protocol == ICMP {
        local.protocol = ICMPV6;
    }
    if let L4::Icmp(message) = &mut local.l4 {
        assert_eq!(message.kind, 8, "an error is written in its own family: {frame:#?}");
        message.kind = 128;
    }
    local
}
