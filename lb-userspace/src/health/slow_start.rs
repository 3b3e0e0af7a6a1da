//! The share that a backend gets after it was seen down. Called by `fsm`. Pure.

use std::time::{Duration, Instant};

/// In percent; each lasts for a quarter of the time. A step is a rebuilt selection table.
const STEPS: [u8; 4] = [25, 50, 75, 100];

/// Of the configured weight, in percent. `since`: when the backend came back, if it was ever away.
pub(super) fn share(since: Option<Instant>, slow_start: Duration, now: Instant) -> u8 {
    let [.., full] = STEPS;
    let Some(since) = since else { return full };
    let ends = STEPS.iter().zip(1..).map(|(share, step)| (share, slow_start / 4 * step));
    let lasted = now.saturating_duration_since(since);
    ends.filter(|(_, end)| lasted < *end).map(|(share, _)| *share).next().unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::testing::origin;

    #[test]
    fn the_share_grows_in_four_steps() {
        let start = origin();
        let cases = [(0, 25), (4, 25), (5, 50), (9, 50), (10, 75), (14, 75), (15, 100), (99, 100)];
        for (after, expected) in cases {
            let now = start + Duration::from_secs(after);
            let share = share(Some(start), Duration::from_secs(20), now);
            assert_eq!(share, expected, "after {after} s");
        }
    }

    #[test]
    fn without_slow_start_or_a_return_it_is_whole() {
        let now = origin();
        assert_eq!(share(Some(now), Duration::ZERO, now), 100);
        assert_eq!(share(None, Duration::from_secs(20), now), 100);
    }
}
