//! The clock that the datapath stamps flows with. I/O.

use std::time::Duration;

use lb_common::time::Ticks;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let now = nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The same as flows are stamped.
pub fn ticks() -> Ticks {
    Ticks::from_ns(monotonic())
}
