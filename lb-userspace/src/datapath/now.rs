//! The clock that the datapath stamps flows with. I/O.

use std::time::{Duration, SystemTime};

use lb_common::time::Ticks;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let now = nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// When CLOCK_MONOTONIC was 0, by the day's clock as it is set at this moment.
#[expect(clippy::disallowed_methods, reason = "the one place where both clocks are read")]
pub fn epoch() -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(Duration::from_nanos(monotonic())).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The same as flows are stamped.
pub fn ticks() -> Ticks {
    Ticks::from_ns(monotonic())
}
