//! `fairlead check`. I/O, but for [`report`].

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{ConfigOption, print};
use crate::config::{self, Config, Limits, Service};
use crate::health::fsm::worst_case_removal;

/// Ports that a SNAT address has towards one backend.
const SNAT_PORTS: u64 = 64_512;

/// How long the port of a connection that the backend closed is held: TIME_WAIT.
const TIME_WAIT: u64 = 60;

/// A map entry: key, value, and what the kernel needs beside them.
const ESTABLISHED_ENTRY: [u64; 3] = [16, 88, 48];
const HALF_OPEN_ENTRY: [u64; 3] = [16, 88, 56];

/// Validate a configuration and print what follows from it; changes nothing.
///
/// For each service: how long a dead backend stays in use at worst, and how many connections a
/// second SNAT allows. Errors go to stderr as FILE:LINE:COLUMN; the exit code is then 1.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.config.path;
    let config = config::load(path)?;
    print(&format!("{}: valid\n{}", path.display(), report(&config)))
}

fn report(config: &Config) -> String {
    let mut text = String::new();
    for service in &config.services {
        text += &describe(service);
    }
    text +=
        "\nmemory of the flow maps (an entry: key + value + the kernel's; two entries a flow)\n";
    let Limits { flows, half_open } = config.limits;
    text += &memory("established", flows, ESTABLISHED_ENTRY);
    text += &memory("half-open", half_open, HALF_OPEN_ENTRY);
    text += "\nXDP forwards before the host's firewall: nftables and iptables do not see this traffic.\n";
    text
}

fn describe(service: &Service) -> String {
    let mut text = String::new();
    let vips: Vec<String> = service.vips.iter().map(ToString::to_string).collect();
    let Service { name, port, mode, backends, health, .. } = service;
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
    line(format_args!(
        "  a backend that vanishes is out after {} at worst",
        seconds(worst_case_removal(health))
    ));
    line(format_args!("    {}", removal_arithmetic(service)));
    let count = backends.len() as u64;
    let sources = service.snat_addresses.len().max(1) as u64;
    line(format_args!(
        "  SNAT carries {} closes by backends a second",
        SNAT_PORTS * count * sources / TIME_WAIT
    ));
    line(format_args!(
        "    64,512 ports x {count} backends x {sources} snat addresses / {TIME_WAIT} s{}",
        if service.snat_addresses.is_empty() { " (the VIP that the client used)" } else { "" }
    ));
    text
}

/// The terms of [`worst_case_removal`], with the values it uses.
fn removal_arithmetic(service: &Service) -> String {
    let check = &service.health;
    let longest = |period: Duration| period.saturating_add(period / 10);
    let first = longest(check.interval).max(check.timeout);
    let fast = longest(check.fast_interval.min(check.interval)).max(check.timeout);
    format!(
        "{} until the next probe + {} x {} between failures + {} for the last to time out",
        seconds(first),
        check.fall.saturating_sub(1),
        seconds(fast),
        seconds(check.timeout)
    )
}

fn memory(map: &str, flows: u32, [key, value, kernel]: [u64; 3]) -> String {
    let bytes = u64::from(flows) * 2 * (key + value + kernel);
    let tenths = bytes / 100_000;
    format!(
        "  {map}: {flows} x 2 x ({key} + {value} + {kernel}) bytes = {}.{} MB\n",
        tenths / 10,
        tenths % 10
    )
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_report_shows_its_arithmetic() {
        let config = config::parse(config::EXAMPLE, Path::new("example.yaml")).unwrap();
        let report = report(&config);
        for expected in [
            "service kube-apiserver: 10.0.0.100 port 6443, mode nat",
            "cp1  10.0.0.11:6443  weight 100",
            "SNAT carries 3225 closes",
            "64,512 ports x 3 backends x 1 snat addresses / 60 s",
            "established: 131072 x 2 x (16 + 88 + 48) bytes = 39.8 MB",
            "half-open: 65536 x 2 x (16 + 88 + 56) bytes = 20.9 MB",
            "nftables and iptables do not see",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
    }

    /// The terms add up to what `worst_case_removal` says.
    #[test]
    fn the_removal_time_is_the_sum_of_its_terms() {
        let config = config::parse(config::EXAMPLE, Path::new("example.yaml")).unwrap();
        let service = &config.services[0];
        let text = removal_arithmetic(service);
        let numbers: Vec<f64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [first, count, fast, last] = numbers[..] else { panic!("{text}") };
        let worst = worst_case_removal(&service.health).as_secs_f64();
        assert!((first + count * fast + last - worst).abs() < 0.002, "{text}: {worst}");
    }
}
