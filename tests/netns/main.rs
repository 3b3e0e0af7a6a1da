//! Real traffic through the real controller, between namespaces: one file per promise.

mod attach;
mod refusal;
mod restart;
mod scene;
mod traffic;
