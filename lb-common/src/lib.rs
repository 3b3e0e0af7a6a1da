#![no_std]
//! Layouts and rules.
