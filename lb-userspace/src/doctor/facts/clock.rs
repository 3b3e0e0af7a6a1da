//! Whether the machine's clock is kept by something. I/O.

use std::io;
use std::time::Duration;

use super::Looked;

/// What the kernel says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Somebody (NTP, PTP) keeps it right.
    pub synchronised: bool,
    /// How much it may be off, by whoever keeps it.
    pub max_error: Duration,
}

/// Asks the kernel, by adjtimex(2) without a change.
pub(super) fn read() -> Looked<Clock> {
    let mut timex = core::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: zeroed is a valid timex whose modes ask for no change; the kernel fills it in.
    let (state, timex) = unsafe {
        let state = libc::adjtimex(timex.as_mut_ptr());
        (state, timex.assume_init())
    };
    if state < 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    let synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    let max_error = Duration::from_micros(u64::try_from(timex.maxerror).unwrap_or(u64::MAX));
    Ok(Clock { synchronised, max_error })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_says_how_its_clock_is_kept() {
        super::read().unwrap();
    }
}
