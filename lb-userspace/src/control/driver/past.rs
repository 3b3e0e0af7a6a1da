//! What of health a successor could not see in the maps: written down as it changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Controller;
use crate::datapath::now::monotonic;
use crate::health::{BackendKey, Past};
use crate::record;

/// Between two writes: many backends may change at once.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// One moment on both clocks: ours, and the one that a successor can compare with its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    instant: Instant,
    ns: u64,
}

impl Anchor {
    pub(super) fn new(instant: Instant) -> Self {
        Self { instant, ns: monotonic() }
    }

    pub(super) fn to_ns(self, at: Instant) -> u64 {
        let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        if at < self.instant {
            return self.ns.saturating_sub(ns(self.instant - at));
        }
        self.ns.saturating_add(ns(at - self.instant))
    }

    /// `None`: before the machine was started, or beyond all time.
    fn to_instant(self, ns: u64) -> Option<Instant> {
        if ns < self.ns {
            return self.instant.checked_sub(Duration::from_nanos(self.ns - ns));
        }
        self.instant.checked_add(Duration::from_nanos(ns - self.ns))
    }

    fn record(self, past: Past) -> record::Past {
        record::Past {
            hold_ms: u64::try_from(past.hold.as_millis()).unwrap_or(u64::MAX),
            returned: past.returned.map(|at| self.to_ns(at)),
            back: past.back.map(|at| self.to_ns(at)),
            announced: past.announced,
        }
    }

    fn adopt(self, past: record::Past) -> Past {
        Past {
            hold: Duration::from_millis(past.hold_ms),
            returned: past.returned.and_then(|ns| self.to_instant(ns)),
            back: past.back.and_then(|ns| self.to_instant(ns)),
            announced: past.announced,
        }
    }
}

impl Controller {
    /// What a predecessor wrote down of a backend.
    pub(super) fn adopted_past(&self, key: &BackendKey) -> Past {
        let pasts = self.vips.pasts();
        if pasts.is_empty() {
            return Past::default();
        }
        pasts.get(&key.to_string()).map_or_else(Past::default, |past| self.anchor.adopt(*past))
    }

    /// Writes down what has changed, if the last time is long enough ago. What fails is said, and tried again.
    pub fn record_pasts(&mut self, now: Instant) {
        let last = self.recorded_at;
        if last.is_none_or(|at| now.saturating_duration_since(at) >= WRITE_INTERVAL) {
            self.record_pasts_at_once(now);
        }
    }

    /// The same, whenever that was.
    pub fn record_pasts_at_once(&mut self, now: Instant) {
        let pasts: BTreeMap<_, _> = self
            .health_table
            .borrow()
            .iter()
            .filter(|(_, report)| report.past != Past::default())
            .map(|(key, report)| (key.to_string(), self.anchor.record(report.past)))
            .collect();
        if pasts == *self.vips.pasts() {
            return;
        }
        self.recorded_at = Some(now);
        if let Err(error) = self.vips.record_pasts(pasts) {
            log::error!("writing down what has been of backends: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_comes_back_by_another_clock() {
        let start = super::super::now();
        let predecessor = Anchor { instant: start, ns: 1_000_000_000 };
        let second = Duration::from_secs(1);
        let past = Past {
            hold: Duration::from_secs(20),
            returned: start.checked_sub(second / 2),
            back: Some(start + second),
            announced: true,
        };
        let recorded = predecessor.record(past);
        assert_eq!((recorded.returned, recorded.back), (Some(500_000_000), Some(2_000_000_000)));
        // Its process began three seconds later.
        let successor = Anchor { instant: start + second * 3, ns: 4_000_000_000 };
        assert_eq!(successor.adopt(recorded), past);
        assert_eq!(successor.record(past), recorded);
        assert_eq!(predecessor.adopt(record::Past::default()), Past::default());
    }
}
