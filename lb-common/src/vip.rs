//! What the datapath knows of a VIP. Pure.

/// Value of the map of VIPs: the index of its lease, and what becomes of packets of no service.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip(u32);

/// Above every index ([`crate::MAX_VIPS`]).
const CLOSED: u32 = 1 << 31;

impl Vip {
    /// `accepts`: packets to it that are of no service are for this host (Accept_Mode of RFC 9568 6.1).
    pub const fn new(lease: u32, accepts: bool) -> Self {
        Self(if accepts { lease } else { lease | CLOSED })
    }

    /// Index of its lease.
    #[inline(always)]
    pub const fn lease(self) -> u32 {
        self.0 & !CLOSED
    }

    #[inline(always)]
    pub const fn accepts(self) -> bool {
        self.0 & CLOSED == 0
    }
}

#[cfg(feature = "user")]
// SAFETY: a u32.
unsafe impl aya::Pod for Vip {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_same_whatever_is_accepted() {
        for index in [0, 1, crate::MAX_VIPS - 1] {
            for accepts in [true, false] {
                let vip = Vip::new(index, accepts);
                assert_eq!((vip.lease(), vip.accepts()), (index, accepts));
            }
        }
    }
}
