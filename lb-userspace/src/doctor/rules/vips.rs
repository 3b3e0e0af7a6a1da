//! Where the VIPs are, and whether they should be there. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::finding::Finding;
use crate::admin::model::Status;
use crate::config::{Config, Family};
use crate::netlink::Snapshot;
use crate::netlink::snapshot::Address;

/// `status`: of the controller, if one runs.
pub(super) fn judge(config: &Config, snapshot: &Snapshot, status: Option<&Status>) -> Vec<Finding> {
    let mut found = Vec::new();
    for vip in config.vips() {
        let here: Vec<&Address> =
            snapshot.addresses.iter().filter(|it| it.address == vip).collect();
        found.extend(here.iter().filter_map(|address| form(config, snapshot, address)));
        found.push(ownership(vip, &here, status));
    }
    found
}

/// An address that is not what the controller adds.
fn form(config: &Config, snapshot: &Snapshot, address: &Address) -> Option<Finding> {
    let Address { ifindex, address: vip, prefix_len, .. } = address;
    let name = snapshot.links.get(ifindex).map_or("?", |link| link.name.as_str());
    let bits = Family::of(vip).bits();
    if *prefix_len != bits {
        return Some(
            Finding::warning("vip.prefix", format!("the VIP {vip} is on {name} as /{prefix_len}"))
                .because("it may become the interface's primary address, and vanish together with the node's own")
                .fix(format!("ip addr del {vip}/{prefix_len} dev {name}     # the controller adds it as /{bits}"))
                .fix("# and take it out of the network's configuration"),
        );
    }
    let wanted: BTreeSet<&str> = config
        .interfaces
        .iter()
        .map(String::as_str)
        .chain(config.vrrp.iter().map(|instance| instance.interface.as_str()))
        .collect();
    (!wanted.is_empty() && !wanted.contains(name)).then(|| {
        Finding::problem("vip.interface", format!("the VIP {vip} is on {name}, where nothing is balanced"))
            .because("the node takes it for its own there: the kernel may answer ARP for it, and its connections to it stay here")
            .fix(format!("ip addr del {vip}/{prefix_len} dev {name}"))
    })
}

fn ownership(vip: IpAddr, here: &[&Address], status: Option<&Status>) -> Finding {
    const ID: &str = "vip.owner";
    let owner = status
        .map(|status| status.vips.iter().find(|it| it.address == vip).is_some_and(|it| it.owner));
    match (owner, here.is_empty()) {
        (Some(true), false) => Finding::ok(ID, format!("this node has the VIP {vip}, and should")),
        (Some(false), true) => {
            Finding::ok(ID, format!("this node has not the VIP {vip}, as another one should"))
        }
        (Some(true), true) => Finding::problem(
            ID,
            format!("this node should have the VIP {vip}, and has not"),
        )
        .because(
            "nobody answers ARP for it; somebody removes it as often as the controller adds it",
        )
        .fix("fairlead events     # what happened to it"),
        (Some(false), false) => {
            Finding::problem(ID, format!("this node has the VIP {vip}, and should not"))
                .because("two nodes answer ARP for it")
                .fix("fairlead status     # who should")
        }
        (None, true) => Finding::ok(ID, format!("this node has not the VIP {vip}")),
        (None, false) => {
            Finding::warning(ID, format!("this node has the VIP {vip}, and no controller runs"))
                .because("it goes on answering ARP for it, also when another node takes over")
                .fix("systemctl start fairlead")
                .fix("fairlead cleanup     # or remove what a killed controller left")
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_common::link::Mac;

    use super::super::testing::{config, has, severities};
    use super::*;
    use crate::admin::model::Vip;
    use crate::doctor::Severity;
    use crate::netlink::snapshot::{Link, LinkKind};

    fn owns(name: &str, prefix_len: u8) -> Snapshot {
        let link = Link {
            name: name.to_owned(),
            index: 3,
            mac: Mac([2; 6]),
            up: true,
            mtu: 1500,
            loopback: false,
            xdp: None,
            kind: LinkKind::Other(String::new()),
            master: None,
        };
        let address = Address {
            ifindex: 3,
            address: "10.0.0.100".parse().unwrap(),
            prefix_len,
            deprecated: true,
            tentative: false,
        };
        Snapshot { links: [(3, link)].into(), addresses: vec![address], ..Snapshot::default() }
    }

    fn status(owner: bool) -> Status {
        let vip = Vip { address: "10.0.0.100".parse().unwrap(), owner, lease_ms: None };
        Status { vips: vec![vip], ..Status::default() }
    }

    #[test]
    fn who_should_have_a_vip_has_it() {
        let (here, nowhere) = (owns("eth0", 32), Snapshot::default());
        for (snapshot, status, severity) in [
            (&here, Some(status(true)), Severity::Ok),
            (&nowhere, Some(status(false)), Severity::Ok),
            (&nowhere, None, Severity::Ok),
            (&nowhere, Some(status(true)), Severity::Problem),
            (&here, Some(status(false)), Severity::Problem),
            (&here, None, Severity::Warning),
        ] {
            let found = judge(&config(""), snapshot, status.as_ref());
            assert_eq!(severities(&found), [severity], "{found:#?}");
            assert!(has(&found, "vip.owner", severity));
        }
    }

    #[test]
    fn a_vip_elsewhere_or_with_a_prefix_is_named() {
        let found = judge(&config(""), &owns("lo", 32), Some(&status(true)));
        assert!(has(&found, "vip.interface", Severity::Problem), "{found:#?}");
        let found = judge(&config(""), &owns("eth0", 24), Some(&status(true)));
        assert!(has(&found, "vip.prefix", Severity::Warning), "{found:#?}");
    }
}
