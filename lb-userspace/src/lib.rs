//! The controller of Fairlead as a library, so that tests can use its parts.

pub mod admin;
#[cfg(test)]
mod allocations;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod doctor;
pub mod events;
pub mod flow_log;
pub mod health;
pub mod import;
pub mod metrics;
pub mod netlink;
pub mod notify;
pub mod overrides;
pub mod preflight;
#[cfg(test)]
mod readme;
pub mod record;
pub mod resolve;
pub mod sync;
pub mod vips;
pub mod vrrp;
mod watched;
