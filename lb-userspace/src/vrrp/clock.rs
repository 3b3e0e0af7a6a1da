//! The clock of VRRP, CLOCK_MONOTONIC, and where on it the kernel's time stamps are. I/O.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::Nanos;

/// A tick of the coarse clock that cannot be asked for: 100 Hz, the slowest that Linux has.
const SLOWEST_TICK: u64 = 10_000_000;

/// Now.
pub fn now() -> Nanos {
    Nanos(read(ClockId::CLOCK_MONOTONIC))
}

/// When `stamp` was, which the kernel takes of CLOCK_REALTIME. That clock may have been set since: a
/// stamp of the future, or one older than `oldest` nanoseconds, counts as now.
pub fn when(stamp: TimeSpec, oldest: u64) -> Nanos {
    let (real, now) = (read(ClockId::CLOCK_REALTIME), now());
    at(nanoseconds(stamp), real, now, oldest)
}

/// How far the clock that XDP reads may lag behind.
pub fn coarse_tick() -> u64 {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(SLOWEST_TICK, nanoseconds)
}

fn at(stamp: u64, real: u64, now: Nanos, oldest: u64) -> Nanos {
    match real.checked_sub(stamp) {
        Some(age) if age <= oldest => Nanos(now.0.saturating_sub(age)),
        Some(_) | None => now,
    }
}

fn read(clock: ClockId) -> u64 {
    // Both clocks are in every kernel.
    clock_gettime(clock).map_or(0, nanoseconds)
}

fn nanoseconds(time: TimeSpec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec()).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_as_long_ago_on_either_clock_unless_the_clock_was_set() {
        let now = Nanos(1_000);
        assert_eq!(at(9_900, 10_000, now, 500), Nanos(900));
        assert_eq!(at(10_100, 10_000, now, 500), now, "of the future");
        assert_eq!(at(9_000, 10_000, now, 500), now, "of long ago");
    }

    #[test]
    fn the_clock_runs() {
        let before = now();
        assert!(before.0 > 0 && now() >= before);
        assert!((1_000_000..=SLOWEST_TICK).contains(&coarse_tick()));
    }
}
