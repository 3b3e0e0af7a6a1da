//! How often something may happen: the generic cell rate algorithm (ITU-T I.371). Pure.

use crate::addr::IpBe;

/// A rate and how far it may be exceeded for a moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Nanoseconds between two events; 0: no limit.
    pub interval: u32,
    /// Events at once; at least 1.
    pub burst: u32,
}

impl RateLimit {
    pub const NONE: Self = Self { interval: 0, burst: 0 };

    /// `per_second` is at least 1.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: 1_000_000_000_u32.div_ceil(per_second), burst }
    }

    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.interval == 0
    }

    /// When the next event is due after one at `now`, `due` being the answer of the last time, 0 at
    /// first. `None`: too early. Nanoseconds.
    #[inline(always)]
    pub const fn next(&self, due: u64, now: u64) -> Option<u64> {
        let interval = self.interval as u64;
        let tolerance = interval * self.burst as u64;
        let due = if due > now { due } else { now } + interval;
        if due > now + tolerance { None } else { Some(due) }
    }
}

/// Key of the map of sources: one owner's share of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceKey {
    pub owner: IpBe,
    pub service: u32,
    _pad: u32,
}

const _: () = assert!(size_of::<SourceKey>() == 24);

impl SourceKey {
    #[inline(always)]
    pub const fn new(source: IpBe, service: u32) -> Self {
        Self { owner: source.owner(), service, _pad: 0 }
    }
}

/// Sources whose rate is remembered; beyond that, those not heard of for longest are forgotten.
pub const MAX_SOURCES: u32 = 65_536;

#[cfg(feature = "user")]
// SAFETY: integers only; the size assertion rules padding out.
unsafe impl aya::Pod for SourceKey {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of `attempts`, `gap` ns apart, are let through.
    fn passed(limit: RateLimit, attempts: u64, gap: u64) -> u64 {
        let mut due = 0;
        let mut passed = 0;
        for attempt in 0..attempts {
            if let Some(next) = limit.next(due, 7 * SECOND + attempt * gap) {
                due = next;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limit = RateLimit::new(10, 5);
        assert_eq!(passed(limit, 100, 0), 5);
        assert_eq!(passed(limit, 1000, SECOND / 100), 5 + 99);
        assert_eq!(passed(limit, 50, SECOND / 10), 50);
        assert_eq!(passed(RateLimit::new(1, 1), 100, SECOND / 10), 10);
    }

    #[test]
    fn silence_earns_one_burst_only() {
        let limit = RateLimit::new(10, 5);
        let due = limit.next(0, SECOND).unwrap();
        let much_later = 1000 * SECOND;
        let mut state = due;
        let mut count = 0;
        while let Some(next) = limit.next(state, much_later) {
            state = next;
            count += 1;
        }
        assert_eq!(count, 5);
    }
}
