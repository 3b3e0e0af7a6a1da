//! `fairlead check`. I/O, but for `report()`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{ConfigOption, print, print_json};
use crate::config::{self, Config, ConfigError, Probe, Service, Vrrp};
use crate::datapath::{Sizes, report};
use crate::health::removal::{Terms, worst_case};
use crate::overrides::store;
use crate::vrrp::timers::silence;
use crate::vrrp::{Settings, Version};

mod admin;
mod local_clients;
mod sync;

/// Validate a configuration and print what follows from it; changes nothing.
///
/// For each service: how long a lost backend stays in use at worst, by the way it is lost, and how many connections a
/// second SNAT allows. Errors go to stderr as FILE:LINE:COLUMN; the exit code is then 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead check --config new.yaml
  fairlead check --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// The outcome and the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.config.path;
    let config = config::load(path);
    if arguments.json {
        return print_outcome(path, config);
    }
    let config = config?;
    print(&format!("{}: valid\n{}{}", path.display(), report(&config), found_here(&config)))
}

/// A refusal is said twice: for programs, and for people.
fn print_outcome(path: &Path, config: Result<Config, ConfigError>) -> Result<()> {
    let (path, valid) = (path.display().to_string(), config.is_ok());
    let report = config.as_ref().map(|config| report(config) + &found_here(config)).ok();
    let report: Option<Vec<&str>> = report.as_ref().map(|report| report.trim().lines().collect());
    let error = config.as_ref().err().map(|error| format!("{error:#}"));
    print_json(&json!({ "path": path, "valid": valid, "report": report, "error": error }))?;
    Ok(config.map(drop)?)
}

/// What is not in the file alone.
fn found_here(config: &Config) -> String {
    local_clients::describe(config) + &overrides(config)
}

/// What operators said, which holds in place of the configuration.
fn overrides(config: &Config) -> String {
    let path = store::path(&config.admin);
    let said = match store::read(&path) {
        Ok(overrides) => overrides.list(|name| {
            let mut services = config.services.iter();
            services.any(|it| it.name == name.0 && it.backends.iter().any(|b| b.name == name.1))
        }),
        Err(error) => return format!("\noverrides: {error:#}\n"),
    };
    if said.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = said.iter().map(|said| format!("  {said}\n")).collect();
    let undo = "undo them with: fairlead backend reset SERVICE/BACKEND";
    format!("\noverrides by operators in {}; {undo}\n{}", path.display(), lines.concat())
}

fn report(config: &Config) -> String {
    let mut text = String::new();
    let snat = report::snat(config);
    for service in &config.services {
        text += &describe(service);
        for (_, line) in snat.iter().filter(|(name, _)| *name == service.name) {
            text += &format!("  {line}\n");
        }
    }
    for instance in &config.vrrp {
        text += &describe_instance(instance);
    }
    if let Some(sync) = &config.sync {
        text += &sync::describe(sync, config.limits);
    }
    text += &admin::describe(&config.admin);
    text += "\nmemory of the maps (elements x (key + value + the kernel's) bytes)\n";
    for line in report::memory(&Sizes::new(config, 1)) {
        text += &format!("  {line}\n");
    }
    text += "\nXDP forwards before the host's firewall: nftables and iptables do not see this traffic.\n";
    text
}

fn describe(service: &Service) -> String {
    let mut text = String::new();
    let vips: Vec<String> = service.vips.iter().map(ToString::to_string).collect();
    let Service { name, port, mode, backends, names, .. } = service;
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{arguments}");
    };
    line(format_args!("\nservice {name}: {} port {port}, mode {}", vips.join(", "), mode.as_str()));
    line(format_args!("  backends"));
    let width = backends.iter().map(|backend| backend.name.len()).max().unwrap_or(0);
    for backend in backends {
        let (name, weight) = (&backend.name, backend.weight);
        line(format_args!("    {name:width$}  {}  weight {weight}", backend.endpoint()));
    }
    for config::NamedBackends { name, host, port, weight } in names {
        line(format_args!("    {name:width$}  {host}:{port}, all its addresses  weight {weight}"));
    }
    removal(service, &mut line);
    if let Some(limit) = service.rate_limit {
        line(format_args!(
            "  a client (an IPv4 address, an IPv6 /64) makes {} connections a second, {} at once",
            limit.connections_per_second, limit.burst
        ));
    }
    if !service.allow.is_empty() {
        let ranges: Vec<String> = service.allow.iter().map(ToString::to_string).collect();
        line(format_args!("  open to {}", ranges.join(", ")));
    }
    text
}

fn describe_instance(instance: &Vrrp) -> String {
    let settings = Settings::from(instance);
    let vips: Vec<String> = instance.vips.iter().map(ToString::to_string).collect();
    let Vrrp { name, interface, vrid, version, priority, advert_interval, .. } = instance;
    let mut text = format!(
        "\nvrrp {name}: {} on {interface}, VRID {vrid}, version {version}, priority {priority}\n",
        vips.join(", ")
    );
    let adverts = instance.down_timer_adverts;
    text += &format!(
        "  takes over {} after the last advertisement of an Active node that vanished\n",
        milliseconds(settings.take_over())
    );
    text += &format!(
        "    {adverts} x {} without one + {} that a lower priority waits longer\n",
        milliseconds(*advert_interval),
        milliseconds(settings.skew())
    );
    text += &format!(
        "  takes over {} after one that gives up without a drain\n",
        milliseconds(settings.skew())
    );
    if *priority < GOOD_PRIORITY && *advert_interval >= SLOW_INTERVAL {
        text += "  priorities from 240 on, such as 250 and 249, shorten that wait\n";
    }
    text += &describe_restart(&settings);
    text
}

/// How long a successor has, and what a failed one costs.
fn describe_restart(settings: &Settings) -> String {
    let longest = settings.longest_restart();
    let mut text = format!(
        "  keeps its VIPs over `fairlead stop --handover` and a start within {}\n",
        milliseconds(longest)
    );
    if longest > silence(settings.advert_interval, settings.down_timer_adverts) {
        text += "    as the other nodes are told (restart_grace); if nobody starts, they take over then\n";
    }
    if longest < SHORTEST_RESTART {
        text += "    a restart takes longer: `fairlead drain` first, or raise restart_grace\n";
    } else if settings.version == Version::V2 {
        text += "    version 2 has no way to tell the other nodes to wait longer\n";
    }
    text
}

/// What a restart can be relied on to fit into.
const SHORTEST_RESTART: Duration = Duration::from_secs(1);
/// From here on the priorities' part of a take-over is felt.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// From here on Skew_Time is below a sixteenth of the interval.
const GOOD_PRIORITY: u8 = 240;

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// How long a lost backend stays in use, and the sums that this is.
fn removal(service: &Service, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let check = &service.health;
    let worst = worst_case(check);
    line(format_args!("  a backend is out, at worst"));
    let mut row = |what: &str, terms: Terms| {
        line(format_args!(
            "    {:>6}  after {what}: {}",
            seconds(terms.total()),
            arithmetic(terms)
        ));
    };
    row("its process ends (connection refused)", worst.refused);
    row("its host vanishes (black hole)", worst.black_hole);
    row("it hangs (takes connections, answers nothing)", worst.hung);
    let path = match &check.probe {
        Probe::Http { request } | Probe::Https { request, .. } => &request.path,
        Probe::Tcp => {
            return line(format_args!(
                "    that it is not ready is not noticed by probes of type tcp"
            ));
        }
    };
    let Some(not_ready) = worst.not_ready else { return };
    row(&format!("{path} turns red"), not_ready);
    if let Some(delay) = check.pace.shutdown_delay
        && not_ready.total() > delay
    {
        line(format_args!(
            "  WARNING: the apiservers stop listening {} after {path} turns red (shutdown_delay), \
             which is noticed only after {}: raise their --shutdown-delay-duration, or lower \
             interval, fast_interval or fall.status",
            seconds(delay),
            seconds(not_ready.total())
        ));
    }
}

fn arithmetic(terms: Terms) -> String {
    let mut text = format!("{} until the next probe", seconds(terms.first));
    if terms.more > 0 {
        text += &format!(" + {} x {} between", terms.more, seconds(terms.between));
    }
    if !terms.last.is_zero() {
        text += &format!(" + {} for the last to time out", seconds(terms.last));
    }
    text
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_shows_its_arithmetic() {
        let config = config::parse(config::EXAMPLE, Path::new("example.yaml")).unwrap();
        let report = report(&config);
        for expected in [
            "service kube-apiserver: 10.0.0.100 port 6443, mode nat",
            "cp1  10.0.0.11:6443  weight 100",
            "64,512 ports x 3 backends x 1 snat addresses / 60 s",
            "SNAT carries 3225 closes by IPv4 backends a second",
            "IPv4 flows, slots for 2 x limits.flows and 2 x the larger limit: 524329 x 88 = 46.1 MB",
            "nftables and iptables do not see",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
    }

    #[test]
    fn overrides_of_backends_that_are_gone_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config::parse(config::EXAMPLE, Path::new("example.yaml")).unwrap();
        let path = directory.path().join("overrides.json");
        config.admin.state_file = Some(path.clone());
        assert_eq!(overrides(&config), "");
        let line = |backend: &str| {
            format!(
                r#"{{"service":"kube-apiserver","backend":"{backend}","weight":{{"value":7,"since":"x"}}}}"#
            )
        };
        let text = format!(r#"{{"version":1,"overrides":[{},{}]}}"#, line("cp1"), line("cp9"));
        std::fs::write(&path, text).unwrap();
        let said = overrides(&config);
        assert!(said.contains("  kube-apiserver/cp1: weight 7 since x\n"), "{said}");
        assert!(said.contains("cp9: weight 7 since x (no such backend is configured)"), "{said}");
        std::fs::write(&path, "{").unwrap();
        assert!(overrides(&config).contains("is damaged"));
    }

    #[test]
    fn both_families_and_modes_are_reported() {
        let text = "services:
  - name: api
    vips: [10.0.0.100, \"fd00::100\"]
    port: 6443
    allow: [10.0.0.0/8, \"fd00::/8\"]
    rate_limit: { connections_per_second: 10, burst: 20 }
    snat_address: [\"fd00::101\", \"fd00::102\"]
    timeouts: { closing: 30s }
    backends: [{ name: a, address: 10.0.0.11 }, { name: b, address: \"fd00::11\" }]
  - { name: b, vips: [10.0.0.101], port: 1, mode: dsr, backends: [{ name: a, address: 10.0.0.12 }] }
";
        let report = report(&config::parse(text, Path::new("f")).unwrap());
        for expected in [
            "service api: 10.0.0.100, fd00::100 port 6443, mode nat",
            "b  [fd00::11]:6443  weight 100",
            "SNAT carries 2150 closes by IPv4 backends a second",
            "SNAT carries 4300 closes by IPv6 backends a second",
            "64,512 ports x 1 backends x 2 snat addresses / 30 s\n",
            "makes 10 connections a second, 20 at once",
            "open to 10.0.0.0/8, fd00::/8",
            "IPv6 flows, slots for 2 x limits.flows and 2 x the larger limit: 524329 x 136 = 71.3 MB",
            "clients' rates: 65536 x (24 + 8 + 56) = 5.7 MB",
            "service b: 10.0.0.101 port 1, mode dsr",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
        assert_eq!(report.matches("SNAT carries").count(), 2, "{report}");
    }

    #[test]
    fn an_instance_is_reported_with_its_take_over_times() {
        let text = "
services: [{ name: a, vips: [10.0.0.1], port: 1, backends: [{ name: b, address: 10.0.0.9 }] }]
vrrp:
  - { name: v, interface: eth0, vrid: 5, vips: [10.0.0.1] }
  - { name: w, interface: eth0, vrid: 6, vips: [10.0.0.2], advert_interval: 100ms, priority: 250 }
  - { name: x, interface: eth0, vrid: 7, vips: [10.0.0.3], advert_interval: 100ms, restart_grace: 0s }
  - { name: y, interface: eth0, vrid: 8, vips: [10.0.0.4], version: 2 }
";
        let report = report(&config::parse(text, Path::new("f")).unwrap());
        for expected in [
            "vrrp v: 10.0.0.1 on eth0, VRID 5, version 3, priority 100",
            "takes over 3609.4 ms after the last advertisement",
            "3 x 1000.0 ms without one + 609.4 ms",
            "takes over 609.4 ms after one that gives up",
            "such as 250 and 249",
            "takes over 302.3 ms after the last advertisement",
            "a start within 300.0 ms\n    a restart takes longer: `fairlead drain` first",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
        assert_eq!(report.matches("a start within 3000.0 ms").count(), 3, "{report}");
        assert_eq!(report.matches("the other nodes are told").count(), 1, "{report}");
        assert_eq!(report.matches("fairlead drain").count(), 1, "{report}");
        assert_eq!(report.matches("version 2 has no way").count(), 1, "{report}");
    }

    #[test]
    fn what_sync_takes_is_reported() {
        let text = "
services: [{ name: a, vips: [10.0.0.1], port: 1, backends: [{ name: b, address: 10.0.0.9 }] }]
sync: { listen: \"10.0.0.2:7946\", peers: [\"10.0.0.3:7946\", \"10.0.0.4:7946\"], key_file: /k }
";
        let report = report(&config::parse(text, Path::new("f")).unwrap());
        for expected in [
            "sync: listens on 10.0.0.2:7946, shares flows with 10.0.0.3:7946, 10.0.0.4:7946\n",
            "ring of changes 4.1 MB; for each peer at most 8.3 MB",
            "131072 x 18 = 2.3 MB while it sends",
            "is sent within 20 ms, everything is compared every 5 s\n",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
    }

    #[test]
    fn every_way_to_be_lost_has_its_time_and_its_sum() {
        let config = config::parse(config::EXAMPLE, Path::new("example.yaml")).unwrap();
        let report = report(&config);
        for expected in [
            "1.3 s  after its process ends (connection refused): 1.1 s until the next probe + 1 x 0.2 s",
            "2.6 s  after its host vanishes (black hole): 1.1 s until the next probe + 2 x 0.5 s \
             between + 0.5 s for the last to time out\n",
            "4.1 s  after it hangs (takes connections, answers nothing): 1.1 s until the next probe \
             + 2 x 1 s between + 1 s for the last to time out\n",
            "1.6 s  after /readyz turns red: 1.1 s until the next probe + 2 x 0.25 s between\n",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
        assert!(!report.contains("WARNING"), "{report}");
    }

    #[test]
    fn a_shutdown_delay_that_is_too_short_is_warned_of() {
        let text = |delay: &str| {
            format!(
                "services: [{{ name: a, vips: [10.0.0.100], port: 1, backends: [{{ name: a, \
                 address: 10.0.0.12 }}], health: {{ type: http, shutdown_delay: {delay} }} }}]"
            )
        };
        for (delay, is_warned) in [("0s", true), ("1.5s", true), ("1.6s", false), ("10s", false)] {
            let report = report(&config::parse(&text(delay), Path::new("f")).unwrap());
            assert_eq!(report.contains("WARNING: the apiservers stop"), is_warned, "{report}");
        }
    }
}
