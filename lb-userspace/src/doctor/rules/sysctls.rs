//! Settings of the kernel's network that get in the way. Pure.

use std::net::IpAddr;

use super::super::facts::sysctls::PerInterface;
use super::super::facts::{Interface, Sysctls};
use super::super::finding::Finding;
use crate::config::{Cidr, Config, Family, Mode};
use crate::netlink::Snapshot;

const STRICT: u32 = 1;
/// Each probe holds a port for a minute at worst.
const FEW_PORTS: u16 = 4096;

pub(super) fn judge(
    config: &Config,
    interfaces: &[Interface],
    sysctls: &Sysctls,
    snapshot: &Snapshot,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, settings) in &sysctls.interfaces {
        found.extend(rp_filter(config, name, *settings, snapshot));
        found.extend(promote(name, *settings, snapshot));
    }
    found.extend(one_link(interfaces, sysctls, snapshot));
    found.extend(ipv6(config, sysctls));
    found.extend(forwarding(config, sysctls));
    found.extend(ports(sysctls));
    found
}

/// A strict filter drops what comes in by another interface than an answer would leave by.
fn rp_filter(
    config: &Config,
    name: &str,
    settings: PerInterface,
    snapshot: &Snapshot,
) -> Option<Finding> {
    const ID: &str = "sysctl.rp_filter";
    let loosen = format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
    let keep = "# and in /etc/sysctl.d/, to outlast a reboot";
    if settings.rp_filter? != STRICT {
        return Some(Finding::ok(ID, format!("{name} has no strict reverse path filter")));
    }
    let what = format!("{name} has a strict reverse path filter");
    if let Some((who, peer)) = dropped(config, name, snapshot) {
        return Some(
            Finding::problem(ID, format!("{what}, and {who} {peer} is routed by another interface"))
                .because("the kernel drops what comes from there: advertisements are not heard, and two nodes hold the VIPs")
                .fix(loosen)
                .fix(keep),
        );
    }
    let forwards = config.services.iter().any(|service| service.mode == Mode::Dnat);
    if config.interfaces.len() > 1 || forwards {
        return Some(
            Finding::warning(ID, what)
                .because(
                    "what is balanced does not pass it, but the rest does: probes' answers, advertisements and what \
                     apiservers send out are dropped where the way back is another one",
                )
                .fix(loosen)
                .fix(keep),
        );
    }
    Some(
        Finding::info(ID, what)
            .because("it does no harm as long as everything that comes in by this interface is answered by it too"),
    )
}

/// A peer of an instance on this interface whose packets the filter drops.
fn dropped(config: &Config, name: &str, snapshot: &Snapshot) -> Option<(&'static str, IpAddr)> {
    let ifindex = snapshot.link_by_name(name)?.index;
    let instances = config.vrrp.iter().filter(|instance| instance.interface == name);
    let mut peers =
        instances.flat_map(|instance| &instance.unicast_peers).filter(|it| it.is_ipv4());
    let elsewhere = |peer: &IpAddr| snapshot.route_to(*peer).is_none_or(|it| it.ifindex != ifindex);
    peers.find(|peer| elsewhere(peer)).map(|peer| ("the VRRP peer", *peer))
}

/// The kernel removes secondary addresses with the first one of their subnet, unless it is told not to.
fn promote(name: &str, settings: PerInterface, snapshot: &Snapshot) -> Option<Finding> {
    const ID: &str = "sysctl.promote_secondaries";
    let ifindex = snapshot.link_by_name(name)?.index;
    let own: Vec<Cidr> = snapshot
        .addresses
        .iter()
        .filter(|it| it.ifindex == ifindex && it.address.is_ipv4() && it.prefix_len < 32)
        .map(|it| Cidr::containing(it.address, it.prefix_len))
        .collect();
    let several = own.iter().enumerate().any(|(index, subnet)| own[..index].contains(subnet));
    (several && settings.promote_secondaries? == 0).then(|| {
        Finding::warning(
            ID,
            format!("{name} has several addresses of a subnet, and promote_secondaries is 0"),
        )
        .because(
            "with the first of them the kernel removes the others too; VIPs, which are /32, stay",
        )
        .fix(format!("sysctl -w net.ipv4.conf.{name}.promote_secondaries=1"))
    })
}

/// Two interfaces on one link both answer ARP for every address of the node.
fn one_link(interfaces: &[Interface], sysctls: &Sysctls, snapshot: &Snapshot) -> Option<Finding> {
    const ID: &str = "sysctl.arp_ignore";
    let subnets = |name: &str| -> Vec<Cidr> {
        let Some(link) = snapshot.link_by_name(name) else { return Vec::new() };
        let own = snapshot.addresses.iter().filter(|it| it.ifindex == link.index);
        own.filter(|it| it.address.is_ipv4() && it.prefix_len < 32)
            .map(|it| Cidr::containing(it.address, it.prefix_len))
            .collect()
    };
    let answers = |name: &str| {
        sysctls.interfaces.get(name).and_then(|it| it.arp_ignore).is_some_and(|value| value == 0)
    };
    for (index, one) in interfaces.iter().enumerate() {
        let here = subnets(&one.name);
        let mut others = interfaces[..index].iter();
        let shared = others.find(|it| subnets(&it.name).iter().any(|subnet| here.contains(subnet)));
        if let Some(other) = shared.filter(|other| answers(&one.name) || answers(&other.name)) {
            let what = format!(
                "{} and {} have addresses of one subnet, and both answer ARP for all",
                other.name, one.name
            );
            return Some(
                Finding::warning(ID, what)
                    .because("clients learn the MAC of either for a VIP, whichever answers first")
                    .fix(
                        "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
                    ),
            );
        }
    }
    None
}

fn ipv6(config: &Config, sysctls: &Sysctls) -> Option<Finding> {
    const ID: &str = "sysctl.disable_ipv6";
    config.vips().iter().find(|vip| Family::of(vip) == Family::V6)?;
    let off = sysctls.interfaces.iter().find(|(_, it)| it.disable_ipv6 == Some(1));
    Some(match off {
        None => Finding::ok(ID, "IPv6 is on where there are IPv6 VIPs"),
        Some((name, _)) => Finding::problem(ID, format!("IPv6 is switched off on {name}"))
            .because("an IPv6 VIP cannot be added there, and VRRP for it does not run")
            .fix(format!("sysctl -w net.ipv6.conf.{name}.disable_ipv6=0")),
    })
}

fn forwarding(config: &Config, sysctls: &Sysctls) -> Option<Finding> {
    const ID: &str = "sysctl.ip_forward";
    let forwards = config.services.iter().any(|service| service.mode == Mode::Dnat);
    (forwards && sysctls.ip_forward? == 0).then(|| {
        Finding::info(ID, "this node forwards nothing but what it balances")
            .because("apiservers of a `dnat` service have it as their gateway: all else that they send out needs forwarding")
            .fix("sysctl -w net.ipv4.ip_forward=1     # if they have no other way out")
    })
}

fn ports(sysctls: &Sysctls) -> Option<Finding> {
    const ID: &str = "sysctl.local_ports";
    let (first, last) = sysctls.local_ports?;
    if last.saturating_sub(first) < FEW_PORTS {
        return Some(
            Finding::warning(ID, format!("this node's own connections have ports {first} to {last}"))
                .because("probes may run out of ports; those of balanced connections are others, as they belong to the VIP")
                .fix("sysctl -w net.ipv4.ip_local_port_range='32768 60999'"),
        );
    }
    Some(Finding::ok(
        ID,
        format!(
            "ports {first} to {last} are for this node's own connections; SNAT has those of the VIPs"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use lb_common::link::Mac;

    use super::super::testing::{ELECTED, config, has};
    use super::*;
    use crate::doctor::Severity;
    use crate::netlink::snapshot::{Address, Link, LinkKind, Route, RouteKind};

    fn snapshot(addresses: &[(u32, &str)]) -> Snapshot {
        let link = |index: u32| Link {
            name: format!("eth{}", index - 1),
            index,
            mac: Mac([2; 6]),
            up: true,
            mtu: 1500,
            loopback: false,
            xdp: None,
            kind: LinkKind::Other(String::new()),
            master: None,
        };
        let address = |(ifindex, text): &(u32, &str)| {
            let (address, prefix_len) = text.split_once('/').unwrap();
            Address {
                ifindex: *ifindex,
                address: address.parse().unwrap(),
                prefix_len: prefix_len.parse().unwrap(),
                deprecated: false,
                tentative: false,
            }
        };
        Snapshot {
            links: (1..=2).map(|index| (index, link(index))).collect(),
            addresses: addresses.iter().map(address).collect(),
            ..Snapshot::default()
        }
    }

    fn route(dst: &str, ifindex: u32) -> Route {
        let (network, prefix_len) = dst.split_once('/').unwrap();
        Route {
            dst: Cidr::containing(network.parse().unwrap(), prefix_len.parse().unwrap()),
            gateway: None,
            ifindex,
            metric: 0,
            prefsrc: None,
            kind: RouteKind::Unicast,
        }
    }

    fn sysctls(names: &[&str], settings: PerInterface) -> Sysctls {
        Sysctls {
            interfaces: names.iter().map(|name| ((*name).to_owned(), settings)).collect(),
            ip_forward: Some(0),
            local_ports: Some((32_768, 60_999)),
            arp_ignore_all: Some(0),
        }
    }

    const USUAL: PerInterface = PerInterface {
        rp_filter: Some(0),
        arp_ignore: Some(0),
        promote_secondaries: Some(0),
        disable_ipv6: Some(0),
    };
    const STRICTLY: PerInterface = PerInterface { rp_filter: Some(STRICT), ..USUAL };

    fn interface(name: &str) -> Interface {
        Interface { name: name.to_owned(), balances: true, link: None }
    }

    #[test]
    fn a_strict_filter_is_as_bad_as_what_it_drops() {
        let one = snapshot(&[(1, "10.0.0.1/24")]);
        let judged = |config: &Config, snapshot: &Snapshot, settings| {
            judge(config, &[], &sysctls(&["eth0"], settings), snapshot)
        };
        let id = "sysctl.rp_filter";
        assert!(has(&judged(&config(""), &one, USUAL), id, Severity::Ok));
        assert!(has(&judged(&config(""), &one, STRICTLY), id, Severity::Info));
        let dnat = config("    mode: dnat\n");
        assert!(has(&judged(&dnat, &one, STRICTLY), id, Severity::Warning));
        assert!(has(&judged(&dnat, &one, STRICTLY), "sysctl.ip_forward", Severity::Info));
        let elected = config(ELECTED);
        let here = Snapshot { routes: vec![route("10.0.0.0/24", 1)], ..one.clone() };
        let there = Snapshot { routes: vec![route("10.0.0.0/24", 2)], ..one };
        assert!(has(&judged(&elected, &here, STRICTLY), id, Severity::Info));
        assert!(has(&judged(&elected, &there, STRICTLY), id, Severity::Problem));
        assert!(has(&judged(&elected, &there, USUAL), id, Severity::Ok));
    }

    #[test]
    fn two_interfaces_on_one_link_are_warned_of() {
        let id = "sysctl.arp_ignore";
        let both = [interface("eth0"), interface("eth1")];
        let shared = snapshot(&[(1, "10.0.0.1/24"), (2, "10.0.0.2/24")]);
        let apart = snapshot(&[(1, "10.0.0.1/24"), (2, "10.0.1.2/24")]);
        let names = ["eth0", "eth1"];
        let judged = |snapshot: &Snapshot, settings| {
            judge(&config(""), &both, &sysctls(&names, settings), snapshot)
        };
        assert!(has(&judged(&shared, USUAL), id, Severity::Warning));
        assert!(!has(&judged(&apart, USUAL), id, Severity::Warning));
        let quiet = PerInterface { arp_ignore: Some(1), ..USUAL };
        assert!(!has(&judged(&shared, quiet), id, Severity::Warning));
    }

    #[test]
    fn secondary_addresses_ports_and_ipv6_are_judged() {
        let two = snapshot(&[(1, "10.0.0.1/24"), (1, "10.0.0.2/24"), (1, "10.0.0.100/32")]);
        let found = judge(&config(""), &[], &sysctls(&["eth0"], USUAL), &two);
        assert!(has(&found, "sysctl.promote_secondaries", Severity::Warning), "{found:#?}");
        assert!(has(&found, "sysctl.local_ports", Severity::Ok));
        let few = Sysctls { local_ports: Some((60_000, 61_000)), ..sysctls(&[], USUAL) };
        let found = judge(&config(""), &[], &few, &two);
        assert!(has(&found, "sysctl.local_ports", Severity::Warning));
        let mut v6 = config("");
        v6.services[0].vips.push("fd00::100".parse().unwrap());
        let off = PerInterface { disable_ipv6: Some(1), ..USUAL };
        let found = judge(&v6, &[], &sysctls(&["eth0"], off), &two);
        assert!(has(&found, "sysctl.disable_ipv6", Severity::Problem));
    }
}
