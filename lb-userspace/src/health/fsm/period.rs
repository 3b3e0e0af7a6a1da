//! How long it is from one probe to the next. Pure.

use std::time::Duration;

use super::super::Health;
use super::Fsm;
use crate::config::Pace;

/// No probe starts sooner after the one before, whatever the configuration says: zero would spin.
pub(super) const MIN_PERIOD: Duration = Duration::from_millis(10);

/// No period is longer, jitter apart: sums of periods and instants must not overflow.
pub(super) const MAX_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Largest deviation of a period from the configured one, in thousandths.
const JITTER: u64 = 100;

/// After a refusal, which is next to certain.
const RETRY: Duration = Duration::from_millis(200);

impl Fsm {
    /// From the start of the last probe to that of the next. Those between findings that are being
    /// counted are not lengthened: times of removal are promised.
    pub(super) fn period(&mut self, doubted: bool) -> Duration {
        let Pace { interval, fast_interval, down_interval, .. } = self.pace;
        if self.refused {
            return retry(&self.pace).max(MIN_PERIOD);
        }
        if doubted || self.row.is_some() {
            return fast_interval.min(interval).clamp(MIN_PERIOD, MAX_PERIOD);
        }
        let period = if self.health == Health::Down { down_interval } else { interval };
        (period.min(MAX_PERIOD) * self.jitter() / 1000).max(MIN_PERIOD)
    }

    /// Thousandths, from 900 to 1100.
    fn jitter(&mut self) -> u32 {
        // splitmix64: any seed will do, zero included.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let deviation = (z ^ (z >> 31)) % (2 * JITTER + 1);
        u32::try_from(1000 - JITTER + deviation).unwrap_or(1000)
    }
}

/// The longest that a period may become.
pub(in super::super) fn longest(period: Duration) -> Duration {
    period.saturating_add(period / 10)
}

/// Between a refusal and the probe that confirms it.
pub(in super::super) fn retry(pace: &Pace) -> Duration {
    RETRY.min(pace.fast_interval).min(pace.interval)
}
