//! Real traffic through the real controller, between namespaces: one file per promise.

#![expect(clippy::unwrap_used, reason = "everything here is part of a test")]

mod apiservers;
mod attach;
mod capture;
mod certificates;
mod completions;
mod doctor;
mod evictions;
mod flood;
mod flow_log;
mod flows;
mod follow;
mod give_up;
mod health;
mod idle;
mod import;
mod lacking;
mod local;
mod local_clients;
mod metrics;
mod modes;
mod names;
mod overrides;
mod packages;
mod packets;
mod page;
mod pairs;
mod passed;
mod pmtu;
mod probes;
mod provoked;
mod refusal;
mod reload;
mod restart;
mod retry;
mod scene;
mod shutdown;
mod sources;
mod survival;
mod top;
mod traffic;
mod vrrp;

/// Shows a figure that a test found; the assertions have bounds that hold on a busy machine.
#[expect(clippy::print_stderr, reason = "what --nocapture is for")]
fn measured(what: &str) {
    eprintln!("measured: {what}");
}
