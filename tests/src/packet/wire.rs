//! A frame as bytes, with the lengths and checksums that fit what does not lie. Pure.

use super::checksum::{checksum, l4_checksum, octets};
use super::{Frame, L4, TCP_LEN, Tcp, icmp, ip};

impl Frame {
    /// As it is on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.eth_dst, self.eth_src].concat();
        for (protocol, control) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(self.ether_type.to_be_bytes());
        frame.extend(self.packet());
        frame.extend(&self.padding);
        frame
    }

    /// The IP packet in it: what an ICMP error about it quotes.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        if self.is_ipv6() { self.ipv6_packet() } else { self.ipv4_packet() }
    }

    fn ipv4_packet(&self) -> Vec<u8> {
        let l4 = self.l4_bytes();
        let header_len = ip::V4_LEN + self.ip_options.len();
        let ihl = self.ihl.unwrap_or_else(|| saturated(header_len / 4));
        let total = self.total_len.unwrap_or_else(|| length(header_len + l4.len()));
        let mut packet = vec![self.version.unwrap_or(4) << 4 | ihl & 0x0f, self.tos];
        for word in [total, self.id, self.frags] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(octets(self.src));
        packet.extend(octets(self.dst));
        packet.extend(&self.ip_options);
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(l4);
        packet
    }

    fn ipv6_packet(&self) -> Vec<u8> {
        // From the last to the first: each says what follows it.
        let (mut next, mut payload) = (self.protocol, self.l4_bytes());
        for extension in self.extensions.iter().rev() {
            let mut longer = extension.bytes(next);
            longer.append(&mut payload);
            (next, payload) = (extension.kind, longer);
        }
        let first = u32::from(self.version.unwrap_or(6)) << 28
            | u32::from(self.tos) << 20
            | self.flow_label & 0xf_ffff;
        let mut packet = first.to_be_bytes().to_vec();
        packet.extend(self.total_len.unwrap_or_else(|| length(payload.len())).to_be_bytes());
        packet.extend([next, self.ttl]);
        packet.extend(octets(self.src));
        packet.extend(octets(self.dst));
        packet.extend(payload);
        packet
    }

    fn l4_bytes(&self) -> Vec<u8> {
        let (mut message, checksum_at) = match &self.l4 {
            L4::Tcp(tcp) => (tcp.unsummed(), 16),
            L4::Udp { src_port, dst_port, payload } => {
                let mut datagram = vec![];
                for word in [*src_port, *dst_port, length(8 + payload.len()), 0] {
                    datagram.extend(word.to_be_bytes());
                }
                datagram.extend(payload);
                (datagram, 6)
            }
            L4::Icmp(message) => (message.unsummed(), 2),
            L4::Raw(bytes) => return bytes.clone(),
        };
        let sum = if matches!(self.l4, L4::Icmp(_)) {
            icmp::sum(self.src, self.dst, &message)
        } else {
            l4_checksum(self.src, self.dst, self.protocol, &message)
        };
        message[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        message
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
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

fn saturated(words: usize) -> u8 {
    u8::try_from(words).unwrap_or(u8::MAX)
}
