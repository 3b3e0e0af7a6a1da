//! Reading IP headers of both families, of whole packets and of quoted ones. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};

use super::checksum::checksum;
use super::extension::Extension;
use super::{u16_at, u32_at};

pub(crate) const V4_LEN: usize = 20;
pub(crate) const V6_LEN: usize = 40;

/// A header, and what of the packet follows it.
pub(crate) struct Header<'a> {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) tos: u8,
    pub(crate) flow_label: u32,
    pub(crate) id: u16,
    pub(crate) frags: u16,
    pub(crate) ttl: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
    /// Of the payload.
    pub(crate) protocol: u8,
    /// Whether it is one of several fragments.
    pub(crate) is_part: bool,
    /// So much the header claims, behind options and extensions.
    pub(crate) payload_len: usize,
    /// So much there is of it.
    pub(crate) payload: &'a [u8],
    /// What follows the packet.
    pub(crate) padding: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads a packet that may be cut behind its header and extension headers.
    pub(crate) fn parse(packet: &'a [u8]) -> Result<Self> {
        match packet.first().context("no IP header")? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            version => bail!("IP version {version}"),
        }
    }

    fn parse_v4(packet: &'a [u8]) -> Result<Self> {
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        let total = usize::from(u16_at(packet, 2)?);
        ensure!((V4_LEN..=total).contains(&header_len), "IHL {header_len}, total {total}");
        ensure!(header_len <= packet.len(), "IHL {header_len} of {} bytes", packet.len());
        let (packet, padding) = packet.split_at(total.min(packet.len()));
        let (header, payload) = packet.split_at(header_len);
        ensure!(checksum(&[header]) == 0, "IP checksum {:#06x}", u16_at(header, 10)?);
        let frags = u16_at(header, 6)?;
        Ok(Self {
            src: Ipv4Addr::from(u32_at(header, 12)?).into(),
            dst: Ipv4Addr::from(u32_at(header, 16)?).into(),
            tos: header[1],
            flow_label: 0,
            id: u16_at(header, 4)?,
            frags,
            ttl: header[8],
            options: header[V4_LEN..].to_vec(),
            extensions: vec![],
            protocol: header[9],
            is_part: frags & 0x3fff != 0,
            payload_len: total - header_len,
            payload,
            padding,
        })
    }

    fn parse_v6(packet: &'a [u8]) -> Result<Self> {
        ensure!(packet.len() >= V6_LEN, "an IPv6 header of {} bytes", packet.len());
        let (header, rest) = packet.split_at(V6_LEN);
        let (first, claimed) = (u32_at(header, 0)?, usize::from(u16_at(header, 4)?));
        let (mut payload, padding) = rest.split_at(claimed.min(rest.len()));
        let mut payload_len = claimed;
        let (mut protocol, mut extensions) = (header[6], vec![]);
        while Extension::is(protocol) {
            let before = payload.len();
            let (next, extension, following) = Extension::parse(protocol, payload)?;
            payload_len -= before - following.len();
            let is_part = extension.is_part();
            extensions.push(extension);
            (protocol, payload) = (next, following);
            if is_part {
                break;
            }
        }
        Ok(Self {
            src: v6_at(header, 8).into(),
            dst: v6_at(header, 24).into(),
            tos: (first >> 20 & 0xff).try_into()?,
            flow_label: first & 0xf_ffff,
            id: 0,
            frags: 0,
            ttl: header[7],
            options: vec![],
            is_part: extensions.last().is_some_and(Extension::is_part),
            extensions,
            protocol,
            payload_len,
            payload,
            padding,
        })
    }
}

fn v6_at(header: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    octets.into()
}
