//! Making frames, and changing them. Pure.

use std::net::{IpAddr, SocketAddr};

use super::icmp::{self, Icmp, Report};
use super::{Extension, Frame, IPV4, IPV6, L4, Mac, TCP, Tcp, UDP};

impl Frame {
    fn new(src: IpAddr, dst: IpAddr, protocol: u8, l4: L4) -> Self {
        let of_v6 = src.is_ipv6();
        Self {
            eth_dst: [0; 6],
            eth_src: [0; 6],
            tags: vec![],
            ether_type: if of_v6 { IPV6 } else { IPV4 },
            version: None,
            ihl: None,
            tos: 0,
            flow_label: 0,
            total_len: None,
            id: if of_v6 { 0 } else { 0x1234 },
            frags: if of_v6 { 0 } else { 0x4000 },
            ttl: 64,
            protocol,
            src,
            dst,
            ip_options: vec![],
            extensions: vec![],
            l4,
            padding: vec![],
        }
    }

    /// A TCP segment without flags and payload.
    #[must_use]
    pub fn tcp(src: impl Into<SocketAddr>, dst: impl Into<SocketAddr>) -> Self {
        let (src, dst) = (src.into(), dst.into());
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
        Self::new(src.ip(), dst.ip(), TCP, L4::Tcp(tcp))
    }

    #[must_use]
    pub fn udp(src: impl Into<SocketAddr>, dst: impl Into<SocketAddr>, payload: &[u8]) -> Self {
        let (src, dst) = (src.into(), dst.into());
        let l4 = L4::Udp { src_port: src.port(), dst_port: dst.port(), payload: payload.to_vec() };
        Self::new(src.ip(), dst.ip(), UDP, l4)
    }

    /// A packet of any protocol.
    #[must_use]
    pub fn raw(
        src: impl Into<IpAddr>,
        dst: impl Into<IpAddr>,
        protocol: u8,
        payload: &[u8],
    ) -> Self {
        Self::new(src.into(), dst.into(), protocol, L4::Raw(payload.to_vec()))
    }

    /// A message of the family's ICMP.
    #[must_use]
    pub fn icmp(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, message: Icmp) -> Self {
        let src = src.into();
        Self::new(src, dst.into(), icmp::protocol(src), L4::Icmp(message))
    }

    /// An echo request.
    #[must_use]
    pub fn echo(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Self {
        let src = src.into();
        Self::icmp(src, dst, Icmp::echo(src.is_ipv6()))
    }

    /// An ICMP error about the packet that `quote` begins with; see [`Frame::packet`].
    #[must_use]
    pub fn error(
        src: impl Into<IpAddr>,
        dst: impl Into<IpAddr>,
        report: Report,
        quote: &[u8],
    ) -> Self {
        let src = src.into();
        Self::icmp(src, dst, Icmp::error(report, src.is_ipv6(), quote))
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

    /// Has these tags and no others, outermost first.
    #[must_use]
    pub fn tagged(mut self, tags: &[(u16, u16)]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    #[must_use]
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.ether_type = ether_type;
        self
    }

    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        self.version = Some(version);
        self
    }

    /// No effect on IPv6.
    #[must_use]
    pub fn ihl(mut self, words: u8) -> Self {
        self.ihl = Some(words);
        self
    }

    /// Type of service, or traffic class.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// The length field: of the whole packet, or of the payload of an IPv6 packet.
    #[must_use]
    pub fn total_len(mut self, bytes: u16) -> Self {
        self.total_len = Some(bytes);
        self
    }

    /// Time to live, or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Identification; no effect on IPv6.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        if !self.is_ipv6() {
            self.id = id;
        }
        self
    }

    /// Flags (three bits) and offset (in eight bytes) of a fragment; no effect on IPv6.
    #[must_use]
    pub fn frags(mut self, frags: u16) -> Self {
        if !self.is_ipv6() {
            self.frags = frags;
        }
        self
    }

    /// One of several fragments, as the family marks them; the offset is in units of eight bytes.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        if self.is_ipv6() {
            return self.extension(Extension::fragment(offset, more, 0x5678_1234));
        }
        self.frags(u16::from(more) << 13 | offset)
    }

    /// Length must be a multiple of four; no effect on IPv6.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        if !self.is_ipv6() {
            self.ip_options = options.to_vec();
        }
        self
    }

    /// Twenty bits; no effect on IPv4.
    #[must_use]
    pub fn flow_label(mut self, label: u32) -> Self {
        if self.is_ipv6() {
            self.flow_label = label;
        }
        self
    }

    /// Adds an extension header behind those that are there; no effect on IPv4.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        if self.is_ipv6() {
            self.extensions.push(extension);
        }
        self
    }

    #[must_use]
    pub fn padding(mut self, bytes: &[u8]) -> Self {
        self.padding = bytes.to_vec();
        self
    }
}
