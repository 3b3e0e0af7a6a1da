//! What differs between IPv4 and IPv6: headers, maps, and where a record keeps its flow.

use lb_common::IPPROTO_TCP;
use lb_common::addr::{Address, Ipv4Be, Ipv6Be, Ports};
use lb_common::flow::FlowKey;
use lb_common::trace::{Halves, Record, found};

use crate::frame::Frame;
use crate::table::Tables;

/// What a packet says of itself, or of what it quotes.
pub(crate) struct Packet<A> {
    /// Of an ICMP error: of a segment that would answer the one that it is about, which is what the
    /// flow's half has that the error goes along.
    pub(crate) key: FlowKey<A>,
    /// It may belong to a flow.
    pub(crate) is_of_flows: bool,
}

/// An address family.
pub(crate) trait Family: Tables {
    /// Of [`found`].
    const BIT: u32;

    /// `None`: not all of its headers are there.
    fn parse(frame: &Frame, offset: u64) -> Option<Packet<Self>>;

    fn halves(record: &mut Record) -> &mut Halves<Self>;
}

/// A packet with these addresses and the protocol at `offset`.
#[inline(always)]
fn packet<A: Address>(
    frame: &Frame,
    (src, dst): (A, A),
    protocol: u8,
    offset: u64,
) -> Option<Packet<A>> {
    let is_of_flows = protocol == IPPROTO_TCP;
    let ports = if is_of_flows || protocol == IPPROTO_UDP {
        Ports::from_word(frame.at(offset)?)
    } else {
        Ports::from_word(0)
    };
    let mut key = FlowKey::new(src, dst, ports);
    key.protocol = u32::from(protocol).to_be();
    Some(Packet { key, is_of_flows })
}

const IPPROTO_UDP: u8 = 17;

/// The fields of an IPv4 header that are read (RFC 791 section 3.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4Header {
    version: u8,
    _tos: u8,
    _length: [u8; 2],
    _id: [u8; 2],
    fragment: [u8; 2],
    _ttl: u8,
    protocol: u8,
    _checksum: [u8; 2],
    src: [u8; 4],
    dst: [u8; 4],
}

impl Ipv4Header {
    #[inline(always)]
    fn length(&self) -> u64 {
        u64::from(self.version & 0xf) * 4
    }

    #[inline(always)]
    fn addresses(&self) -> (Ipv4Be, Ipv4Be) {
        (Ipv4Be::from_bytes(self.src), Ipv4Be::from_bytes(self.dst))
    }

    /// Has no header behind it.
    #[inline(always)]
    fn is_later_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & 0x1fff != 0
    }
}

const IPPROTO_ICMP: u8 = 1;
/// Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
const ICMP_ERRORS: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12;
/// In front of what an ICMP error quotes.
const ICMP_HEADER: u64 = 8;

impl Family for Ipv4Be {
    const BIT: u32 = 0;

    #[inline(always)]
    fn parse(frame: &Frame, offset: u64) -> Option<Packet<Self>> {
        let ip: Ipv4Header = frame.at(offset)?;
        if ip.is_later_fragment() {
            let mut key = FlowKey::new(ip.addresses().0, ip.addresses().1, Ports::from_word(0));
            key.protocol = u32::from(ip.protocol).to_be();
            return Some(Packet { key, is_of_flows: false });
        }
        let behind = offset + ip.length();
        if ip.protocol == IPPROTO_ICMP {
            let kind: u8 = frame.at(behind)?;
            if kind < 32 && ICMP_ERRORS >> kind & 1 != 0 {
                let quoted: Ipv4Header = frame.at(behind + ICMP_HEADER)?;
                let at = behind + ICMP_HEADER + quoted.length();
                let quoted = packet(frame, quoted.addresses(), quoted.protocol, at)?;
                return Some(Packet { key: quoted.key.reversed(), ..quoted });
            }
        }
        packet(frame, ip.addresses(), ip.protocol, behind)
    }

    #[inline(always)]
    fn halves(record: &mut Record) -> &mut Halves<Self> {
        // SAFETY: integers only, of which all values are valid.
        unsafe { &mut record.flow.v4 }
    }
}

/// An IPv6 header (RFC 8200 section 3).
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv6Header {
    _version: [u8; 4],
    _length: [u8; 2],
    next_header: u8,
    _hops: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

impl Ipv6Header {
    #[inline(always)]
    fn addresses(&self) -> (Ipv6Be, Ipv6Be) {
        (Ipv6Be::from_bytes(self.src), Ipv6Be::from_bytes(self.dst))
    }
}

/// What extension headers begin with; in a fragment header the last two bytes say where the fragment begins.
#[derive(Clone, Copy)]
#[repr(C)]
struct Extension {
    next_header: u8,
    length: u8,
    fragment: [u8; 2],
}

impl Extension {
    /// The fragment begins with what this header is followed by.
    #[inline(always)]
    fn is_first_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & 0xfff8 == 0
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const IPPROTO_ICMPV6: u8 = 58;
const IPV6_HEADER: u64 = size_of::<Ipv6Header>() as u64;
/// Extension headers that are followed: as many as the XDP program does.
const EXTENSIONS: usize = 8;

/// Protocol and where its header starts, behind extension headers.
#[inline(always)]
fn behind_extensions(frame: &Frame, first: u8, offset: u64) -> Option<(u8, u64)> {
    let (mut protocol, mut offset) = (first, offset);
    for _ in 0..EXTENSIONS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            break;
        }
        let extension: Extension = frame.at(offset)?;
        if protocol != FRAGMENT {
            offset += (u64::from(extension.length) + 1) * 8;
        } else if extension.is_first_fragment() {
            offset += 8;
        } else {
            break;
        }
        protocol = extension.next_header;
    }
    Some((protocol, offset))
}

impl Family for Ipv6Be {
    const BIT: u32 = found::IPV6;

    #[inline(always)]
    fn parse(frame: &Frame, offset: u64) -> Option<Packet<Self>> {
        let ip: Ipv6Header = frame.at(offset)?;
        let (protocol, behind) = behind_extensions(frame, ip.next_header, offset + IPV6_HEADER)?;
        if protocol == IPPROTO_ICMPV6 {
            let kind: u8 = frame.at(behind)?;
            // Errors have the lower half of the types, four of which are in use (RFC 4443 section 2.1).
            if (1..=4).contains(&kind) {
                let at = behind + ICMP_HEADER;
                let quoted: Ipv6Header = frame.at(at)?;
                let (protocol, at) =
                    behind_extensions(frame, quoted.next_header, at + IPV6_HEADER)?;
                let quoted = packet(frame, quoted.addresses(), protocol, at)?;
                return Some(Packet { key: quoted.key.reversed(), ..quoted });
            }
        }
        packet(frame, ip.addresses(), protocol, behind)
    }

    #[inline(always)]
    fn halves(record: &mut Record) -> &mut Halves<Self> {
        // SAFETY: integers only, of which all values are valid.
        unsafe { &mut record.flow.v6 }
    }
}
