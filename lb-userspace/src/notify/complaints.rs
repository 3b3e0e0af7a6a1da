//! How often a failure is said that comes again and again. Pure.

use std::time::{Duration, Instant};

/// Between two complaints.
const INTERVAL: Duration = Duration::from_secs(60);

/// What was said, and what was not.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// When the next one may be said.
    next: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Something failed: `Some`, if that is to be said, with the number of those that were not.
    pub(super) fn fail(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.unsaid += 1;
            return None;
        }
        self.next = Some(now + INTERVAL);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_once_a_minute_with_the_number_of_the_others() {
        let start = tokio::time::Instant::now().into_std();
        let mut complaints = Complaints::default();
        let said: Vec<_> = (0..180)
            .filter_map(|second| {
                let unsaid = complaints.fail(start + Duration::from_secs(second))?;
                Some((second, unsaid))
            })
            .collect();
        assert_eq!(said, [(0, 0), (60, 59), (120, 59)]);
    }
}
