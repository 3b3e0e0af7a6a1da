//! When a service's backends are probed, and how many findings decide. Pure.

use std::time::Duration;

use serde::Serialize;

/// When probes start, how many decide, and what a change of state costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Between probes of a backend whose state is settled.
    pub interval: Duration,
    /// Between probes while findings against the state are being counted.
    pub fast_interval: Duration,
    /// Between probes of a backend that is down.
    pub down_interval: Duration,
    /// Better findings in a row that make a state better.
    pub rise: u32,
    /// Worse findings in a row that make it worse.
    pub fall: Fall,
    /// A backend that falls again sooner after its return than this flaps, and is held down for as
    /// long at least. Zero: never.
    pub damping: Duration,
    /// How long a backend that was seen down takes to get its full share. Zero: at once.
    pub slow_start: Duration,
    /// `--shutdown-delay-duration` of the apiservers, to warn when it is shorter than removal takes.
    pub shutdown_delay: Option<Duration>,
}

/// How many failures in a row make a backend down, by the class of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fall {
    /// Refused or unreachable: next to certain.
    pub refused: u32,
    pub timeout: u32,
    /// An HTTP status that is not the expected one; also of `/readyz` red.
    pub status: u32,
    pub certificate: u32,
    /// TLS or HTTP that went wrong otherwise.
    pub protocol: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(250),
            down_interval: Duration::from_secs(2),
            rise: 2,
            fall: Fall::default(),
            damping: Duration::from_secs(10),
            slow_start: Duration::ZERO,
            shutdown_delay: None,
        }
    }
}

impl Default for Fall {
    fn default() -> Self {
        Self::of(3)
    }
}

impl Fall {
    const REFUSED: u32 = 2;

    /// So many of each class; fewer of what is next to certain.
    pub const fn of(number: u32) -> Self {
        let refused = if number < Self::REFUSED { number } else { Self::REFUSED };
        Self { refused, timeout: number, status: number, certificate: number, protocol: number }
    }
}
