//! Instants and spans of the protocol, to the nanosecond. Pure.
//!
//! ```text
//! version 3   Skew_Time            = (256 - priority) * Active_Adver_Interval / 256
//! version 2   Skew_Time            = (256 - priority) / 256 seconds
//! both        Active_Down_Interval = 3 * Advertisement_Interval + Skew_Time
//! ```
//! RFC 9568 6.1 and RFC 3768 6.1. Multiplied before divided: at 10 ms and priority 254 the skew is
//! 78 µs, which centiseconds would lose.

use std::time::Duration;

use super::Version;

/// An instant: nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Later by `span`; never overflows.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(span)))
    }

    /// Earlier by `span`; not before the epoch.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(span)))
    }

    /// The time from `earlier` until this; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Skew_Time of a node with `priority` when the Active one advertises every `interval`.
pub fn skew(version: Version, priority: u8, interval: Duration) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    unit.saturating_mul(256 - u32::from(priority)) / 256
}

/// Active_Down_Interval: the silence after which the Active one is dead. `adverts` is the protocol's 3,
/// which keepalived makes configurable.
pub fn active_down_interval(
    version: Version,
    priority: u8,
    interval: Duration,
    adverts: u8,
) -> Duration {
    silence(interval, adverts).saturating_add(skew(version, priority, interval))
}

/// The part of Active_Down_Interval that is the same for every priority: no peer takes over sooner.
pub fn silence(interval: Duration, adverts: u8) -> Duration {
    interval.saturating_mul(u32::from(adverts))
}

/// When the next advertisement is due after the one that was due at `due` and went out at `now`:
/// on an absolute schedule, so that lateness does not add up, and none to catch up.
pub fn next_advert(due: Nanos, interval: Duration, now: Nanos) -> Nanos {
    let next = due.after(interval);
    if next > now { next } else { now.after(interval) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The table of take-over times that operators know.
    #[rstest]
    #[case::usual(Version::V3, 100, 1_000_000, 609_375, 3_609_375)]
    #[case::high(Version::V3, 250, 1_000_000, 23_437, 3_023_437)]
    #[case::fast(Version::V3, 100, 100_000, 60_937, 360_937)]
    #[case::fastest(Version::V3, 254, 10_000, 78, 30_078)]
    #[case::slowest(Version::V3, 1, 40_950_000, 40_790_039, 163_640_039)]
    #[case::owner(Version::V3, 255, 1_000_000, 3_906, 3_003_906)]
    #[case::old(Version::V2, 100, 1_000_000, 609_375, 3_609_375)]
    #[case::old_and_slow(Version::V2, 100, 10_000_000, 609_375, 30_609_375)]
    fn skew_and_down_interval_in_microseconds(
        #[case] version: Version,
        #[case] priority: u8,
        #[case] interval: u64,
        #[case] expected_skew: u128,
        #[case] expected_down: u128,
    ) {
        let interval = Duration::from_micros(interval);
        assert_eq!(skew(version, priority, interval).as_micros(), expected_skew);
        let down = active_down_interval(version, priority, interval, 3);
        assert_eq!(down.as_micros(), expected_down);
    }

    #[test]
    fn fewer_adverts_shorten_the_down_interval() {
        let interval = Duration::from_millis(100);
        let down = active_down_interval(Version::V3, 128, interval, 1);
        assert_eq!(down, Duration::from_millis(150));
    }

    #[test]
    fn adverts_keep_their_schedule_and_are_not_caught_up() {
        let interval = Duration::from_nanos(100);
        assert_eq!(next_advert(Nanos(1000), interval, Nanos(1007)), Nanos(1100));
        assert_eq!(next_advert(Nanos(1000), interval, Nanos(1099)), Nanos(1100));
        assert_eq!(next_advert(Nanos(1000), interval, Nanos(1100)), Nanos(1200));
        assert_eq!(next_advert(Nanos(1000), interval, Nanos(5_000)), Nanos(5100));
    }

    #[test]
    fn instants_do_not_overflow() {
        assert_eq!(Nanos(u64::MAX).after(Duration::MAX), Nanos(u64::MAX));
        assert_eq!(Nanos(5).before(Duration::from_secs(1)), Nanos(0));
        assert_eq!(Nanos(5).since(Nanos(9)), Duration::ZERO);
        assert_eq!(Nanos(9).since(Nanos(5)), Duration::from_nanos(4));
    }
}
