//! The clock that flows go by: 32 bits, of about a millisecond each. Pure.

/// A moment: CLOCK_MONOTONIC in units of 2^20 ns (1.05 ms), modulo 2^32.
///
/// Two moments can be told apart in order if they are less than 26 days from each other, and no
/// timeout is longer than [`Ticks::MAX_TIMEOUT_NS`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks(pub u32);

impl Ticks {
    /// Nanoseconds per tick, as a power of two.
    const SHIFT: u32 = 20;

    /// 14 days.
    pub const MAX_TIMEOUT_NS: u64 = 14 * 86_400 * 1_000_000_000;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 on purpose")]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns >> Self::SHIFT) as u32)
    }

    /// Ticks in a period, rounded up.
    #[expect(clippy::cast_possible_truncation, reason = "periods are below `MAX_TIMEOUT_NS`")]
    pub const fn in_ns(ns: u64) -> u32 {
        ns.div_ceil(1 << Self::SHIFT) as u32
    }

    /// Ticks since `earlier`; 0 if another CPU's clock was read later than this one's.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        if (elapsed as i32) < 0 { 0 } else { elapsed }
    }

    /// The later of two moments.
    #[inline(always)]
    pub const fn max(self, other: Self) -> Self {
        if (self.0.wrapping_sub(other.0) as i32) < 0 { other } else { self }
    }

    /// Earlier than `other`.
    #[inline(always)]
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// The moment so many ticks before.
    #[must_use]
    pub const fn minus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let before = Ticks(u32::MAX - 1);
        let after = Ticks(3);
        assert_eq!(after.since(before), 5);
        assert_eq!(before.since(after), 0);
        assert_eq!(after.max(before), after);
        assert_eq!(after.minus(5), before);
    }

    #[test]
    fn periods_round_up() {
        assert_eq!(Ticks::in_ns(1), 1);
        assert_eq!(Ticks::in_ns(1 << 20), 1);
        assert_eq!(Ticks::in_ns(30_000_000_000), 28_611);
        assert!(Ticks::in_ns(Ticks::MAX_TIMEOUT_NS) < i32::MAX as u32);
        assert_eq!(Ticks::from_ns(1 << 52), Ticks(0));
    }
}
