//! What happens, in order and numbered: whoever knows of something pushes it, and API and notifications
//! read it. This file and `ring` are pure; `log` has the clock and wakes who waits.
//!
//! ```text
//! daemon, control ── push ──► Events ──┬── ring ◄── since(N) ── admin (events)
//!                                      └── mailboxes ──────────► notify
//! ```
//!
//! Nobody who reads ever holds up who pushes: what is not read in time is overwritten, and readers are
//! told how much they missed.

mod log;
mod mailbox;
mod ring;

pub use log::Events;
pub use mailbox::Mailbox;
pub use ring::Batch;
