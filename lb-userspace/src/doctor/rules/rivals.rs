//! Others on this machine who want the same addresses. Pure.

use std::net::IpAddr;

use super::super::facts::processes::{Listener, Rival, RivalInstance};
use super::super::facts::{Processes, Sysctls};
use super::super::finding::Finding;
use crate::config::{Config, Family};
use crate::netlink::Snapshot;

/// The interface of kube-proxy's IPVS mode, which has every address of a cluster's services.
const IPVS: &str = "kube-ipvs0";

pub(super) fn judge(
    config: &Config,
    processes: &Processes,
    snapshot: &Snapshot,
    sysctls: &Sysctls,
) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        processes.listeners.iter().filter_map(|it| listener(config, it, snapshot)).collect();
    found.extend(processes.rivals.iter().map(|it| rival(config, it)));
    if processes.from_vips > 0 {
        found.push(
            Finding::info(
                "sockets.from_vip",
                format!("{} connections of this node have a VIP as their own address", processes.from_vips),
            )
            .because("their ports may be taken by balanced connections, as SNAT has the VIP's; bind such programs to the node's address")
            .fix("ss -tnp"),
        );
    }
    found.extend(ipvs(config, snapshot, sysctls));
    if found.is_empty() {
        found.push(Finding::ok("rivals.none", "nobody else here wants the VIPs or their ports"));
    }
    found
}

fn listener(config: &Config, listener: &Listener, snapshot: &Snapshot) -> Option<Finding> {
    const ID: &str = "listener.vip";
    let address = listener.address;
    let who = match &listener.process {
        Some((name, pid)) => format!("{name} (process {pid})"),
        None => "somebody".to_owned(),
    };
    let show = format!("ss -ltnp 'sport = :{}'", address.port());
    if !address.ip().is_unspecified() {
        return Some(
            Finding::warning(ID, format!("{who} listens on {address}, which is a service's"))
                .because("XDP forwards what arrives there before the node's own TCP sees it: nobody gets through to that program")
                .fix(show),
        );
    }
    // An apiserver on this node listens like this.
    let is_backend = config.services.iter().flat_map(|service| &service.backends).any(|it| {
        it.port == address.port() && snapshot.addresses.iter().any(|own| own.address == it.address)
    });
    (!is_backend).then(|| {
        Finding::info(ID, format!("{who} listens on port {} of every address", address.port()))
            .because("of the VIP it gets nothing; of the node's other addresses it does")
            .fix(show)
    })
}

fn rival(config: &Config, rival: &Rival) -> Finding {
    let Rival { name, pid, instances } = rival;
    let who = format!("{name} (process {pid})");
    let stop = format!("systemctl disable --now {name}     # once Fairlead has taken over");
    if name == "haproxy" {
        return Finding::info("rival.haproxy", format!("{who} runs"))
            .because("it does no harm on ports and addresses of its own; a service's port on the VIP it does not get")
            .fix(stop);
    }
    let id = "rival.vrrp";
    let Some(instances) = instances else {
        return Finding::warning(id, format!("{who} runs"))
            .because("if it holds one of the VIPs, or has one of the VRIDs, two programs of one node contend; its configuration could not be read")
            .fix(stop);
    };
    let clash = instances.iter().find_map(|instance| Some((instance, clash(config, instance)?)));
    match clash {
        Some((instance, what)) => {
            Finding::problem(id, format!("{who} has {what}, in {}", instance.name))
                .because("two programs of one node contend: the VIP comes and goes")
                .fix(stop)
        }
        None => Finding::info(id, format!("{who} runs, with other VIPs and VRIDs"))
            .because("it does no harm"),
    }
}

/// What an instance has that is also ours.
fn clash(config: &Config, instance: &RivalInstance) -> Option<String> {
    if let Some(vip) = instance.vips.iter().find(|vip| config.vips().contains(*vip)) {
        return Some(format!("our VIP {vip}"));
    }
    let families: Vec<Family> = instance.vips.iter().map(Family::of).collect();
    let ours = config.vrrp.iter().find(|ours| {
        Some(ours.vrid) == instance.vrid
            && instance.interface.as_ref().is_none_or(|name| *name == ours.interface)
            && families.contains(&ours.family())
    })?;
    Some(format!("our VRID {} on {}", ours.vrid, ours.interface))
}

fn ipvs(config: &Config, snapshot: &Snapshot, sysctls: &Sysctls) -> Option<Finding> {
    let link = snapshot.link_by_name(IPVS)?;
    let mut on_it = snapshot.addresses.iter().filter(|it| it.ifindex == link.index);
    let vips = config.vips();
    if let Some(address) = on_it.find(|it| vips.contains(&it.address)) {
        let vip: IpAddr = address.address;
        return Some(
            Finding::problem("ipvs.vip", format!("kube-proxy has the VIP {vip} on {IPVS}"))
                .because("every node of the cluster then answers for it; a Service of the cluster has it as an external address")
                .fix("kubectl get services -A -o wide     # which one; take the address out of it"),
        );
    }
    let what = format!("kube-proxy runs in IPVS mode ({IPVS})");
    if sysctls.arp_ignore_all == Some(0) {
        return Some(
            Finding::warning("ipvs.strict_arp", format!("{what} without strictARP"))
                .because("this node answers ARP for every address of a Service")
                .fix("kubectl -n kube-system edit configmap kube-proxy     # ipvs: { strictARP: true }"),
        );
    }
    Some(Finding::ok("ipvs.strict_arp", format!("{what} with strictARP")))
}

#[cfg(test)]
mod tests {
    use lb_common::link::Mac;

    use super::super::testing::{ELECTED, config, has, severities};
    use super::*;
    use crate::doctor::Severity;
    use crate::netlink::snapshot::{Address, Link, LinkKind};

    fn judged(processes: &Processes, snapshot: &Snapshot, arp_ignore: u32) -> Vec<Finding> {
        let sysctls = Sysctls { arp_ignore_all: Some(arp_ignore), ..Sysctls::default() };
        judge(&config(ELECTED), processes, snapshot, &sysctls)
    }

    fn listens(address: &str) -> Processes {
        let process = Some(("haproxy".to_owned(), 7));
        let listeners = vec![Listener { address: address.parse().unwrap(), process }];
        Processes { listeners, ..Processes::default() }
    }

    fn keepalived(interface: &str, vrid: u8, vip: &str) -> Processes {
        let instance = RivalInstance {
            name: "VI_1".to_owned(),
            interface: Some(interface.to_owned()),
            vrid: Some(vrid),
            vips: vec![vip.parse().unwrap()],
        };
        rivals("keepalived", Some(vec![instance]))
    }

    fn rivals(name: &str, instances: Option<Vec<RivalInstance>>) -> Processes {
        let rivals = vec![Rival { name: name.to_owned(), pid: 7, instances }];
        Processes { rivals, ..Processes::default() }
    }

    fn owns(name: &str, address: &str) -> Snapshot {
        let link = Link {
            name: name.to_owned(),
            index: 3,
            mac: Mac([2; 6]),
            up: true,
            mtu: 1500,
            loopback: false,
            xdp: None,
            kind: LinkKind::Other("dummy".to_owned()),
            master: None,
        };
        let address = Address {
            ifindex: 3,
            address: address.parse().unwrap(),
            prefix_len: 32,
            deprecated: false,
            tentative: false,
        };
        Snapshot { links: [(3, link)].into(), addresses: vec![address], ..Snapshot::default() }
    }

    #[test]
    fn nobody_is_no_trouble() {
        let found = judged(&Processes::default(), &Snapshot::default(), 0);
        assert_eq!(severities(&found), [Severity::Ok]);
    }

    #[test]
    fn rivals_are_judged_by_what_they_have() {
        use Severity::{Info, Problem, Warning};
        for (processes, id, severity) in [
            (listens("10.0.0.100:6443"), "listener.vip", Warning),
            (listens("0.0.0.0:6443"), "listener.vip", Info),
            (keepalived("eth0", 51, "10.0.0.7"), "rival.vrrp", Problem),
            (keepalived("eth1", 51, "10.0.0.7"), "rival.vrrp", Info),
            (keepalived("eth0", 51, "fd00::7"), "rival.vrrp", Info),
            (keepalived("eth1", 7, "10.0.0.100"), "rival.vrrp", Problem),
            (rivals("keepalived", None), "rival.vrrp", Warning),
            (rivals("kube-vip", None), "rival.vrrp", Warning),
            (rivals("haproxy", None), "rival.haproxy", Info),
            (Processes { from_vips: 2, ..Processes::default() }, "sockets.from_vip", Info),
        ] {
            let found = judged(&processes, &Snapshot::default(), 0);
            assert!(has(&found, id, severity), "{processes:?}: {found:#?}");
        }
    }

    #[test]
    fn an_apiserver_of_this_node_may_listen_everywhere() {
        let found = judged(&listens("0.0.0.0:6443"), &owns("eth0", "10.0.0.11"), 0);
        assert_eq!(severities(&found), [Severity::Ok], "{found:#?}");
    }

    #[test]
    fn kube_proxy_with_ipvs_is_judged_by_its_addresses_and_its_arp() {
        let none = Processes::default();
        let vip = judged(&none, &owns(IPVS, "10.0.0.100"), 1);
        assert!(has(&vip, "ipvs.vip", Severity::Problem));
        let other = owns(IPVS, "10.96.0.1");
        assert!(has(&judged(&none, &other, 0), "ipvs.strict_arp", Severity::Warning));
        assert!(has(&judged(&none, &other, 1), "ipvs.strict_arp", Severity::Ok));
    }
}
