//! The machine's clock. Pure.

use std::time::Duration;

use super::super::facts::{Clock, Looked};
use super::super::finding::Finding;

/// Certificates and logs of several machines are compared by clocks that agree this far.
const TOLERABLE: Duration = Duration::from_secs(2);

pub(super) fn judge(clock: &Looked<Clock>) -> Finding {
    const ID: &str = "clock.synchronised";
    let why = "certificates may be judged to be expired or not valid yet, and the logs of nodes cannot be compared";
    match clock {
        Err(error) => Finding::unknown(ID, "the clock", error),
        Ok(Clock { synchronised: false, .. }) => {
            Finding::warning(ID, "nobody keeps this machine's clock right")
                .because(why)
                .fix("timedatectl set-ntp true     # or: apt-get install chrony")
        }
        Ok(Clock { max_error, .. }) if *max_error > TOLERABLE => {
            Finding::warning(ID, format!("the clock may be wrong by {} s", max_error.as_secs()))
                .because(why)
                .fix("chronyc tracking     # or: timedatectl timesync-status")
        }
        Ok(_) => Finding::ok(ID, "the clock is kept right"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn a_clock_that_nobody_keeps_is_warned_of() {
        let clock = |synchronised, seconds| {
            judge(&Ok(Clock { synchronised, max_error: Duration::from_secs(seconds) })).severity
        };
        assert_eq!(clock(true, 0), Severity::Ok);
        assert_eq!(clock(true, 16), Severity::Warning);
        assert_eq!(clock(false, 0), Severity::Warning);
        assert_eq!(judge(&Err("no".to_owned())).severity, Severity::Info);
    }
}
