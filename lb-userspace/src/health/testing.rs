//! What the tests of this subsystem share: a clock's start.

use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "machines are tested from wherever the clock stands"
)]
pub(super) fn origin() -> Instant {
    Instant::now()
}
