//! How long this node may act for a VIP without hearing from its controller. Pure.

/// Two deadlines of one VIP, in nanoseconds of CLOCK_MONOTONIC.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Until then ARP and NS are answered and new flows are made.
    pub answer_until: u64,
    /// Until then established flows are forwarded; afterwards every frame to the VIP is dropped.
    pub forward_until: u64,
}

impl Lease {
    /// Of a VIP that belongs to no VRRP instance.
    pub const FOREVER: Self = Self { answer_until: u64::MAX, forward_until: u64::MAX };

    /// Never renewed: the state of a VIP that nobody wrote a lease for.
    pub const EXPIRED: Self = Self { answer_until: 0, forward_until: 0 };

    #[inline(always)]
    pub const fn may_answer(&self, now: u64) -> bool {
        now < self.answer_until
    }

    #[inline(always)]
    pub const fn may_forward(&self, now: u64) -> bool {
        now < self.forward_until
    }
}

#[cfg(feature = "user")]
// SAFETY: two u64.
unsafe impl aya::Pod for Lease {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_exclusive() {
        let lease = Lease { answer_until: 10, forward_until: 20 };
        assert!(lease.may_answer(9) && !lease.may_answer(10));
        assert!(lease.may_forward(19) && !lease.may_forward(20));
        assert!(Lease::FOREVER.may_answer(u64::MAX - 1));
        assert!(!Lease::EXPIRED.may_forward(0));
    }
}
