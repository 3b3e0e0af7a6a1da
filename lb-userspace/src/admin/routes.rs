//! Routes that have files of their own; `api` names their paths. I/O.

pub(super) mod config;
pub(super) mod events;
pub(super) mod flows;
pub(super) mod live;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod packets;
pub(super) mod trace;
