//! Reading frames, sound ones only. Pure.

use anyhow::{Context as _, Result, ensure};

use super::checksum::l4_checksum;
use super::icmp::{self, Icmp};
use super::{
    Frame, IPV4, IPV6, L4, QINQ, TCP, TCP_LEN, Tcp, UDP, VLAN, ip, is_icmp, u16_at, u32_at,
};

impl Frame {
    /// Reads a frame that holds a whole packet: TCP, UDP, ICMP, or anything else, unread.
    ///
    /// # Errors
    /// It does not, its lengths contradict each other, or a checksum is wrong, be it of what an ICMP
    /// error quotes.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let (eth_dst, rest) = frame.split_first_chunk().context("destination address")?;
        let (eth_src, mut rest) = rest.split_first_chunk().context("source address")?;
        let mut tags = vec![];
        let ether_type = loop {
            let kind = u16_at(rest, 0)?;
            if kind != VLAN && kind != QINQ {
                break kind;
            }
            tags.push((kind, u16_at(rest, 2)?));
            rest = &rest[4..];
        };
        let header = ip::Header::parse(&rest[2..])?;
        let expected = if header.src.is_ipv6() { IPV6 } else { IPV4 };
        ensure!(ether_type == expected, "ethertype {ether_type:#06x}");
        let there = header.payload.len();
        ensure!(there == header.payload_len, "{there} bytes of {}", header.payload_len);
        ensure!(!header.is_part, "a fragment");
        let l4 = L4::parse(&header)?;
        Ok(Self {
            eth_dst: *eth_dst,
            eth_src: *eth_src,
            tags,
            ether_type,
            version: None,
            ihl: None,
            tos: header.tos,
            flow_label: header.flow_label,
            total_len: None,
            id: header.id,
            frags: header.frags,
            ttl: header.ttl,
            protocol: header.protocol,
            src: header.src,
            dst: header.dst,
            ip_options: header.options,
            extensions: header.extensions,
            l4,
            padding: header.padding.to_vec(),
        })
    }
}

impl L4 {
    fn parse(header: &ip::Header<'_>) -> Result<Self> {
        let bytes = header.payload;
        let sum = || l4_checksum(header.src, header.dst, header.protocol, bytes);
        if header.protocol == TCP {
            ensure!(sum() == 0, "TCP checksum: off by {:#06x}", sum());
            return Tcp::parse(bytes).map(Self::Tcp);
        }
        if header.protocol == UDP {
            ensure!(sum() == 0, "UDP checksum: off by {:#06x}", sum());
            ensure!(usize::from(u16_at(bytes, 4)?) == bytes.len(), "UDP length");
            return Ok(Self::Udp {
                src_port: u16_at(bytes, 0)?,
                dst_port: u16_at(bytes, 2)?,
                payload: bytes.get(8..).context("a UDP header")?.to_vec(),
            });
        }
        if is_icmp(header.protocol, header.src) {
            let sum = icmp::sum(header.src, header.dst, bytes);
            ensure!(sum == 0, "ICMP checksum: off by {sum:#06x}");
            return Icmp::parse(bytes, header.src.is_ipv6()).map(Self::Icmp);
        }
        Ok(Self::Raw(bytes.to_vec()))
    }
}

impl Tcp {
    fn parse(segment: &[u8]) -> Result<Self> {
        ensure!(segment.len() >= TCP_LEN, "a TCP header of {} bytes", segment.len());
        let header_len = usize::from(segment[12] >> 4) * 4;
        ensure!((TCP_LEN..=segment.len()).contains(&header_len), "data offset {header_len}");
        Ok(Self {
            src_port: u16_at(segment, 0)?,
            dst_port: u16_at(segment, 2)?,
            seq: u32_at(segment, 4)?,
            ack: u32_at(segment, 8)?,
            data_offset: None,
            reserved: segment[12] & 0x0f,
            flags: segment[13],
            window: u16_at(segment, 14)?,
            urgent: u16_at(segment, 18)?,
            options: segment[TCP_LEN..header_len].to_vec(),
            payload: segment[header_len..].to_vec(),
        })
    }
}
