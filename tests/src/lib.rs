//! Fixtures for the tests that need privileges, and for the lab.
//!
//! A test builds a [`topology::Topology`]. Everything a fixture makes goes away when it is dropped.

#![expect(
    clippy::disallowed_methods,
    reason = "fixtures are drivers: they read the clock"
)]

pub mod bpffs;
pub mod command;
pub mod eventually;
pub mod netns;
pub mod topology;
pub mod xdp_pass;
