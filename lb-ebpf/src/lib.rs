//! Empty on purpose: a library target lets cargo depend on this crate.
#![no_std]
