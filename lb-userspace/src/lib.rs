//! The controller of Fairlead as a library, so that tests can use its parts.

pub mod admin;
pub mod config;
pub mod control;
pub mod health;
