//! The frame by which a new owner of a VIP makes the link send to it: gratuitous ARP. Pure.
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

use std::net::Ipv4Addr;

use lb_common::addr::Mac;

/// Ethernet header and ARP for IPv4.
pub const GARP_LEN: usize = 14 + 28;

const BROADCAST: Mac = Mac([0xff; 6]);
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ARP_REQUEST: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 1];

/// A broadcast that says that `vip` is at `owner`.
pub fn garp(owner: Mac, vip: Ipv4Addr) -> [u8; GARP_LEN] {
    let mut frame = [0; GARP_LEN];
    frame[0..6].copy_from_slice(&BROADCAST.0);
    frame[6..12].copy_from_slice(&owner.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
    frame[14..22].copy_from_slice(&ARP_REQUEST);
    frame[22..28].copy_from_slice(&owner.0);
    frame[28..32].copy_from_slice(&vip.octets());
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
}
