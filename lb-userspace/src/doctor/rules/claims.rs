//! Who answers for the VIPs on the link. Pure.

use std::net::IpAddr;

use super::super::facts::Looked;
use super::super::facts::adverts::Speaker;
use super::super::facts::claims::Asked;
use super::super::finding::Finding;
use crate::admin::model::Status;
use crate::config::Config;
use crate::netlink::Snapshot;

/// What is known besides who answers.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) config: &'a Config,
    pub(super) snapshot: &'a Snapshot,
    /// Of the controller, if one runs.
    pub(super) status: Option<&'a Status>,
    pub(super) heard: &'a Looked<Vec<Speaker>>,
}

/// `asked`: nothing if the link was not to be asked.
pub(super) fn judge(asked: Option<&Looked<Vec<Asked>>>, given: Given<'_>) -> Vec<Finding> {
    match asked {
        None => Vec::new(),
        Some(Err(error)) => vec![Finding::unknown("vip.conflict", "who has the VIPs", error)],
        Some(Ok(asked)) => asked.iter().map(|it| one(it, given)).collect(),
    }
}

fn one(asked: &Asked, Given { config, snapshot, status, heard }: Given<'_>) -> Finding {
    const ID: &str = "vip.conflict";
    let Asked { vip, interface, owners } = asked;
    let macs: Vec<String> = owners.iter().take(4).map(|mac| show(*mac)).collect();
    let find = format!(
        "ip neigh | grep -i {}     # on the clients; and in the switch's table",
        macs.first().map_or("", String::as_str)
    );
    if owners.len() > 1 {
        return Finding::problem(
            ID,
            format!("several hosts on {interface} have the VIP {vip}: {}", macs.join(", ")),
        )
        .because("clients get one or the other, as chance has it")
        .fix(find);
    }
    let Some(mac) = macs.first() else { return nobody(vip, interface, snapshot) };
    if is_here(*vip, snapshot, status) {
        return Finding::problem(ID, format!("{mac} on {interface} has the VIP {vip} too"))
            .because("this node has it: clients get one or the other, as chance has it")
            .fix(find);
    }
    if config.vrrp.iter().any(|instance| instance.vips.contains(vip)) {
        return elected(*vip, interface, mac, heard).unwrap_or_else(|| {
            Finding::ok(ID, format!("{mac} on {interface} has the VIP {vip}, and nobody else"))
        });
    }
    Finding::problem(ID, format!("{mac} on {interface} has the VIP {vip} already"))
        .because("this node is to own it without an election; both will answer for it")
        .fix(find)
}

fn nobody(vip: &IpAddr, interface: &str, snapshot: &Snapshot) -> Finding {
    const ID: &str = "vip.conflict";
    if has(*vip, snapshot) {
        return Finding::ok(ID, format!("nobody but this node has the VIP {vip} on {interface}"));
    }
    Finding::info(ID, format!("nobody on {interface} answers for the VIP {vip}"))
        .because("it is free; if another node should have it, clients do not find it")
}

/// Whoever has an elected VIP advertises it.
fn elected(
    vip: IpAddr,
    interface: &str,
    mac: &str,
    heard: &Looked<Vec<Speaker>>,
) -> Option<Finding> {
    let mut said = heard.as_ref().ok()?.iter().filter_map(|speaker| speaker.said.as_ref().ok());
    let is_advertised = said.any(|said| said.addresses.contains(&vip));
    (!is_advertised).then(|| {
        Finding::warning(
            "vip.unadvertised",
            format!("{mac} on {interface} has the VIP {vip}, and nobody advertises it"),
        )
        .because(
            "a host that has it without VRRP keeps it when a node takes it over; if it is one of the nodes, its \
             advertisements do not get here",
        )
        .fix("tcpdump -eni any arp or proto 112     # who that is")
    })
}

/// By the controller's word, else by the kernel's.
fn is_here(vip: IpAddr, snapshot: &Snapshot, status: Option<&Status>) -> bool {
    let owner = status.and_then(|status| status.vips.iter().find(|it| it.address == vip));
    owner.map_or_else(|| has(vip, snapshot), |it| it.owner)
}

fn has(vip: IpAddr, snapshot: &Snapshot) -> bool {
    snapshot.addresses.iter().any(|it| it.address == vip)
}

fn show(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::adverts::Said;
    use super::super::testing::{self, ELECTED};
    use super::*;
    use crate::admin::model::Vip;
    use crate::doctor::Severity;
    use crate::netlink::snapshot::Address;

    fn judged(config: &Config, owners: &[u8], here: bool, running: bool) -> Vec<Finding> {
        let said = Said {
            version: crate::vrrp::Version::V3,
            priority: 100,
            interval: std::time::Duration::from_secs(1),
            addresses: vec!["10.0.0.100".parse().unwrap()],
        };
        let speaker = Speaker {
            interface: "eth0".to_owned(),
            source: "10.0.0.3".parse().unwrap(),
            vrid: 51,
            said: Ok(said),
            refused: None,
            count: 1,
        };
        judged_with(config, owners, (here, running), &Ok(vec![speaker]))
    }

    fn judged_with(
        config: &Config,
        owners: &[u8],
        (here, running): (bool, bool),
        heard: &Looked<Vec<Speaker>>,
    ) -> Vec<Finding> {
        let vip: IpAddr = "10.0.0.100".parse().unwrap();
        let owners = owners.iter().map(|last| [2, 0, 0, 0, 0, *last]).collect();
        let asked = Ok(vec![Asked { vip, interface: "eth0".to_owned(), owners }]);
        let address = Address {
            ifindex: 2,
            address: vip,
            prefix_len: 32,
            deprecated: true,
            tentative: false,
        };
        let addresses = if here { vec![address] } else { Vec::new() };
        let snapshot = Snapshot { addresses, ..Snapshot::default() };
        let vips = vec![Vip { address: vip, owner: here, lease_ms: None }];
        let status = Status { vips, ..Status::default() };
        let status = running.then_some(&status);
        judge(Some(&asked), Given { config, snapshot: &snapshot, status, heard })
    }

    #[test]
    fn a_vip_is_one_hosts() {
        use Severity::{Info, Ok, Problem};
        let (alone, elected) = (testing::config(""), testing::config(ELECTED));
        for (config, owners, here, severity) in [
            (&alone, &[][..], true, Ok),
            (&alone, &[], false, Info),
            (&alone, &[7], true, Problem),
            (&alone, &[7], false, Problem),
            (&elected, &[7], false, Ok),
            (&elected, &[7], true, Problem),
            (&elected, &[7, 8], false, Problem),
        ] {
            for running in [false, true] {
                let found = judged(config, owners, here, running);
                assert!(testing::has(&found, "vip.conflict", severity), "{owners:?}: {found:#?}");
            }
        }
        let (snapshot, heard) = (Snapshot::default(), Looked::Ok(Vec::new()));
        let given = Given { config: &alone, snapshot: &snapshot, status: None, heard: &heard };
        let found = judge(Some(&Err("no".to_owned())), given);
        assert!(testing::has(&found, "vip.conflict", Info));
        assert!(judge(None, given).is_empty());
    }

    #[test]
    fn whoever_has_an_elected_vip_advertises_it() {
        let elected = testing::config(ELECTED);
        let found = judged_with(&elected, &[7], (false, false), &Ok(vec![]));
        assert!(testing::has(&found, "vip.unadvertised", Severity::Warning), "{found:#?}");
        let deaf = judged_with(&elected, &[7], (false, false), &Err("not permitted".to_owned()));
        assert!(testing::has(&deaf, "vip.conflict", Severity::Ok), "{deaf:#?}");
    }
}
