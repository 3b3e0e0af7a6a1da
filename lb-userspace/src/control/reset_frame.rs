//! The frame that tells a client that its connection is lost: a RST in the VIP's name (RFC 9293
//! section 3.10.7.1). Pure.
//!
//! ```text
//! +------------+----------+--------------+--------------+---------------------------------+
//! | MACs of    | up to 2  | EtherType    | IPv4 or IPv6 | TCP: ports, seq, flags RST,     |
//! | both ends  | VLAN tags|              | 20 or 40     | all else zero                20 |
//! +------------+----------+--------------+--------------+---------------------------------+
//! ```
//! Without ACK, with the sequence number that the client expects next: the only one that it
//! believes at once (RFC 5961 section 3.2). Where this node does not know that number, because only another
//! one has seen the connection, an acknowledgement with an old one asks for it: whoever gets it answers with
//! where it is (RFC 9293 section 3.10.7.4), and is told then.

use std::net::{IpAddr, SocketAddr};

use lb_common::conntrack::tcp;
use lb_common::link::{Mac, NextHop};
use lb_common::{IPPROTO_TCP, checksum};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IEEE 802.1Q: the only tag or the inner one, and the outer of two.
const TPID_CUSTOMER: [u8; 2] = [0x81, 0x00];
const TPID_SERVICE: [u8; 2] = [0x88, 0xa8];
const TCP_LEN: u8 = 20;
/// As Linux sends them.
const HOPS: u8 = 64;

/// A RST, as its receiver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The VIP, of the client's family.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    /// Asks where the client is instead: what it sent last, as far as is known.
    pub ask: Option<u32>,
}

impl Reset {
    /// The frame that an interface with the address `source` sends to `next_hop`.
    pub fn frame(&self, source: Mac, next_hop: &NextHop) -> Vec<u8> {
        let mut frame = Vec::with_capacity(14 + 8 + 40 + usize::from(TCP_LEN));
        frame.extend(next_hop.mac.0);
        frame.extend(source.0);
        let tags = next_hop.tags;
        if tags.inner != 0 {
            frame.extend(TPID_SERVICE);
            frame.extend(tags.outer.to_be_bytes());
            frame.extend(TPID_CUSTOMER);
            frame.extend(tags.inner.to_be_bytes());
        } else if tags.outer != 0 {
            frame.extend(TPID_CUSTOMER);
            frame.extend(tags.outer.to_be_bytes());
        }
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend(ETHERTYPE_IPV4);
                frame.extend(ipv4(&from.octets(), &to.octets()));
                frame.extend(self.segment(&from.octets(), &to.octets()));
            }
            (from, to) => {
                let (from, to) = (octets(from), octets(to));
                frame.extend(ETHERTYPE_IPV6);
                // Version 6; payload length, next header, hop limit (RFC 8200 section 3).
                frame.extend([0x60, 0, 0, 0, 0, TCP_LEN, IPPROTO_TCP, HOPS]);
                frame.extend(from);
                frame.extend(to);
                frame.extend(self.segment(&from, &to));
            }
        }
        frame
    }

    fn segment(&self, from: &[u8], to: &[u8]) -> [u8; TCP_LEN as usize] {
        let mut tcp = [0; TCP_LEN as usize];
        tcp[0..2].copy_from_slice(&self.from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ask.unwrap_or(0).to_be_bytes());
        tcp[12] = (TCP_LEN / 4) << 4;
        tcp[13] = if self.ask.is_some() { tcp::ACK } else { tcp::RST };
        // The pseudo-header: both addresses, protocol, length (RFC 9293 section 3.1).
        let sum = u32::from(IPPROTO_TCP) + u32::from(TCP_LEN);
        let sum = checksum::add_bytes(checksum::add_bytes(sum, from), to);
        let checksum = !checksum::fold(checksum::add_bytes(sum, &tcp));
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        tcp
    }
}

/// A header with "don't fragment" and no identification (RFC 6864 section 4.1).
fn ipv4(from: &[u8; 4], to: &[u8; 4]) -> [u8; 20] {
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[3] = 20 + TCP_LEN;
    ip[6] = 0x40;
    ip[8] = HOPS;
    ip[9] = IPPROTO_TCP;
    ip[12..16].copy_from_slice(from);
    ip[16..20].copy_from_slice(to);
    let checksum = !checksum::fold(checksum::add_bytes(0, &ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::link::Tags;

    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0x22]);

    #[test]
    fn an_ipv4_frame_byte_by_byte() {
        let frame = reset("10.0.0.100:6443", "10.0.0.2:40000").frame(OWN, &via(0, 0));
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 0x22, 2, 0, 0, 0, 0, 0x11, 0x08, 0x00]);
        assert_eq!(frame[14..24], [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        assert_eq!(frame[26..34], [10, 0, 0, 100, 10, 0, 0, 2]);
        assert_eq!(frame[34..46], [0x19, 0x2b, 0x9c, 0x40, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0]);
        assert_eq!(frame[46..50], [0x50, 0x04, 0, 0], "RST alone, no window");
        assert_eq!(frame.len(), 54);
        assert_eq!(sum(&frame[14..34]), 0xffff);
        assert_eq!(sum(&[&frame[26..], &[0, 6, 0, 20]].concat()), 0xffff);
    }

    #[test]
    fn an_ipv6_frame_byte_by_byte() {
        let frame = reset("[fd00::100]:6443", "[fd00::2]:40000").frame(OWN, &via(0, 0));
        assert_eq!(frame[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        assert_eq!(frame[22..24], [0xfd, 0]);
        assert_eq!((frame[36..38].to_vec(), frame[53]), (vec![1, 0], 2));
        assert_eq!(frame[54..62], [0x19, 0x2b, 0x9c, 0x40, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(frame.len(), 74);
        assert_eq!(sum(&[&frame[22..], &[0, 6, 0, 20]].concat()), 0xffff);
    }

    #[test]
    fn tags_stand_behind_the_addresses() {
        let reset = reset("10.0.0.100:6443", "10.0.0.2:40000");
        let plain = reset.frame(OWN, &via(0, 0));
        let one = reset.frame(OWN, &via(100, 0));
        assert_eq!(one[12..18], [0x81, 0, 0, 100, 0x08, 0]);
        assert_eq!(one[18..], plain[14..]);
        let two = reset.frame(OWN, &via(7, 100));
        assert_eq!(two[12..22], [0x88, 0xa8, 0, 7, 0x81, 0, 0, 100, 0x08, 0]);
        assert_eq!(two[22..], plain[14..]);
    }

    #[test]
    fn a_question_is_an_acknowledgement() {
        let reset = reset("10.0.0.100:6443", "10.0.0.2:40000");
        let frame = Reset { ask: Some(0x0102_0304), ..reset }.frame(OWN, &via(0, 0));
        assert_eq!(frame[38..50], [0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 0x50, 0x10, 0, 0]);
        assert_eq!(sum(&[&frame[26..], &[0, 6, 0, 20]].concat()), 0xffff);
    }

    fn reset(from: &str, to: &str) -> Reset {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Reset { from, to, seq: 0xdead_beef, ask: None }
    }

    fn via(outer: u16, inner: u16) -> NextHop {
        NextHop { mac: ROUTER, link: 1, tags: Tags { outer, inner } }
    }

    /// From scratch.
    fn sum(bytes: &[u8]) -> u32 {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }
}
