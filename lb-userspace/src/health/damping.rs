//! Keeps a backend that flaps from coming back each time. Called by `fsm`. Pure.
//!
//! A loss is believed at once, whoever it concerns. A return is what waits: a backend that is lost
//! again within the window of its return is held, and comes back only when it was well without a
//! break for as long as it is held. So there is at most one return in a window, and a backend that is
//! never well for that long does not return at all.

use std::time::{Duration, Instant};

/// A backend is held for so many windows at most.
const MOST: u32 = 16;

/// What is remembered of a backend's returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Damping {
    hold: Duration,
    returned: Option<Instant>,
}

impl Damping {
    /// One that goes on with what another one remembered.
    pub(super) const fn resume(hold: Duration, returned: Option<Instant>) -> Self {
        Self { hold, returned }
    }

    /// How long the backend must be well before it returns; zero: it does not flap.
    pub(super) fn hold(self, window: Duration) -> Duration {
        self.hold.min(window.saturating_mul(MOST))
    }

    /// What is to be remembered: nothing of a return that is forgiven.
    pub(super) fn remembered(self, window: Duration, now: Instant) -> (Duration, Option<Instant>) {
        let is_forgiven = self.returned.is_some_and(|returned| {
            now.saturating_duration_since(returned) >= window.max(self.hold(window))
        });
        if is_forgiven {
            return (Duration::ZERO, None);
        }
        (self.hold(window), self.returned)
    }

    /// The backend is used again.
    pub(super) const fn returned(&mut self, now: Instant) {
        self.returned = Some(now);
    }

    /// The backend is lost. `window`: zero switches damping off.
    pub(super) fn lost(&mut self, window: Duration, now: Instant) {
        let Some(returned) = self.returned.take() else { return };
        let lasted = now.saturating_duration_since(returned);
        self.hold = if lasted >= window.max(self.hold(window)) {
            Duration::ZERO
        } else {
            self.hold.saturating_mul(2).clamp(window, window.saturating_mul(MOST))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::testing::origin;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn the_hold_doubles_with_each_flap_up_to_its_limit() {
        let mut now = origin();
        let mut damping = Damping::default();
        damping.lost(WINDOW, now);
        assert_eq!(damping.hold(WINDOW), Duration::ZERO, "the first loss is no flap");
        let holds: Vec<u64> = (0..7)
            .map(|_| {
                damping.returned(now);
                now += Duration::from_secs(1);
                damping.lost(WINDOW, now);
                damping.hold(WINDOW).as_secs()
            })
            .collect();
        assert_eq!(holds, [10, 20, 40, 80, 160, 160, 160]);
    }

    #[test]
    fn who_stays_long_enough_is_forgiven() {
        let mut now = origin();
        let mut damping = Damping::default();
        for _ in 0..2 {
            damping.returned(now);
            damping.lost(WINDOW, now);
        }
        assert_eq!(damping.hold(WINDOW), WINDOW * 2);
        damping.returned(now);
        now += WINDOW * 2;
        damping.lost(WINDOW, now);
        assert_eq!(damping.hold(WINDOW), Duration::ZERO);
    }

    /// A loss in two steps, such as draining and then down, is one.
    #[test]
    fn a_loss_counts_once() {
        let now = origin();
        let mut damping = Damping::default();
        damping.returned(now);
        damping.lost(WINDOW, now);
        damping.lost(WINDOW, now);
        assert_eq!(damping.hold(WINDOW), WINDOW);
    }

    #[test]
    fn a_window_of_zero_holds_nobody() {
        let now = origin();
        let mut damping = Damping::default();
        for _ in 0..9 {
            damping.returned(now);
            damping.lost(Duration::ZERO, now);
        }
        assert_eq!(damping.hold(Duration::ZERO), Duration::ZERO);
        damping = Damping::resume(WINDOW * 3, None);
        assert_eq!(damping.hold(Duration::ZERO), Duration::ZERO, "as of a reload");
        assert_eq!(damping.hold(WINDOW), WINDOW * 3);
    }

    /// A successor that is told what is remembered holds for as long as its predecessor would have.
    #[test]
    fn what_is_remembered_is_all_that_counts() {
        let start = origin();
        for lasted in [1, 9, 10, 11, 19, 20, 500] {
            for flaps in 0..3 {
                let mut damping = Damping::default();
                for _ in 0..flaps {
                    damping.returned(start);
                    damping.lost(WINDOW, start);
                }
                damping.returned(start);
                let now = start + Duration::from_secs(lasted);
                let (hold, returned) = damping.remembered(WINDOW, now);
                let mut successor = Damping::resume(hold, returned);
                successor.lost(WINDOW, now);
                damping.lost(WINDOW, now);
                assert_eq!(successor.hold(WINDOW), damping.hold(WINDOW), "{lasted} s, {flaps}");
            }
        }
    }
}
