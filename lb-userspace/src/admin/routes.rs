//! Routes that have files of their own.

pub(super) mod events;
