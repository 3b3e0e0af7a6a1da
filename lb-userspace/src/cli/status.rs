//! `fairlead status`. I/O, but for [`table`].

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use super::{SocketOption, ask, print};
use crate::admin::model::{
    self, Backend, LocalClients, LocalClientsState, Override, Pods, PodsState, Said, Service,
    Status,
};

mod sync;
mod vrrp;

/// Show services, backends, VIPs, VRRP and what was dropped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead status
  fairlead status --json | jq .vips")]
pub(super) struct Arguments {
    /// Everything, as JSON; its keys stay as they are, and others may come.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let answer = ask(&arguments.socket.socket, async |client| client.status().await)?;
    if arguments.json {
        return print(&(serde_json::to_string_pretty(&answer)? + "\n"));
    }
    let status: Status = serde_json::from_value(answer)
        .context("the controller's status is another version's; use --json")?;
    print(&table(&status, Timestamp::now()))
}

fn table(status: &Status, now: Timestamp) -> String {
    let mut text = format!(
        "fairlead {}, process {}, up {}; {} read {} ago\n",
        status.version,
        status.pid,
        age(&status.started, now),
        status.configuration.path,
        age(&status.configuration.loaded, now),
    );
    for xdp in &status.xdp {
        let reason = xdp.reason.as_ref().map(|reason| format!(" ({reason})"));
        let reason = reason.unwrap_or_default();
        push(&mut text, format_args!("xdp {}: {}{reason}", xdp.interface, xdp.mode));
    }
    for service in &status.services {
        text += &describe(service, now);
    }
    text += &overrides(status, now);
    text += "\n";
    for name in status.names.iter().filter(|name| name.failure.is_some()) {
        let failure = name.failure.as_deref().unwrap_or_default();
        let (host, family, age) = (&name.host, &name.family, age(&name.since, now));
        let known = name.addresses.len();
        push(
            &mut text,
            format_args!("name {host} ({family}): {failure}, for {age}; {known} addresses known"),
        );
    }
    for vip in &status.vips {
        let owner = if vip.owner { "owned" } else { "not owned" };
        let lease = vip.lease_ms.map(|lease| format!(", lease {lease} ms")).unwrap_or_default();
        push(&mut text, format_args!("vip {}: {owner}{lease}", vip.address));
    }
    text += &vrrp::vrrp(status, now);
    text += &sync::sync(status, now);
    text += &local_clients(status);
    let flows = &status.flows;
    push(
        &mut text,
        format_args!(
            "flows: {} of {} established, {} of {} half-open",
            flows.established,
            flows.capacity.established,
            flows.half_open,
            flows.capacity.half_open
        ),
    );
    text += &notifications(status);
    for (name, count) in &status.counters {
        if *count > 0 && (name.starts_with("drop_") || name.starts_with("reset_")) {
            push(&mut text, format_args!("{name}: {count}"));
        }
    }
    text
}

/// What operators said, and where it is kept.
fn overrides(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    if let Some(error) = &status.state_file.error {
        push(&mut text, format_args!("\noverrides will be forgotten at the next start: {error}"));
    }
    for said in &status.overrides {
        let mut words = Vec::new();
        if let Some(admin) = &said.admin {
            words.push(format!("{} {}", admin.value.as_str(), origin(admin, now)));
        }
        if let Some(weight) = &said.weight {
            words.push(format!("weight {} {}", weight.value, origin(weight, now)));
        }
        let Override { service, backend, .. } = said;
        let words = words.join(", ");
        let rest = if said.configured {
            String::new()
        } else {
            format!("; no such backend: fairlead backend reset {service}/{backend}")
        };
        push(&mut text, format_args!("override {service}/{backend}: {words}{rest}"));
    }
    if text.is_empty() { text } else { format!("\n{}", text.trim_start()) }
}

fn origin<T>(said: &Said<T>, now: Timestamp) -> String {
    let by = said.by.map(|by| format!(" by {by}")).unwrap_or_default();
    format!("for {}{by}", age(&said.since, now))
}

/// Whether clients on this node are led to backends, and how many were.
fn local_clients(status: &Status) -> String {
    let LocalClients { state, cgroup, reason, refused, ended, pods } = &status.local_clients;
    let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let backends = status.services.iter().flat_map(|service| &service.backends);
    let led: u64 = backends.map(|backend| backend.local_connections).sum();
    let cgroup = cgroup.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match state {
        LocalClientsState::On => format!(
            "local clients: led to backends below {cgroup}, {led} connections, {refused} refused, \
             {ended} ended{}\n",
            of_pods(pods)
        ),
        LocalClientsState::Off => format!("local clients: not led to backends{because}\n"),
        LocalClientsState::Failed => format!("local clients: NOT LED TO BACKENDS{because}\n"),
    }
}

fn of_pods(pods: &Pods) -> String {
    match (pods.state, &pods.reason) {
        (PodsState::On, _) => format!(", {} of them in pods", pods.ended),
        (PodsState::Off, _) => String::new(),
        (PodsState::Failed, reason) => {
            format!("; NONE IN PODS: {}", reason.as_deref().unwrap_or("not permitted"))
        }
    }
}

/// Targets of notifications that have not all been told everything.
fn notifications(status: &Status) -> String {
    let mut text = String::new();
    for target in &status.notify {
        let model::Notification { target, delivered, failed, dropped, waiting, error } = target;
        let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        push(
            &mut text,
            format_args!(
                "notify {target}: {delivered} told, {failed} failed, {dropped} dropped, {waiting} \
                 waiting{error}"
            ),
        );
    }
    text
}

fn describe(service: &Service, now: Timestamp) -> String {
    let Service { name, port, mode, .. } = service;
    let vips: Vec<String> = service.vips.iter().map(ToString::to_string).collect();
    let panic = if service.panic { " - NO BACKEND IS UP, using the last that were" } else { "" };
    let mut text = format!("\n{name}  {} port {port}, {mode}{panic}\n", vips.join(", "));
    for alarm in &service.alarms {
        push(&mut text, format_args!("  ALARM  {alarm}"));
    }
    let head = ["BACKEND", "ADDRESS", "STATE", "SINCE", "WEIGHT", "CONNECTIONS", "REASON"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(service.backends.iter().map(|backend| row(backend, now)));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}", width = *width))
            .collect();
        push(&mut text, format_args!("  {}", cells.join("  ").trim_end()));
    }
    text
}

fn row(backend: &Backend, now: Timestamp) -> [String; 7] {
    let weight = if backend.weight == backend.effective_weight {
        backend.weight.to_string()
    } else {
        format!("{} ({})", backend.effective_weight, backend.weight)
    };
    [
        backend.name.clone(),
        backend.address.to_string(),
        backend.state.as_str().to_owned(),
        age(&backend.since, now),
        weight,
        backend.connections.to_string(),
        backend.reason.clone(),
    ]
}

/// How long ago, in its two largest units.
fn age(since: &str, now: Timestamp) -> String {
    let Ok(since) = since.parse::<Timestamp>() else {
        return "?".to_owned();
    };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_an_operator_looks_for() {
        let status: Status =
            serde_json::from_str(include_str!("../admin/model/status.json")).unwrap();
        let table = table(&status, "2026-01-02T03:06:05Z".parse().unwrap());
        for expected in [
            "xdp eth1: generic (the driver has no XDP)",
            "kube-apiserver  10.0.0.100 port 6443, nat\n",
            "  ALARM  cp2: certificate: expired; taken out\n",
            "  cp1      10.0.0.11:6443  up        2m0s   100      12           200\n",
            "  cp2      10.0.0.12:6443  draining  2m0s   0 (100)  0            connection refused\n",
            "vip 10.0.0.100: owned, lease 2400 ms\n",
            "vip 10.1.0.100: owned\n",
            "flows: 12 of 131072 established, 0 of 65536 half-open\n",
            "drop_malformed: 3\n",
            "local clients: led to backends below /sys/fs/cgroup, 5 connections, 1 refused, 2 ended, \
             1 of them in pods\n",
            "\noverride kube-apiserver/cp2: draining for 1m0s by uid 0 (logged in as uid 1000)\n",
            "override old/cp9: weight 7 for 1m0s; no such backend: fairlead backend reset old/cp9\n",
            "notify https://alerts.example/...: 3 told, 1 failed, 2 dropped, 0 waiting: it answered 500",
        ] {
            assert!(table.contains(expected), "{expected}\n{table}");
        }
        assert!(!table.contains("forward_request"), "{table}");
    }

    #[test]
    fn ages_are_short() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for (since, expected) in [
            ("2026-01-01T23:59:59Z", "1s"),
            ("2026-01-01T23:58:30Z", "1m30s"),
            ("2026-01-01T20:30:00Z", "3h30m"),
            ("2025-12-30T22:00:00Z", "2d2h"),
            ("2026-01-02T00:00:09Z", "0s"),
            ("yesterday", "?"),
        ] {
            assert_eq!(age(since, now), expected);
        }
    }
}
