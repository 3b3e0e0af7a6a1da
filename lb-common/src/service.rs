//! Services and VIPs as the datapath looks them up. Pure.

use crate::addr::{Address, Ipv4Be, PortBe};
use crate::conntrack::Timeouts;

/// Key of the service map: what a client addresses.
pub type ServiceKey<A> = crate::addr::Endpoint<A>;

/// SNAT addresses a service can spread its flows over.
pub const MAX_SNAT_ADDRESSES: usize = 4;

/// An address that requests are sent from, with the VIP whose lease it is under.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnatAddress<A> {
    pub address: A,
    pub vip: u32,
}

/// Value of the service map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service<A> {
    /// Index into the array of selection tables; shared by all VIPs of a service.
    pub id: u32,
    /// Index of the addressed VIP's lease.
    pub vip: u32,
    pub snat: [SnatAddress<A>; MAX_SNAT_ADDRESSES],
    /// How many of `snat` are in use; at least 1.
    pub snat_count: u8,
    /// [`crate::nat::Kind`] as a number.
    pub kind: u8,
    /// Range of SNAT ports, both ends included, host order.
    pub snat_port_min: u16,
    pub snat_port_max: u16,
    pub _pad: u16,
    pub timeouts: Timeouts,
}

const _: () = assert!(size_of::<Service<Ipv4Be>>() == 72);

/// Ports that requests are sent from: all but the well-known ones.
pub const SNAT_PORTS: core::ops::RangeInclusive<u16> = 1024..=65535;

/// Words of the VIP filter.
pub const FILTER_WORDS: usize = 64;

/// A bit per VIP in a table of 4,096: a clear bit says that no VIP has this address. It spares the
/// packets that are not ours every hash lookup.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipFilter(pub [u64; FILTER_WORDS]);

impl VipFilter {
    pub const EMPTY: Self = Self([0; FILTER_WORDS]);

    pub fn insert<A: Address>(&mut self, address: A) {
        let (word, bit) = Self::position(address);
        self.0[word] |= bit;
    }

    #[inline(always)]
    pub fn may_contain<A: Address>(&self, address: A) -> bool {
        let (word, bit) = Self::position(address);
        self.0[word] & bit != 0
    }

    #[inline(always)]
    fn position<A: Address>(address: A) -> (usize, u64) {
        let [low, high] = address.words();
        let hash = (low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> 58) as usize & (FILTER_WORDS - 1), 1 << ((hash >> 52) & 63))
    }
}

impl<A> Service<A> {
    #[inline(always)]
    pub const fn snat_port_count(&self) -> u32 {
        self.snat_port_max as u32 - self.snat_port_min as u32 + 1
    }

    #[inline(always)]
    pub const fn is_snat_port(port: PortBe) -> bool {
        port.get() >= *SNAT_PORTS.start()
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{Service, VipFilter};
    use crate::addr::Ipv4Be;

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for Service<Ipv4Be> {}
    // SAFETY: an array of u64.
    unsafe impl aya::Pod for VipFilter {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_filter_has_no_false_negatives(addresses in proptest::collection::vec(any::<u32>(), 1..200)) {
            let mut filter = VipFilter::EMPTY;
            for bits in &addresses {
                filter.insert(Ipv4Be::new(Ipv4Addr::from_bits(*bits)));
            }
            for bits in &addresses {
                prop_assert!(filter.may_contain(Ipv4Be::new(Ipv4Addr::from_bits(*bits))));
            }
        }
    }

    #[test]
    fn a_filter_of_one_vip_lets_its_subnet_pass() {
        let mut filter = VipFilter::EMPTY;
        filter.insert(Ipv4Be::new(Ipv4Addr::new(10, 0, 0, 100)));
        let hits = (0..=255u8)
            .filter(|last| filter.may_contain(Ipv4Be::new(Ipv4Addr::new(10, 0, 0, *last))))
            .count();
        assert_eq!(hits, 1);
    }
}
