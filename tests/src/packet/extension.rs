//! IPv6 extension headers (RFC 8200 section 4), in chains as long and as odd as one likes. Pure.

use anyhow::{Context as _, Result, ensure};

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const NO_NEXT_HEADER: u8 = 59;
pub const DESTINATION: u8 = 60;
pub const MOBILITY: u8 = 135;

/// One header of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What the header before it calls it.
    pub kind: u8,
    /// All but its first byte, which says what follows and is filled in from the chain.
    pub rest: Vec<u8>,
}

impl Extension {
    /// A header with a length in units of eight bytes beyond the first; `data` is filled up with zeros.
    #[must_use]
    pub fn new(kind: u8, data: &[u8]) -> Self {
        let units = (2 + data.len()).div_ceil(8);
        let mut rest = vec![u8::try_from(units - 1).unwrap_or(u8::MAX)];
        rest.extend(data);
        rest.resize(units * 8 - 1, 0);
        Self { kind, rest }
    }

    /// Padding of `units` times eight bytes, as one option (RFC 8200 section 4.2).
    #[must_use]
    pub fn padding(kind: u8, units: u8) -> Self {
        let length = usize::from(units) * 8 - 4;
        let mut data = vec![1, u8::try_from(length).unwrap_or(u8::MAX)];
        data.resize(length + 2, 0);
        Self::new(kind, &data)
    }

    /// Of any type, with `segments_left`.
    #[must_use]
    pub fn routing(routing_type: u8, segments_left: u8) -> Self {
        Self::new(ROUTING, &[routing_type, segments_left, 0, 0, 0, 0])
    }

    /// Offset in units of eight bytes; neither offset nor more to come makes an atomic one (RFC 6946).
    #[must_use]
    pub fn fragment(offset: u16, more: bool, id: u32) -> Self {
        let field = offset << 3 | u16::from(more);
        Self { kind: FRAGMENT, rest: [&[0], &field.to_be_bytes()[..], &id.to_be_bytes()].concat() }
    }

    /// With a check value of twelve bytes, and a length in units of its own (RFC 4302 section 2.2).
    #[must_use]
    pub fn authentication() -> Self {
        let mut rest = vec![4, 0, 0];
        rest.resize(23, 0x5a);
        Self { kind: AUTHENTICATION, rest }
    }

    /// One whose length field lies.
    #[must_use]
    pub fn claiming(mut self, length: u8) -> Self {
        self.rest[0] = length;
        self
    }

    /// As on the wire, before a header that is called `next`.
    pub(super) fn bytes(&self, next: u8) -> Vec<u8> {
        [&[next], &self.rest[..]].concat()
    }

    /// Reads a header called `kind`: what follows it is called so, the header, and what follows.
    pub(super) fn parse(kind: u8, bytes: &[u8]) -> Result<(u8, Self, &[u8])> {
        let (next, claimed) = (*bytes.first().context("an extension header")?, bytes.get(1));
        let claimed = usize::from(*claimed.context("an extension header of one byte")?);
        let length = match kind {
            FRAGMENT => 8,
            AUTHENTICATION => (claimed + 2) * 4,
            _ => (claimed + 1) * 8,
        };
        ensure!(length <= bytes.len(), "extension header {kind} of {length} bytes");
        let (header, following) = bytes.split_at(length);
        Ok((next, Self { kind, rest: header[1..].to_vec() }, following))
    }

    /// Whether a protocol number names one.
    pub(super) const fn is(kind: u8) -> bool {
        matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY)
    }

    /// Whether the packet is one of several fragments.
    pub(super) fn is_part(&self) -> bool {
        self.kind == FRAGMENT && (self.rest[1] != 0 || self.rest[2] & 0xf9 != 0)
    }
}
