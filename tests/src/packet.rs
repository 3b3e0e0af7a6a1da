//! Frames that can be read: a builder, and a parser that accepts sound frames only. Pure.
//!
//! Lengths and checksums are computed here from scratch: no line is shared with what the project
//! computes them by. A field that is set stays as it is set, so that a frame may lie about itself.
//! The family is that of the addresses; what only the other one has is left alone by its setter.
//!
//! ```text
//! Ethernet | tags | IPv4 | options           | TCP | options | payload | padding
//!                 | IPv6 | extension headers | UDP | payload
//!                                            | ICMP | echo, or the quoted packet
//! ```

mod build;
pub(crate) mod checksum;
mod extension;
mod icmp;
pub(crate) mod ip;
mod read;
mod segment;
#[cfg(test)]
mod tests;
mod wire;

use std::net::IpAddr;

use anyhow::{Context as _, Result};

pub use self::extension::{
    AUTHENTICATION, DESTINATION, Extension, FRAGMENT, HOP_BY_HOP, MOBILITY, NO_NEXT_HEADER, ROUTING,
};
pub use self::icmp::{Icmp, Report};

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

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

const TCP_LEN: usize = 20;

pub type Mac = [u8; 6];

/// An Ethernet frame with an IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub eth_dst: Mac,
    pub eth_src: Mac,
    /// Tag protocol and tag control information, outermost first.
    pub tags: Vec<(u16, u16)>,
    pub ether_type: u16,
    /// `None`: that of the addresses.
    pub version: Option<u8>,
    /// IPv4: in 32-bit words; `None`: what fits.
    pub ihl: Option<u8>,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IPv6: twenty bits.
    pub flow_label: u32,
    /// The length field, of IPv4 with and of IPv6 without the header; `None`: what fits.
    pub total_len: Option<u16>,
    /// IPv4: identification.
    pub id: u16,
    /// IPv4: flags and fragment offset.
    pub frags: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// What the last header before `l4` calls it.
    pub protocol: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IPv4.
    pub ip_options: Vec<u8>,
    /// IPv6, in their order.
    pub extensions: Vec<Extension>,
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
    Icmp(Icmp),
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
    /// Whether its addresses are.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.src.is_ipv6()
    }
}

fn is_icmp(protocol: u8, address: IpAddr) -> bool {
    protocol == icmp::protocol(address)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let word = bytes.get(at..at + 2).context("too short")?;
    Ok(u16::from_be_bytes([word[0], word[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(u16_at(bytes, at)?) << 16 | u32::from(u16_at(bytes, at + 2)?))
}
