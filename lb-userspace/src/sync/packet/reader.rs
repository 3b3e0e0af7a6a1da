//! Reads the parts of a message. Never beyond its end. Pure.

use std::net::{IpAddr, SocketAddr};

use super::PacketError;

/// What is left of a message, or of a part of one.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], PacketError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(PacketError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, PacketError> {
        self.array().map(|[byte]| *byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, PacketError> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, PacketError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, PacketError> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// How many elements follow.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, PacketError> {
        let count = usize::from(self.u16()?);
        if count > most { Err(PacketError::Many(count)) } else { Ok(count) }
    }

    /// A part with its length in front.
    pub(super) fn sized(&mut self) -> Result<Self, PacketError> {
        let length = usize::from(self.u8()?);
        let (taken, rest) = self.0.split_at_checked(length).ok_or(PacketError::Short)?;
        self.0 = rest;
        Ok(Self(taken))
    }

    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn address(&mut self) -> Result<IpAddr, PacketError> {
        match self.u8()? {
            4 => self.array::<4>().map(|bytes| IpAddr::from(*bytes)),
            6 => self.array::<16>().map(|bytes| IpAddr::from(*bytes)),
            other => Err(PacketError::Family(other)),
        }
    }

    pub(super) fn endpoint(&mut self) -> Result<SocketAddr, PacketError> {
        Ok(SocketAddr::new(self.address()?, self.u16()?))
    }
}
