//! Ports, and where a server listens. Pure.

use super::{IpBe, word_sum};

/// A TCP port in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortBe(u16);

impl PortBe {
    pub const fn new(port: u16) -> Self {
        Self(port.to_be())
    }

    /// From the two bytes of a header.
    pub const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// From a 16-bit number as it is in memory.
    #[inline(always)]
    pub const fn from_word(word: u16) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub const fn word(self) -> u16 {
        self.0
    }

    pub const fn bytes(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// Source and destination port as they stand in a header, side by side, in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(u32);

impl Ports {
    #[inline(always)]
    pub const fn new(src: PortBe, dst: PortBe) -> Self {
        Self(u32::from_be((src.get() as u32) << 16 | dst.get() as u32))
    }

    /// From a 32-bit number as it is in memory.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub const fn src(self) -> PortBe {
        PortBe::new((u32::from_be(self.0) >> 16) as u16)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub const fn dst(self) -> PortBe {
        PortBe::new(u32::from_be(self.0) as u16)
    }

    /// Those of an answer.
    #[inline(always)]
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self(self.0.rotate_left(16))
    }

    /// Ones' complement sum of both, in host order.
    #[inline(always)]
    pub const fn checksum_words(self) -> u32 {
        word_sum(self.0 as u64)
    }
}

/// Where a TCP server listens.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: IpBe,
    pub port: PortBe,
    pub protocol: u8,
    _pad: [u8; 5],
}

const _: () = assert!(size_of::<Endpoint>() == 24);

impl Endpoint {
    #[inline(always)]
    pub const fn new(address: IpBe, port: PortBe, protocol: u8) -> Self {
        Self { address, port, protocol, _pad: [0; 5] }
    }

    /// The host of an endpoint, whatever it listens on.
    #[inline(always)]
    pub const fn host(address: IpBe) -> Self {
        Self { address, port: PortBe(0), protocol: 0, _pad: [0; 5] }
    }
}

#[cfg(feature = "user")]
// SAFETY: integers only; the size assertion rules padding out.
unsafe impl aya::Pod for Endpoint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_keeps_network_order() {
        assert_eq!(PortBe::new(6443).bytes(), [0x19, 0x2b]);
        assert_eq!(PortBe::from_bytes([0x19, 0x2b]).get(), 6443);
    }

    #[test]
    fn ports_stand_side_by_side() {
        let ports = Ports::new(PortBe::new(0x1234), PortBe::new(0x5678));
        assert_eq!(ports.word().to_ne_bytes(), [0x12, 0x34, 0x56, 0x78]);
        assert_eq!((ports.src().get(), ports.dst().get()), (0x1234, 0x5678));
        assert_eq!(ports.swapped(), Ports::new(ports.dst(), ports.src()));
        assert_eq!(ports.checksum_words(), 0x1234 + 0x5678);
    }
}
