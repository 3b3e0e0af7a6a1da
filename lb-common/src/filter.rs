//! A filter in front of the hash lookups: which addresses are none of ours, for certain. Pure.

use crate::addr::{Address, PortBe};

/// Words of a filter.
pub const FILTER_WORDS: usize = 64;

/// A bit per address in a table of 4,096: a clear bit says that it is not among those inserted.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressFilter(pub [u64; FILTER_WORDS]);

impl AddressFilter {
    pub const EMPTY: Self = Self([0; FILTER_WORDS]);

    pub fn insert<A: Address>(&mut self, address: A) {
        let (word, bit) = Self::position(address);
        self.0[word] |= 1 << bit;
    }

    #[inline(always)]
    pub fn may_contain<A: Address>(&self, address: A) -> bool {
        let (word, bit) = Self::position(address);
        self.0[word] >> bit & 1 != 0
    }

    #[inline(always)]
    fn position<A: Address>(address: A) -> (usize, u64) {
        let [low, high] = address.words();
        let hash = (low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> 58) as usize & (FILTER_WORDS - 1), (hash >> 52) & 63)
    }
}

/// What the program asks of every packet before anything else. Value of the filter map.
///
/// An address is inserted as its own family, not as [`crate::addr::IpBe`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Destinations: VIPs, those for SNAT included.
    pub vips: AddressFilter,
    /// Sources whose packets may be replies though they are not for a VIP: backends of `dnat` services.
    pub sources: AddressFilter,
    /// Not 0: `sources` has any.
    pub any_source: u64,
}

impl Filters {
    pub const EMPTY: Self =
        Self { vips: AddressFilter::EMPTY, sources: AddressFilter::EMPTY, any_source: 0 };
}

/// A bit for each port. Value of the map of ports that backends on this node listen on.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSet([u64; PORT_WORDS]);

/// Words of a set of ports.
const PORT_WORDS: usize = 1024;

impl PortSet {
    pub const EMPTY: Self = Self([0; PORT_WORDS]);

    pub const fn insert(&mut self, port: PortBe) {
        let (word, bit) = Self::position(port);
        self.0[word] |= 1 << bit;
    }

    #[inline(always)]
    pub const fn contains(&self, port: PortBe) -> bool {
        let (word, bit) = Self::position(port);
        self.0[word] >> bit & 1 != 0
    }

    #[inline(always)]
    const fn position(port: PortBe) -> (usize, u16) {
        let port = port.get();
        ((port >> 6) as usize & (PORT_WORDS - 1), port & 63)
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{Filters, PortSet};

    // SAFETY: u64 only.
    unsafe impl aya::Pod for Filters {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for PortSet {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Ipv4Be, Ipv6Be};
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn there_are_no_false_negatives(
            v4 in proptest::collection::vec(any::<u32>(), 1..100),
            v6 in proptest::collection::vec(any::<u128>(), 1..100),
        ) {
            let mut filter = AddressFilter::EMPTY;
            let v4: Vec<_> = v4.into_iter().map(|bits| Ipv4Be::new(Ipv4Addr::from_bits(bits))).collect();
            let v6: Vec<_> = v6.into_iter().map(|bits| Ipv6Be::new(Ipv6Addr::from_bits(bits))).collect();
            v4.iter().for_each(|address| filter.insert(*address));
            v6.iter().for_each(|address| filter.insert(*address));
            prop_assert!(v4.iter().all(|address| filter.may_contain(*address)));
            prop_assert!(v6.iter().all(|address| filter.may_contain(*address)));
        }
    }

    #[test]
    fn a_set_of_ports_has_what_was_inserted_and_nothing_else() {
        let ports = [0, 1, 63, 64, 443, 6443, 65535];
        let mut set = PortSet::EMPTY;
        ports.iter().for_each(|port| set.insert(PortBe::new(*port)));
        let found: Vec<u16> =
            (0..=u16::MAX).filter(|port| set.contains(PortBe::new(*port))).collect();
        assert_eq!(found, ports);
    }

    #[test]
    fn a_filter_of_one_vip_lets_its_subnet_pass() {
        let mut filter = AddressFilter::EMPTY;
        filter.insert(Ipv4Be::new(Ipv4Addr::new(10, 0, 0, 100)));
        let hits = (0..=255u8)
            .filter(|last| filter.may_contain(Ipv4Be::new(Ipv4Addr::new(10, 0, 0, *last))))
            .count();
        assert_eq!(hits, 1);
    }
}
