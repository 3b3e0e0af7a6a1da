//! Addresses as packets carry them: big-endian inside, host types outside. Pure.

use core::net::Ipv4Addr;

/// An IPv4 address in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Be(u32);

impl Ipv4Be {
    pub const UNSPECIFIED: Self = Self(0);

    pub const fn new(address: Ipv4Addr) -> Self {
        Self::from_bytes(address.octets())
    }

    /// From the four bytes of a header.
    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    #[inline(always)]
    pub const fn bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    pub const fn get(self) -> Ipv4Addr {
        let [a, b, c, d] = self.bytes();
        Ipv4Addr::new(a, b, c, d)
    }
}

/// What the flow code needs of an address family.
pub trait Address: Copy + Eq {
    /// Contents as up to two 64-bit words, equal on every machine; for hashing.
    fn words(self) -> [u64; 2];
    /// Sum of the 16-bit words in host order; for checksums.
    fn checksum_words(self) -> u32;
}

impl Address for Ipv4Be {
    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u32::from_be(self.0) as u64, 0]
    }

    #[inline(always)]
    fn checksum_words(self) -> u32 {
        let host = u32::from_be(self.0);
        (host >> 16) + (host & 0xffff)
    }
}

/// A TCP port in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortBe(u16);

impl PortBe {
    pub const fn new(port: u16) -> Self {
        Self(port.to_be())
    }

    /// From the two bytes of a header.
    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    #[inline(always)]
    pub const fn bytes(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An Ethernet address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where a frame goes on the link: the neighbour, our own address there, the interface, the tags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Interface to send from; 0: unknown.
    pub ifindex: u32,
    /// The neighbour's address.
    pub mac: Mac,
    /// Source of the frames we send.
    pub source_mac: Mac,
    /// 802.1Q tag control information, outer tag; 0: untagged.
    pub vlan: u16,
    /// Inner tag; 0: none.
    pub inner_vlan: u16,
}

const _: () = assert!(size_of::<NextHop>() == 20);

impl NextHop {
    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        self.ifindex != 0
    }
}

/// Where a TCP server listens.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint<A> {
    pub address: A,
    pub port: PortBe,
    pub protocol: u8,
    _pad: u8,
}

const _: () = assert!(size_of::<Endpoint<Ipv4Be>>() == 8);

impl<A> Endpoint<A> {
    #[inline(always)]
    pub const fn new(address: A, port: PortBe, protocol: u8) -> Self {
        Self { address, port, protocol, _pad: 0 }
    }
}

/// Destination of a route: its gateway and interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route<A> {
    /// Unspecified: the destination is on the link.
    pub gateway: A,
    pub ifindex: u32,
}

#[cfg(feature = "user")]
mod pod {
    use super::{Endpoint, Ipv4Be, NextHop, Route};

    // SAFETY: a transparent u32.
    unsafe impl aya::Pod for Ipv4Be {}
    // SAFETY: integers and byte arrays only; the size assertion rules padding out.
    unsafe impl aya::Pod for NextHop {}
    // SAFETY: 4 + 2 + 1 + 1 bytes, asserted.
    unsafe impl aya::Pod for Endpoint<Ipv4Be> {}
    // SAFETY: two u32.
    unsafe impl aya::Pod for Route<Ipv4Be> {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_keep_network_order() {
        let address = Ipv4Be::new(Ipv4Addr::new(10, 0, 0, 100));
        assert_eq!(address.bytes(), [10, 0, 0, 100]);
        assert_eq!(address.get(), Ipv4Addr::new(10, 0, 0, 100));
        assert_eq!(address.words()[0], 0x0a00_0064);
        assert_eq!(address.checksum_words(), 0x0a00 + 0x0064);
        assert_eq!(PortBe::new(6443).bytes(), [0x19, 0x2b]);
        assert_eq!(PortBe::from_bytes([0x19, 0x2b]).get(), 6443);
    }
}
