//! The frames by which a new owner of a VIP makes the link send to it: gratuitous ARP, and for IPv6
//! an unsolicited neighbour advertisement; and those that ask whether somebody else has it. Pure.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |  hardware type: 1, Ethernet   |   protocol type: 0x0800, IPv4 |
//! +---------------+---------------+-------------------------------+
//! | hw length: 6  | proto len: 4  |     operation: 1, request     |
//! +---------------+---------------+-------------------------------+
//! |           sender hardware address: the VIP's owner            |
//! +                               +-------------------------------+
//! |                               |   sender protocol address:    |
//! +-------------------------------+-------------------------------+
//! |            the VIP            |   target hardware address:    |
//! +-------------------------------+                               +
//! |                             zero                              |
//! +---------------------------------------------------------------+
//! |             target protocol address: the VIP again            |
//! +---------------------------------------------------------------+
//! ```
//! The request form, because RFC 5227 (3) found it to be understood more widely than the reply.
//!
//! The advertisement (RFC 4861 4.4) follows an IPv6 header with hop limit 255, to all nodes:
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |   type: 136   |    code: 0    |           checksum            |
//! +-+-+-+---------+---------------+-------------------------------+
//! |R|S|O|                     reserved                            |
//! +-+-+-+---------------------------------------------------------+
//! |             target address: the VIP (16 bytes)                |
//! +---------------+---------------+-------------------------------+
//! |   option: 2   |   length: 1   |      the owner's MAC          |
//! +---------------+---------------+                               +
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//! Not solicited, but overriding what the receiver knows (RFC 4861 7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::checksum;
use lb_common::link::Mac;

/// Ethernet and IPv6 headers and the advertisement with its option.
pub const ADVERTISEMENT_LEN: usize = 14 + 40 + ICMP_LEN;

const ICMP_LEN: usize = 32;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const ROUTER: u8 = 0x80;
/// Options, of eight bytes.
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The frame that says that `vip` is at `owner`. `router`: the owner forwards IPv6.
pub fn announcement(owner: Mac, vip: IpAddr, router: bool) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => garp(owner, vip).to_vec(),
        IpAddr::V6(vip) => neighbour_advertisement(owner, vip, router).to_vec(),
    }
}

/// A multicast to all nodes that says that `vip` is at `owner`.
pub fn neighbour_advertisement(owner: Mac, vip: Ipv6Addr, router: bool) -> [u8; ADVERTISEMENT_LEN] {
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let kind = [NEIGHBOUR_ADVERTISEMENT, flags, TARGET_LINK_LAYER_ADDRESS];
    discovery(kind, owner, (vip, ALL_NODES), vip)
}

/// Asks who has `vip`, from an address of the node's own (RFC 4861 4.3).
pub fn solicitation(asker: Mac, own: Ipv6Addr, vip: Ipv6Addr) -> [u8; ADVERTISEMENT_LEN] {
    let [.., a, b, c] = vip.octets();
    // RFC 4291 2.7.1.
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    discovery([NEIGHBOUR_SOLICITATION, 0, SOURCE_LINK_LAYER_ADDRESS], asker, (own, group), vip)
}

/// A multicast of neighbour discovery with these type, flags and option, which has the sender's MAC.
fn discovery(
    [kind, flags, option]: [u8; 3],
    sender: Mac,
    (source, group): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
) -> [u8; ADVERTISEMENT_LEN] {
    let mut frame = [0; ADVERTISEMENT_LEN];
    // RFC 2464 7.
    frame[0..2].copy_from_slice(&[0x33, 0x33]);
    frame[2..6].copy_from_slice(&group.octets()[12..]);
    frame[6..12].copy_from_slice(&sender.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV6);
    let (ip, icmp) = frame[14..].split_at_mut(40);
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&PAYLOAD_LEN.to_be_bytes());
    ip[6] = ICMPV6;
    ip[7] = 255;
    ip[8..24].copy_from_slice(&source.octets());
    ip[24..40].copy_from_slice(&group.octets());
    icmp[0] = kind;
    icmp[4] = flags;
    icmp[8..24].copy_from_slice(&target.octets());
    icmp[24..26].copy_from_slice(&[option, 1]);
    icmp[26..32].copy_from_slice(&sender.0);
    // The pseudo-header of RFC 8200 8.1: both addresses, length, next header.
    let sum = checksum::add_bytes(u32::from(PAYLOAD_LEN) + u32::from(ICMPV6), &ip[8..40]);
    let checksum = !checksum::fold(checksum::add_bytes(sum, icmp));
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[expect(clippy::cast_possible_truncation, reason = "32")]
const PAYLOAD_LEN: u16 = ICMP_LEN as u16;

/// Ethernet header and ARP for IPv4.
pub const GARP_LEN: usize = 14 + 28;

const BROADCAST: Mac = Mac([0xff; 6]);
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ARP_REQUEST: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 1];

/// A broadcast that says that `vip` is at `owner`.
pub fn garp(owner: Mac, vip: Ipv4Addr) -> [u8; GARP_LEN] {
    question(owner, vip, vip)
}

/// A broadcast that asks who has `vip`, from an address of the node's own (RFC 826).
pub fn question(asker: Mac, own: Ipv4Addr, vip: Ipv4Addr) -> [u8; GARP_LEN] {
    let mut frame = [0; GARP_LEN];
    frame[0..6].copy_from_slice(&BROADCAST.0);
    frame[6..12].copy_from_slice(&asker.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
    frame[14..22].copy_from_slice(&ARP_REQUEST);
    frame[22..28].copy_from_slice(&asker.0);
    frame[28..32].copy_from_slice(&own.octets());
    frame[38..42].copy_from_slice(&vip.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garp_is_a_broadcast_request_for_the_sender_itself() {
        let frame = garp(Mac([2, 0, 0, 0, 0, 0x11]), Ipv4Addr::new(10, 0, 0, 100));
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // to all
            0x02, 0x00, 0x00, 0x00, 0x00, 0x11, // from the owner
            0x08, 0x06, // ARP
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, // IPv4 over Ethernet
            0x00, 0x01, // request
            0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 10, 0, 0, 100, // sender
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 10, 0, 0, 100, // target
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn an_advertisement_overrides_what_all_nodes_know() {
        let (owner, vip) =
            (Mac([2, 0, 0, 0, 0, 0x11]), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100));
        let frame = neighbour_advertisement(owner, vip, false);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x11, 0x86, 0xdd]);
        assert_eq!(frame[14..22], [0x60, 0, 0, 0, 0, 32, 58, 255], "hop limit 255");
        assert_eq!(frame[22..38], vip.octets());
        assert_eq!(frame[38..54], ALL_NODES.octets());
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[62..78], vip.octets());
        assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 0x11]);
        assert_eq!(sum_of(&frame), 0xffff);
        assert_eq!(neighbour_advertisement(owner, vip, true)[58], 0xa0);
    }

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target() {
        let (asker, own) = (Mac([2, 0, 0, 0, 0, 0x11]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));
        let vip = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);
        let frame = solicitation(asker, own, vip);
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!((&frame[22..38], &frame[38..54]), (&own.octets()[..], &group.octets()[..]));
        assert_eq!(frame[54..56], [135, 0]);
        assert_eq!(frame[58..62], [0; 4]);
        assert_eq!(frame[62..78], vip.octets());
        assert_eq!(frame[78..], [1, 1, 2, 0, 0, 0, 0, 0x11]);
        assert_eq!(sum_of(&frame), 0xffff);
    }

    #[test]
    fn a_question_is_from_an_address_of_the_nodes_own() {
        let frame = question(
            Mac([2, 0, 0, 0, 0, 1]),
            Ipv4Addr::new(10, 0, 0, 2),
            Ipv4Addr::new(10, 0, 0, 100),
        );
        assert_eq!((&frame[20..22], &frame[28..32]), (&[0, 1][..], &[10, 0, 0, 2][..]));
        assert_eq!((&frame[32..38], &frame[38..42]), (&[0; 6][..], &[10, 0, 0, 100][..]));
    }

    #[test]
    fn a_vip_is_announced_in_its_own_family() {
        let owner = Mac([2, 0, 0, 0, 0, 1]);
        let frame = |vip: &str| announcement(owner, vip.parse().unwrap(), false);
        assert_eq!(frame("10.0.0.1").len(), GARP_LEN);
        assert_eq!(frame("fd00::1").len(), ADVERTISEMENT_LEN);
    }

    /// Ones' complement sum of the pseudo-header and the message, in 16-bit words.
    fn sum_of(frame: &[u8]) -> u64 {
        let words = frame[22..].chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]));
        let mut sum: u64 = words.sum::<u64>() + 32 + 58;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }
}
