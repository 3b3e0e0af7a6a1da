//! Waiting for a condition, with a deadline and an error that says what was seen last.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::standstill;

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// What a look at the world found.
#[derive(Debug)]
pub enum Seen<T> {
    /// The condition holds; its result.
    Done(T),
    /// Not so far; what there is instead.
    Pending(String),
}

/// Looks until `look` is done; fails after `timeout` with what was seen last. The time for which the machine stood still
/// does not count, if somebody [watches](standstill::watch).
pub fn eventually<T>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        let last = match look()? {
            Seen::Done(value) => return Ok(value),
            Seen::Pending(last) => last,
        };
        let now = Instant::now();
        if now >= deadline && now >= deadline + standstill::lately(timeout) {
            bail!("{what}: not within {timeout:?}; last seen: {last}");
        }
        thread::sleep(POLL);
    }
}

/// Looks until `observe` gives a value that `accept` takes.
pub fn eventually_is<T: Debug>(
    what: &str,
    timeout: Duration,
    mut observe: impl FnMut() -> Result<T>,
    accept: impl Fn(&T) -> bool,
) -> Result<T> {
    eventually(what, timeout, || {
        let value = observe()?;
        Ok(if accept(&value) { Seen::Done(value) } else { Seen::Pending(format!("{value:?}")) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_was_seen_last() {
        let mut count = 0;
        let error = eventually_is(
            "a hundred",
            Duration::from_millis(50),
            || {
                count += 1;
                Ok("a few")
            },
            |seen| *seen == "a hundred",
        )
        .unwrap_err();
        assert!(count > 1);
        assert!(error.to_string().ends_with("last seen: \"a few\""), "{error}");
    }
}
