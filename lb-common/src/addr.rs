//! Addresses as packets carry them: big-endian inside, host types outside. Pure.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod port;

pub use port::{Endpoint, PortBe, Ports};

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
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
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
    pub const fn bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    pub const fn get(self) -> Ipv4Addr {
        let [a, b, c, d] = self.bytes();
        Ipv4Addr::new(a, b, c, d)
    }
}

/// An IPv6 address in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv6Be([u64; 2]);

impl Ipv6Be {
    pub const UNSPECIFIED: Self = Self([0; 2]);

    pub const fn new(address: Ipv6Addr) -> Self {
        Self(words_of(address))
    }

    pub const fn get(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(bits_of(self.0))
    }

    /// From 64-bit numbers as they are in memory.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    #[inline(always)]
    pub const fn in_words(self) -> [u64; 2] {
        self.0
    }

    /// From the sixteen bytes of a header.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        // SAFETY: both are sixteen bytes, of which all values are valid.
        Self(unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(bytes) })
    }

    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        // SAFETY: likewise.
        unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(self.0) }
    }
}

/// An address of either family: IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2). What is not
/// looked up for every packet is kept under it, once for both families.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpBe([u64; 2]);

/// What the second half of an IPv4-mapped address has in front of the IPv4 address, `0000:ffff`.
const MAPPED: u64 = 0xffff;

impl IpBe {
    pub const UNSPECIFIED: Self = Self([0; 2]);

    pub const fn new(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(mapped(Ipv4Be::new(address))),
            IpAddr::V6(address) => Self(words_of(address)),
        }
    }

    pub const fn get(self) -> IpAddr {
        match unmapped(self.0) {
            Some(address) => IpAddr::V4(address.get()),
            None => IpAddr::V6(Ipv6Addr::from_bits(bits_of(self.0))),
        }
    }

    /// Neither a gateway nor an address.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.0[0] | self.0[1] == 0
    }

    /// The first bits of an address of the same family, `mask` having those that count.
    #[inline(always)]
    pub const fn is_within(self, prefix: Self, mask: Self) -> bool {
        (self.0[0] ^ prefix.0[0]) & mask.0[0] | (self.0[1] ^ prefix.0[1]) & mask.0[1] == 0
    }

    /// The mask of a prefix of so many bits, of 128; see [`Self::prefix_bits`].
    pub const fn mask(bits: u32) -> Self {
        let mask = if bits >= 128 { u128::MAX } else { !(u128::MAX >> bits) };
        Self(words_of(Ipv6Addr::from_bits(mask)))
    }

    /// What a single owner is assumed to have: the /64 of an IPv6 address, all of an IPv4 one.
    #[inline(always)]
    pub const fn owner(self) -> Self {
        if unmapped(self.0).is_some() { self } else { Self([self.0[0], 0]) }
    }

    /// As data of a trie's key, which stands behind a 32-bit number.
    #[inline(always)]
    pub const fn trie_data(self) -> [u32; 4] {
        // SAFETY: both are sixteen bytes, of which all values are valid.
        unsafe { core::mem::transmute::<[u64; 2], [u32; 4]>(self.0) }
    }

    /// Bits of a prefix of `length` bits of the address's own family, in a trie of such addresses.
    pub const fn prefix_bits(address: IpAddr, length: u8) -> u32 {
        match address {
            IpAddr::V4(_) => 96 + length as u32,
            IpAddr::V6(_) => length as u32,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each is half of it")]
const fn words_of(address: Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [((bits >> 64) as u64).to_be(), (bits as u64).to_be()]
}

const fn bits_of(words: [u64; 2]) -> u128 {
    (u64::from_be(words[0]) as u128) << 64 | u64::from_be(words[1]) as u128
}

#[inline(always)]
const fn mapped(address: Ipv4Be) -> [u64; 2] {
    [0, (MAPPED << 32 | u32::from_be(address.0) as u64).to_be()]
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn unmapped(words: [u64; 2]) -> Option<Ipv4Be> {
    let low = u64::from_be(words[1]);
    if words[0] == 0 && low >> 32 == MAPPED { Some(Ipv4Be((low as u32).to_be())) } else { None }
}

/// What the flow code needs of an address family.
pub trait Address: Copy + Eq {
    /// The same address where both families are kept together.
    fn ip(self) -> IpBe;
    /// Back from there; the low 32 bits for IPv4.
    fn from_ip(ip: IpBe) -> Self;
    /// Contents as up to two 64-bit words, equal on every machine; for hashing.
    fn words(self) -> [u64; 2];
    /// 32-bit words that it consists of.
    const PARTS: usize;
    /// One of them, as it is in memory.
    fn part(self, index: usize) -> u32;
    /// 0 if both are the same; without branches.
    fn difference(self, other: Self) -> u64;
    /// Ones' complement sum of the 16-bit words, in host order.
    fn checksum_words(self) -> u32;
}

impl Address for Ipv4Be {
    #[inline(always)]
    fn ip(self) -> IpBe {
        IpBe(mapped(self))
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    fn from_ip(ip: IpBe) -> Self {
        Self((u64::from_be(ip.0[1]) as u32).to_be())
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u32::from_be(self.0) as u64, 0]
    }

    const PARTS: usize = 1;

    #[inline(always)]
    fn part(self, _: usize) -> u32 {
        self.0
    }

    #[inline(always)]
    fn difference(self, other: Self) -> u64 {
        (self.0 ^ other.0) as u64
    }

    #[inline(always)]
    fn checksum_words(self) -> u32 {
        word_sum(self.0 as u64)
    }
}

impl Address for Ipv6Be {
    #[inline(always)]
    fn ip(self) -> IpBe {
        IpBe(self.0)
    }

    #[inline(always)]
    fn from_ip(ip: IpBe) -> Self {
        Self(ip.0)
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u64::from_be(self.0[1]), u64::from_be(self.0[0])]
    }

    const PARTS: usize = 4;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "one half after the other")]
    fn part(self, index: usize) -> u32 {
        (self.0[(index / 2) & 1] >> (index % 2 * 32)) as u32
    }

    #[inline(always)]
    fn difference(self, other: Self) -> u64 {
        (self.0[0] ^ other.0[0]) | (self.0[1] ^ other.0[1])
    }

    #[inline(always)]
    fn checksum_words(self) -> u32 {
        let half = |word: u64| (word >> 32) + (word & 0xffff_ffff);
        word_sum(half(self.0[0]) + half(self.0[1]))
    }
}

/// Ones' complement sum of the 16-bit words in a sum of words in network order: that of swapped words
/// is the swapped sum (RFC 1071 section 2B).
#[inline(always)]
const fn word_sum(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let swapped = u16::from_be(sum as u16);
    swapped as u32
}

#[cfg(feature = "user")]
mod pod {
    use super::{IpBe, Ipv4Be, Ipv6Be};

    // SAFETY: a transparent u32.
    unsafe impl aya::Pod for Ipv4Be {}
    // SAFETY: a transparent array of u64.
    unsafe impl aya::Pod for Ipv6Be {}
    // SAFETY: a transparent array of u64.
    unsafe impl aya::Pod for IpBe {}
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
    }

    #[test]
    fn either_family_goes_in_and_comes_out() {
        let four: IpAddr = "10.0.0.100".parse().unwrap();
        let six: IpAddr = "fd00:1:2:3:4:5:6:7".parse().unwrap();
        for address in [four, six] {
            assert_eq!(IpBe::new(address).get(), address);
        }
        let IpAddr::V4(v4) = four else { unreachable!() };
        let IpAddr::V6(v6) = six else { unreachable!() };
        assert_eq!(Ipv4Be::new(v4).ip(), IpBe::new(four));
        assert_eq!(Ipv4Be::from_ip(IpBe::new(four)), Ipv4Be::new(v4));
        assert_eq!(Ipv6Be::new(v6).ip(), IpBe::new(six));
        assert_eq!(Ipv6Be::from_ip(IpBe::new(six)), Ipv6Be::new(v6));
        assert_eq!(Ipv6Be::from_bytes(v6.octets()), Ipv6Be::new(v6));
        assert_eq!((Ipv6Be::new(v6).bytes(), Ipv6Be::new(v6).get()), (v6.octets(), v6));
        assert_eq!(Ipv6Be::new(v6).words(), [0x0004_0005_0006_0007, 0xfd00_0001_0002_0003]);
        assert_eq!(Ipv6Be::new(v6).checksum_words(), 0xfd00 + 1 + 2 + 3 + 4 + 5 + 6 + 7);
    }

    #[test]
    fn an_owner_has_a_64_or_an_ipv4_address() {
        let owner = |text: &str| IpBe::new(text.parse().unwrap()).owner().get().to_string();
        assert_eq!(owner("10.0.0.100"), "10.0.0.100");
        assert_eq!(owner("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
