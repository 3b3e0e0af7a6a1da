//! How often the datapath's signals have a backend probed. Pure.
//!
//! A signal is a reason to look, and no more: anybody can send a SYN and not answer, so what is true of a
//! backend is for its probes to say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lb_common::backend::BackendId;

/// Between two probes of a backend because of signals.
const INTERVAL: Duration = Duration::from_millis(250);

/// Who was doubted lately.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    since: BTreeMap<BackendId, Instant>,
}

impl Doubts {
    /// Whether a signal about this backend is to be followed by a probe.
    pub fn admit(&mut self, backend: BackendId, now: Instant) -> bool {
        self.since.retain(|_, since| now.saturating_duration_since(*since) < INTERVAL);
        let is_new = !self.since.contains_key(&backend);
        self.since.entry(backend).or_insert(now);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_is_probed_four_times_a_second_at_most() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut doubts = Doubts::default();
        let admitted = (0..1000u64)
            .filter(|ms| doubts.admit(7, start + Duration::from_millis(*ms)))
            .collect::<Vec<_>>();
        assert_eq!(admitted, [0, 250, 500, 750]);
        assert!(doubts.admit(8, start + Duration::from_millis(999)));
        assert_eq!(doubts.since.len(), 2, "no more than are doubted");
    }
}
