//! When something was on the wall's clock, of which a steady clock tells. Pure.
//!
//! What is said of one moment is the same each time: the two clocks are compared once, and again only after that on the
//! wall has been set. Read one after the other they are never apart by quite the same.

use std::time::{Duration, Instant, SystemTime};

/// Who is stopped between reading the one and the other for as long has set no clock.
const SET: Duration = Duration::from_secs(1);

/// The machine.
#[derive(Debug, Default)]
pub struct Calendar {
    /// One moment on both clocks.
    compared: Option<(Instant, SystemTime)>,
}

impl Calendar {
    /// What the wall's clock, which has just read `wall`, says at `now`.
    pub fn date(&mut self, now: Instant, wall: SystemTime) -> SystemTime {
        let expected = self
            .compared
            .and_then(|(then, date)| date.checked_add(now.saturating_duration_since(then)));
        match expected {
            Some(date) if apart(date, wall) < SET => date,
            Some(_) | None => {
                self.compared = Some((now, wall));
                wall
            }
        }
    }
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> (Instant, SystemTime) {
        (Instant::now(), SystemTime::now())
    }

    #[test]
    fn the_same_moment_has_the_same_date_however_late_the_wall_was_read() {
        let (now, wall) = start();
        let mut calendar = Calendar::default();
        assert_eq!(calendar.date(now, wall), wall);
        for late in [1, 900_000, 40_000_000].map(Duration::from_nanos) {
            assert_eq!(
                calendar.date(now + SECOND * 60, wall + SECOND * 60 + late),
                wall + SECOND * 60
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed() {
        let (now, wall) = start();
        let mut calendar = Calendar::default();
        calendar.date(now, wall);
        let ahead = wall + SECOND * 3600;
        assert_eq!(calendar.date(now + SECOND, ahead), ahead);
        assert_eq!(calendar.date(now + SECOND * 2, ahead + SECOND), ahead + SECOND);
        let back = wall - SECOND * 3600;
        assert_eq!(calendar.date(now + SECOND * 3, back), back);
    }
}
