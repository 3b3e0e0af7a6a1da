//! Fixtures for the tests that need privileges, and for the lab.
