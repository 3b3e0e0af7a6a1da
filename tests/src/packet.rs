//! Frames that can be read: a builder, and a parser that accepts sound frames only. Pure.
//!
//! Lengths and checksums are computed here from scratch: no line is shared with what the project
//! computes them by. A field that is set stays as it is set, so that a frame may lie about itself.
//!
//! ```text
//! Ethernet | tags | IPv4 | options | TCP | options | payload | padding
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

pub const ETH_LEN: usize = 14;
pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;

const IP_LEN: usize = 20;
const TCP_LEN: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

pub type Mac = [u8; 6];

/// An Ethernet frame with an IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub eth_dst: Mac,
    pub eth_src: Mac,
    /// Tag protocol and tag control information, outermost first.
    pub tags: Vec<(u16, u16)>,
    pub ether_type: u16,
    pub version: u8,
    /// In 32-bit words; `None`: what fits.
    pub ihl: Option<u8>,
    pub tos: u8,
    pub total_len: Option<u16>,
    pub id: u16,
    /// Flags and fragment offset.
    pub frags: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub ip_options: Vec<u8>,
    pub l4: L4,
    /// What follows the IP packet.
    pub padding: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    Tcp(Tcp),
    Udp {
        src_port: u16,
        dst_port: u16,
        payload: Vec<u8>,
    },
    /// Whatever the protocol number says.
    Raw(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    /// In 32-bit words; `None`: what fits.
    pub data_offset: Option<u8>,
    /// The three reserved bits and AE, below the data offset.
    pub reserved: u8,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Frame {
    fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, l4: L4) -> Self {
        Self {
            eth_dst: [0; 6],
            eth_src: [0; 6],
            tags: vec![],
            ether_type: IPV4,
            version: 4,
            ihl: None,
            tos: 0,
            total_len: None,
            id: 0x1234,
            frags: 0x4000,
            ttl: 64,
            protocol,
            src,
            dst,
            ip_options: vec![],
            l4,
            padding: vec![],
        }
    }

    /// A TCP segment without flags and payload.
    #[must_use]
    pub fn tcp(src: SocketAddrV4, dst: SocketAddrV4) -> Self {
        let tcp = Tcp {
            src_port: src.port(),
            dst_port: dst.port(),
            seq: 0,
            ack: 0,
            data_offset: None,
            reserved: 0,
            flags: 0,
            window: 64_240,
            urgent: 0,
            options: vec![],
            payload: vec![],
        };
        Self::new(*src.ip(), *dst.ip(), TCP, L4::Tcp(tcp))
    }

    #[must_use]
    pub fn udp(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Self {
        let l4 = L4::Udp { src_port: src.port(), dst_port: dst.port(), payload: payload.to_vec() };
        Self::new(*src.ip(), *dst.ip(), UDP, l4)
    }

    /// A packet of any protocol.
    #[must_use]
    pub fn raw(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Self {
        Self::new(src, dst, protocol, L4::Raw(payload.to_vec()))
    }

    /// An ICMP echo request.
    #[must_use]
    pub fn echo(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'f', b'a', b'i', b'r'];
        let sum = checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Self::raw(src, dst, 1, &message)
    }

    #[must_use]
    pub fn macs(mut self, src: Mac, dst: Mac) -> Self {
        self.eth_src = src;
        self.eth_dst = dst;
        self
    }

    /// Adds a tag inside those that are there.
    #[must_use]
    pub fn tag(mut self, protocol: u16, control: u16) -> Self {
        self.tags.push((protocol, control));
        self
    }

    #[must_use]
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.ether_type = ether_type;
        self
    }

    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        self.version = version;
        self
    }

    #[must_use]
    pub fn ihl(mut self, words: u8) -> Self {
        self.ihl = Some(words);
        self
    }

    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    #[must_use]
    pub fn total_len(mut self, bytes: u16) -> Self {
        self.total_len = Some(bytes);
        self
    }

    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Flags (three bits) and offset (in eight bytes) of a fragment.
    #[must_use]
    pub fn frags(mut self, frags: u16) -> Self {
        self.frags = frags;
        self
    }

    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Length must be a multiple of four.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    #[must_use]
    pub fn padding(mut self, bytes: &[u8]) -> Self {
        self.padding = bytes.to_vec();
        self
    }

    /// Another source, as a translation makes it.
    #[must_use]
    pub fn from(mut self, src: SocketAddrV4) -> Self {
        self.src = *src.ip();
        self.with_tcp(|tcp| tcp.src_port = src.port())
    }

    /// Another destination.
    #[must_use]
    pub fn to(mut self, dst: SocketAddrV4) -> Self {
        self.dst = *dst.ip();
        self.with_tcp(|tcp| tcp.dst_port = dst.port())
    }

    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.with_tcp(|tcp| tcp.flags = flags)
    }

    #[must_use]
    pub fn seq(self, seq: u32) -> Self {
        self.with_tcp(|tcp| tcp.seq = seq)
    }

    #[must_use]
    pub fn ack(self, ack: u32) -> Self {
        self.with_tcp(|tcp| tcp.ack = ack)
    }

    #[must_use]
    pub fn data_offset(self, words: u8) -> Self {
        self.with_tcp(|tcp| tcp.data_offset = Some(words))
    }

    #[must_use]
    pub fn window(self, window: u16) -> Self {
        self.with_tcp(|tcp| tcp.window = window)
    }

    #[must_use]
    pub fn urgent(self, pointer: u16) -> Self {
        self.with_tcp(|tcp| tcp.urgent = pointer)
    }

    /// Length must be a multiple of four.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        self.with_tcp(|tcp| tcp.options = options.to_vec())
    }

    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        self.with_tcp(|tcp| tcp.payload = payload.to_vec())
    }

    /// No effect on a frame of another protocol.
    #[must_use]
    fn with_tcp(mut self, change: impl FnOnce(&mut Tcp)) -> Self {
        if let L4::Tcp(tcp) = &mut self.l4 {
            change(tcp);
        }
        self
    }

    /// The segment in it.
    #[must_use]
    pub fn segment(&self) -> Option<&Tcp> {
        match &self.l4 {
            L4::Tcp(tcp) => Some(tcp),
            L4::Udp { .. } | L4::Raw(_) => None,
        }
    }

    /// Source of a segment; port 0 of anything else.
    #[must_use]
    pub fn source(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.src, self.segment().map_or(0, |tcp| tcp.src_port))
    }

    /// Destination of a segment; port 0 of anything else.
    #[must_use]
    pub fn destination(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.dst, self.segment().map_or(0, |tcp| tcp.dst_port))
    }

    /// As it is on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.eth_dst, self.eth_src].concat();
        for (protocol, control) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(self.ether_type.to_be_bytes());

        let l4 = self.l4_bytes();
        let header_len = IP_LEN + self.ip_options.len();
        let ihl = self.ihl.unwrap_or_else(|| saturated(header_len / 4));
        let total = self.total_len.unwrap_or_else(|| length(header_len + l4.len()));
        let mut header = vec![self.version << 4 | ihl & 0x0f, self.tos];
        for word in [total, self.id, self.frags] {
            header.extend(word.to_be_bytes());
        }
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.src.octets());
        header.extend(self.dst.octets());
        header.extend(&self.ip_options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());

        frame.extend(header);
        frame.extend(l4);
        frame.extend(&self.padding);
        frame
    }

    fn l4_bytes(&self) -> Vec<u8> {
        let (mut segment, checksum_at) = match &self.l4 {
            L4::Tcp(tcp) => (tcp.unsummed(), 16),
            L4::Udp { src_port, dst_port, payload } => {
                let mut datagram = vec![];
                for word in [*src_port, *dst_port, length(8 + payload.len()), 0] {
                    datagram.extend(word.to_be_bytes());
                }
                datagram.extend(payload);
                (datagram, 6)
            }
            L4::Raw(bytes) => return bytes.clone(),
        };
        let sum = l4_checksum(self.src, self.dst, self.protocol, &segment);
        segment[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// Reads a frame that holds a whole TCP segment.
    ///
    /// # Errors
    /// It does not, its lengths contradict each other, or a checksum is wrong.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let (eth_dst, rest) = frame.split_first_chunk().context("destination address")?;
        let (eth_src, mut rest) = rest.split_first_chunk().context("source address")?;
        let mut tags = vec![];
        let ether_type = loop {
            let kind = word(rest, 0)?;
            if kind != VLAN && kind != QINQ {
                break kind;
            }
            tags.push((kind, word(rest, 2)?));
            rest = &rest[4..];
        };
        ensure!(ether_type == IPV4, "ethertype {ether_type:#06x}");
        let packet = &rest[2..];
        let first = *packet.first().context("IP header")?;
        ensure!(first >> 4 == 4, "IP version {}", first >> 4);
        let header_len = usize::from(first & 0x0f) * 4;
        let total = usize::from(word(packet, 2)?);
        ensure!((IP_LEN..=total).contains(&header_len), "IHL {header_len}, total {total}");
        ensure!(total <= packet.len(), "total length {total} of {} bytes", packet.len());
        let (header, segment) = packet[..total].split_at(header_len);
        ensure!(checksum(&[header]) == 0, "IP checksum {:#06x}", word(header, 10)?);
        ensure!(header[9] == TCP, "protocol {}", header[9]);
        let frags = word(header, 6)?;
        ensure!(frags & 0x3fff == 0, "a fragment");
        let src = Ipv4Addr::from(u32_at(header, 12)?);
        let dst = Ipv4Addr::from(u32_at(header, 16)?);
        let sum = l4_checksum(src, dst, TCP, segment);
        ensure!(sum == 0, "TCP checksum {:#06x}", word(segment, 16)?);
        Ok(Self {
            eth_dst: *eth_dst,
            eth_src: *eth_src,
            tags,
            ether_type,
            version: 4,
            ihl: None,
            tos: header[1],
            total_len: None,
            id: word(header, 4)?,
            frags,
            ttl: header[8],
            protocol: TCP,
            src,
            dst,
            ip_options: header[IP_LEN..].to_vec(),
            l4: L4::Tcp(Tcp::parse(segment)?),
            padding: packet[total..].to_vec(),
        })
    }
}

impl Tcp {
    fn unsummed(&self) -> Vec<u8> {
        let mut segment = vec![];
        segment.extend(self.src_port.to_be_bytes());
        segment.extend(self.dst_port.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        let fitting = saturated((TCP_LEN + self.options.len()) / 4);
        let offset = self.data_offset.unwrap_or(fitting);
        segment.extend([offset << 4 | self.reserved & 0x0f, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 2]);
        segment.extend(self.urgent.to_be_bytes());
        segment.extend(&self.options);
        segment.extend(&self.payload);
        segment
    }

    fn parse(segment: &[u8]) -> Result<Self> {
        ensure!(segment.len() >= TCP_LEN, "a TCP header of {} bytes", segment.len());
        let header_len = usize::from(segment[12] >> 4) * 4;
        ensure!((TCP_LEN..=segment.len()).contains(&header_len), "data offset {header_len}");
        Ok(Self {
            src_port: word(segment, 0)?,
            dst_port: word(segment, 2)?,
            seq: u32_at(segment, 4)?,
            ack: u32_at(segment, 8)?,
            data_offset: None,
            reserved: segment[12] & 0x0f,
            flags: segment[13],
            window: word(segment, 14)?,
            urgent: word(segment, 18)?,
            options: segment[TCP_LEN..header_len].to_vec(),
            payload: segment[header_len..].to_vec(),
        })
    }
}

/// The Internet checksum (RFC 1071); every part but the last has an even length. Over data that
/// contains its own right checksum it is zero.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(pair[0]) * 256 + u64::from(low);
        }
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    !length(usize::try_from(sum).unwrap_or(usize::MAX))
}

/// With the pseudo-header of RFC 9293 section 3.1.
fn l4_checksum(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let length = length(segment.len()).to_be_bytes();
    checksum(&[&src.octets(), &dst.octets(), &[0, protocol], &length, segment])
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

fn saturated(words: usize) -> u8 {
    u8::try_from(words).unwrap_or(u8::MAX)
}

fn word(bytes: &[u8], at: usize) -> Result<u16> {
    let word = bytes.get(at..at + 2).context("too short")?;
    Ok(u16::from_be_bytes([word[0], word[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(word(bytes, at)?) << 16 | u32::from(word(bytes, at + 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN-ACK, as a Linux host sent it.
    const WIRE: [u8; 58] = [
        0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
        0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0x26, 0x26, 10, 77, 0, 11, 10, 77, 0, 2, // IPv4
        0x19, 0x2b, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x12, 0xff, 0xff, 0xce, 0x01, 0, 0,
        2, 4, 5, 0xb4, // maximum segment size
    ];

    fn syn_ack() -> Frame {
        let server = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 6443);
        let client = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), 40_000);
        Frame::tcp(server, client)
            .macs([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
            .id(0)
            .flags(SYN | ACK)
            .seq(1)
            .ack(2)
            .window(0xffff)
            .options(&[2, 4, 5, 0xb4])
    }

    #[test]
    fn a_frame_is_built_as_on_the_wire_and_read_back() {
        assert_eq!(syn_ack().bytes(), WIRE);
        assert_eq!(Frame::parse(&WIRE).unwrap(), syn_ack());
        let tagged = syn_ack().tag(QINQ, 5).tag(VLAN, 7).ip_options(&[1; 8]).padding(&[0; 3]);
        assert_eq!(Frame::parse(&tagged.bytes()).unwrap(), tagged);
    }

    #[test]
    fn any_changed_bit_of_the_packet_is_found() {
        for byte in ETH_LEN..WIRE.len() {
            let mut frame = WIRE;
            frame[byte] ^= 0x10;
            assert!(Frame::parse(&frame).is_err(), "byte {byte}");
            assert!(Frame::parse(&WIRE[..byte]).is_err(), "{byte} bytes");
        }
    }
}
