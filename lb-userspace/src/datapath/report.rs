//! What follows from the sizes of maps and port ranges, a line each with its arithmetic: for `check`, and
//! for the log at start. Pure.

use std::net::IpAddr;

use lb_common::map;

use super::Sizes;
use crate::config::{Config, Family, Mode, Service};

/// Ports that a SNAT address has towards one backend.
const SNAT_PORTS: u64 = 64_512;

/// What the kernel needs beside an element of a hash map, and of one that evicts. Bytes.
const HASH_ELEMENT: u64 = 48;
const LRU_ELEMENT: u64 = 56;
/// Maps that take less are not worth a line.
const SMALL: u64 = 100_000;

/// The maps, what they hold, and what the kernel adds to an element.
const LARGE: [(&str, &str, u64); 8] = [
    ("IPv4 flows, slots for 2 x limits.flows and 2 x the larger limit", map::FLOWS, 0),
    ("IPv6 flows, slots for 2 x limits.flows and 2 x the larger limit", map::FLOWS6, 0),
    ("clients' rates", map::SOURCES, LRU_ELEMENT),
    ("backends", map::BACKENDS, 0),
    ("backends' traffic, on each CPU", map::BACKEND_TRAFFIC, 0),
    ("what else is counted of backends, on each CPU", map::BACKEND_EVENTS, 0),
    ("backends' times to connect, on each CPU", map::CONNECT_TIMES, 0),
    ("endpoints", map::ENDPOINTS, HASH_ELEMENT),
];

/// What the large maps take: elements × (key + value + the kernel's) bytes, of arrays elements × value.
pub fn memory(sizes: &Sizes) -> Vec<String> {
    let sizes = Sizes { cpus: 1, ..*sizes };
    LARGE
        .iter()
        .filter_map(|(what, name, kernel)| {
            let (key, value, elements) = sizes.layout(name);
            // An array has no keys.
            let key = if *kernel == 0 { 0 } else { key };
            let bytes = u64::from(elements) * ((key + value) as u64 + kernel);
            let tenths = bytes / SMALL;
            let sum = match kernel {
                0 => format!("{elements} x {value}"),
                _ => format!("{elements} x ({key} + {value} + {kernel})"),
            };
            (bytes >= SMALL).then(|| format!("{what}: {sum} = {}.{} MB", tenths / 10, tenths % 10))
        })
        .collect()
}

/// How many connections that backends close first fit into the SNAT ports, by service and family.
pub fn snat(config: &Config) -> Vec<(String, String)> {
    let services = config.services.iter().filter(|service| service.mode == Mode::Nat);
    services
        .flat_map(|service| {
            let lines = service.families().map(|family| snat_of(service, family));
            lines.map(|line| (service.name.clone(), line)).collect::<Vec<_>>()
        })
        .collect()
}

fn snat_of(service: &Service, family: Family) -> String {
    let of_family = |address: &&IpAddr| Family::of(address) == family;
    let fixed = service.backends.iter().filter(|it| of_family(&&it.address)).count();
    // At least one address each.
    let backends = (fixed + service.names.len()) as u64;
    let own = service.snat_addresses.iter().filter(of_family).count() as u64;
    let sources = own.max(1);
    let closing = service.timeouts.closing;
    // At least a second, by `config`.
    let ceiling = SNAT_PORTS * backends * sources / closing.as_secs().max(1);
    let note = if own == 0 { " (the VIP that the client used)" } else { "" };
    format!(
        "SNAT carries {ceiling} closes by {family} backends a second: 64,512 ports x {backends} \
         backends x {sources} snat addresses / {} s{note}",
        closing.as_millis() as f64 / 1000.0
    )
}
