//! What the facts mean: a file for each kind of facts. Pure.

use super::facts::Facts;
use super::finding::Finding;
use crate::config::Config;

mod apiservers;
mod claims;
mod clock;
mod controller;
mod firewall;
mod interfaces;
mod local_clients;
mod machine;
mod mtu;
mod removal;
mod rivals;
mod sysctls;
#[cfg(test)]
mod testing;
mod traffic_control;
mod vips;
mod vrrp;
mod ways;

/// Everything that can be said, in the order of the files.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let running = facts.controller.running();
    let config = facts.config();
    let elects = config.is_some_and(|config| !config.vrrp.is_empty());
    let mut found = controller::judge(&facts.file, &facts.controller);
    if let Some(running) = running {
        found.extend(local_clients::judge(&running.status.local_clients));
    }
    found.extend(machine::judge(&facts.machine, elects));
    found.push(clock::judge(&facts.clock));
    let Some(config) = config else { return found };
    let given = interfaces::Given {
        mode: config.xdp_mode,
        replaces: config.replace_xdp,
        running: running.is_some(),
    };
    found.extend(interfaces::judge(&facts.interfaces, given));
    found.extend(mtu::judge(&facts.interfaces, &facts.machine.kernel, has_v6(config)));
    found.extend(sysctls::judge(config, &facts.interfaces, &facts.sysctls, &facts.snapshot));
    found.extend(rivals::judge(config, &facts.processes, &facts.snapshot, &facts.sysctls));
    let status = running.map(|running| &running.status);
    let network = &facts.network;
    found.extend(vips::judge(config, &facts.snapshot, status));
    let given = claims::Given { config, snapshot: &facts.snapshot, status, heard: &network.heard };
    found.extend(claims::judge(network.asked.as_ref(), given));
    found.extend(vrrp::judge(config, &network.heard, status));
    found.extend(ways::judge(&network.ways, &balancing(facts), &facts.machine.kernel));
    found.extend(apiservers::judge(&network.apiservers));
    found.extend(firewall::judge(config, &facts.firewall));
    found.extend(removal::judge(config));
    found
}

/// The interfaces that XDP attaches to.
fn balancing(facts: &Facts) -> Vec<String> {
    let balancing = facts.interfaces.iter().filter(|interface| interface.balances);
    balancing.map(|interface| interface.name.clone()).collect()
}

fn has_v6(config: &Config) -> bool {
    config.vips().iter().any(std::net::IpAddr::is_ipv6)
}
