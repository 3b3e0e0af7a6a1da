//! ICMP (RFC 792) and ICMPv6 (RFC 4443): messages, errors with the packet they are about. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};

use super::checksum::{checksum, l4_checksum};
use super::{Frame, ICMP, ICMPV6, TCP, ip};

/// A message of either protocol: which one is a matter of the packet it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    /// The second word: MTU, pointer, identifier and number of an echo.
    pub word: u32,
    /// Data of an echo, or what an error quotes.
    pub body: Vec<u8>,
}

/// What an error reports, in the words that both protocols have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    NetUnreachable,
    HostUnreachable,
    PortUnreachable,
    Prohibited,
    /// With the MTU of the next hop: fragmentation needed (RFC 1191), packet too big (RFC 8201).
    TooBig(u16),
    TimeExceeded,
    /// With a pointer to the byte.
    ParameterProblem(u8),
}

impl Report {
    /// Type, code and second word.
    const fn header(self, of_v6: bool) -> (u8, u8, u32) {
        match (self, of_v6) {
            (Self::NetUnreachable, false) => (3, 0, 0),
            (Self::NetUnreachable, true) => (1, 0, 0),
            (Self::HostUnreachable, false) => (3, 1, 0),
            (Self::HostUnreachable, true) => (1, 3, 0),
            (Self::PortUnreachable, false) => (3, 3, 0),
            (Self::PortUnreachable, true) => (1, 4, 0),
            (Self::Prohibited, false) => (3, 13, 0),
            (Self::Prohibited, true) => (1, 1, 0),
            (Self::TooBig(mtu), false) => (3, 4, mtu as u32),
            (Self::TooBig(mtu), true) => (2, 0, mtu as u32),
            (Self::TimeExceeded, false) => (11, 0, 0),
            (Self::TimeExceeded, true) => (3, 0, 0),
            (Self::ParameterProblem(at), false) => (12, 0, (at as u32) << 24),
            (Self::ParameterProblem(at), true) => (4, 0, at as u32),
        }
    }
}

impl Icmp {
    /// An error about a packet, of which `quote` has as much as is quoted, from its IP header on.
    pub(super) fn error(report: Report, of_v6: bool, quote: &[u8]) -> Self {
        let (kind, code, word) = report.header(of_v6);
        Self { kind, code, word, body: quote.to_vec() }
    }

    pub(super) fn echo(of_v6: bool) -> Self {
        Self { kind: if of_v6 { 128 } else { 8 }, code: 0, word: 0x1234_0001, body: b"fair".into() }
    }

    /// With its checksum still zero.
    pub(super) fn unsummed(&self) -> Vec<u8> {
        let word = self.word.to_be_bytes();
        [&[self.kind, self.code, 0, 0], &word[..], &self.body].concat()
    }

    /// Reads a message; of an error also what it quotes is checked as far as it goes.
    pub(super) fn parse(message: &[u8], of_v6: bool) -> Result<Self> {
        let (&[kind, code, _, _, a, b, c, d], body) =
            message.split_first_chunk().context("an ICMP header")?;
        let word = u32::from_be_bytes([a, b, c, d]);
        let message = Self { kind, code, word, body: body.to_vec() };
        if message.is_error(of_v6) {
            check_quote(body, of_v6)?;
        }
        Ok(message)
    }

    /// RFC 792's errors but for redirects; RFC 4443 section 2.1.
    #[must_use]
    pub const fn is_error(&self, of_v6: bool) -> bool {
        if of_v6 { self.kind < 128 } else { matches!(self.kind, 3 | 4 | 5 | 11 | 12) }
    }
}

/// An IPv4 header must have its right checksum, and so must a TCP segment that is there as a whole.
fn check_quote(quote: &[u8], of_v6: bool) -> Result<()> {
    let header = ip::Header::parse(quote)?;
    ensure!(header.src.is_ipv6() == of_v6, "a quote of the other family");
    let is_whole = header.payload.len() == header.payload_len;
    if header.protocol == TCP && is_whole && !header.is_part {
        let sum = l4_checksum(header.src, header.dst, TCP, header.payload);
        ensure!(sum == 0, "TCP checksum of the quote: off by {sum:#06x}");
    }
    Ok(())
}

/// Zero over a message with its right checksum: ICMPv6 alone has a pseudo-header.
pub(super) fn sum(src: IpAddr, dst: IpAddr, message: &[u8]) -> u16 {
    if src.is_ipv6() { l4_checksum(src, dst, ICMPV6, message) } else { checksum(&[message]) }
}

/// The protocol's number in the family of an address.
pub(super) const fn protocol(address: IpAddr) -> u8 {
    if address.is_ipv6() { ICMPV6 } else { ICMP }
}

impl Frame {
    /// The message in it.
    #[must_use]
    pub const fn message(&self) -> Option<&Icmp> {
        match &self.l4 {
            super::L4::Icmp(message) => Some(message),
            super::L4::Tcp(_) | super::L4::Udp { .. } | super::L4::Raw(_) => None,
        }
    }
}
