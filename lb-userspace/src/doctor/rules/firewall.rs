//! What the host's firewall does about VIPs, and about VRRP. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::facts::Firewall;
use super::super::finding::Finding;
use crate::config::Config;

mod iptables;
mod nftables;

/// Rules that are said one by one.
const MOST_SAID: usize = 8;

/// A rule, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    /// Where it is, such as `inet filter input handle 7`.
    place: String,
    /// Destination ports that it asks for.
    ports: BTreeSet<u16>,
    /// Destination addresses that it asks for.
    addresses: BTreeSet<IpAddr>,
    /// It asks for VRRP.
    vrrp: bool,
    /// It asks for nothing: everything that gets there is meant.
    everything: bool,
    effect: Effect,
}

/// What becomes of a packet that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Effect {
    Accept,
    /// Dropped or rejected.
    Refuse,
    #[default]
    Other,
}

/// All rules of a firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ruleset {
    rules: Vec<Rule>,
    /// Chains for what is for this host that drop what no rule accepts.
    closed: Vec<String>,
}

pub(super) fn judge(config: &Config, firewall: &Firewall) -> Vec<Finding> {
    const ID: &str = "firewall.bypassed";
    let (mut all, mut found) = (Ruleset::default(), Vec::new());
    let mut take = |part: Result<Ruleset, &String>| match part {
        Ok(Ruleset { rules, closed }) => {
            all.rules.extend(rules);
            all.closed.extend(closed);
        }
        Err(error) => found.push(Finding::unknown(ID, "the host's firewall", error)),
    };
    if let Some(nftables) = &firewall.nftables {
        take(nftables.as_ref().map(nftables::read));
    }
    for text in &firewall.iptables {
        take(text.as_ref().map(|text| iptables::read(text)));
    }
    let concerned: Vec<&Rule> = all.rules.iter().filter(|rule| concerns(config, rule)).collect();
    found.extend(concerned.iter().take(MOST_SAID).map(|rule| bypassed(rule)));
    if concerned.len() > MOST_SAID {
        let more = concerned.len() - MOST_SAID;
        found.push(
            Finding::info(
                "firewall.more",
                format!("{more} more rules of the firewall name a VIP or its port"),
            )
            .because("XDP forwards before them"),
        );
    }
    if concerned.is_empty() && found.is_empty() {
        found.push(Finding::ok(
            ID,
            "no rule of this host's firewall names a VIP or a service's port",
        ));
    }
    found.extend(vrrp(config, &all));
    found
}

/// A rule that looks as if it were about balanced connections.
fn concerns(config: &Config, rule: &Rule) -> bool {
    config.services.iter().any(|service| {
        let port = rule.ports.contains(&service.port);
        let vip = service.vips.iter().any(|vip| rule.addresses.contains(vip));
        // A port of another address is another service's.
        vip && (port || rule.ports.is_empty()) || port && (vip || rule.addresses.is_empty())
    })
}

fn bypassed(rule: &Rule) -> Finding {
    const ID: &str = "firewall.bypassed";
    let what =
        format!("a rule of this host's firewall names a VIP or a service's port: {}", rule.place);
    let why =
        "XDP forwards before nftables and iptables: the rule does not see balanced connections";
    match rule.effect {
        Effect::Refuse => Finding::warning(ID, what)
            .because(format!("{why}, and protects nobody"))
            .fix("allow: [10.0.0.0/8]     # of the service, in the configuration")
            .fix("# or filter in front of this node, or on the apiservers"),
        Effect::Accept | Effect::Other => {
            Finding::info(ID, what).because(format!("{why}, and need not let them through"))
        }
    }
}

/// VRRP does pass the firewall.
fn vrrp(config: &Config, all: &Ruleset) -> Option<Finding> {
    const ID: &str = "firewall.vrrp";
    if config.vrrp.is_empty() {
        return None;
    }
    if let Some(rule) = all.rules.iter().find(|rule| rule.vrrp && rule.effect == Effect::Refuse) {
        return Some(
            Finding::problem(ID, format!("this host's firewall drops VRRP: {}", rule.place))
                .because("this node does not hear the others, and both hold the VIPs")
                .fix("nft list ruleset     # take that rule out"),
        );
    }
    let lets_in = |rule: &Rule| rule.effect == Effect::Accept && (rule.vrrp || rule.everything);
    let Some(closed) = all.closed.first().filter(|_| !all.rules.iter().any(lets_in)) else {
        return Some(Finding::ok(ID, "no rule of this host's firewall seems to keep VRRP out"));
    };
    Some(
        Finding::warning(
            ID,
            format!(
                "the firewall's chain {closed} drops what no rule accepts, and none accepts VRRP"
            ),
        )
        .because("if this node does not hear the others, both hold the VIPs")
        .fix(format!("nft insert rule {closed} meta l4proto vrrp accept"))
        .fix("# and in its configuration, to outlast a reboot; with `sync` its port too"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{self, ELECTED, has, severities};
    use super::*;
    use crate::doctor::Severity;

    fn judged(keys: &str, nftables: Value, iptables: &str) -> Vec<Finding> {
        let iptables = vec![Ok(iptables.to_owned())];
        judge(&testing::config(keys), &Firewall { nftables: Some(Ok(nftables)), iptables })
    }

    fn nft(items: &[Value]) -> Value {
        json!({ "nftables": items })
    }

    fn rule(expr: Value) -> Value {
        json!({ "rule": { "family": "inet", "table": "filter", "chain": "input", "handle": 7, "expr": expr } })
    }

    fn port(right: Value, verdict: &str) -> Value {
        let left = json!({ "payload": { "protocol": "tcp", "field": "dport" } });
        rule(json!([{ "match": { "op": "==", "left": left, "right": right } }, { verdict: null }]))
    }

    #[test]
    fn nobody_is_in_the_way_of_an_open_host() {
        let found = judged(ELECTED, nft(&[]), "");
        assert_eq!(severities(&found), [Severity::Ok], "{found:#?}");
        let none = judge(&testing::config(""), &Firewall::default());
        assert_eq!(severities(&none), [Severity::Ok], "{none:#?}");
    }

    #[test]
    fn rules_about_a_services_port_are_said_to_have_no_effect() {
        let id = "firewall.bypassed";
        for (right, verdict, severity) in [
            (json!(6443), "drop", Severity::Warning),
            (json!({ "set": [22, 6443] }), "reject", Severity::Warning),
            (json!({ "range": [6000, 7000] }), "accept", Severity::Info),
        ] {
            let found = judged("", nft(&[port(right, verdict)]), "");
            assert!(has(&found, id, severity), "{found:#?}");
            assert!(found[0].what.contains("inet filter input handle 7"), "{found:#?}");
        }
        let found = judged("", nft(&[port(json!(22), "drop")]), "");
        assert!(has(&found, id, Severity::Ok));
        let found =
            judged("", nft(&[]), "-A INPUT -d 10.0.0.100/32 -p tcp -m tcp --dport 6443 -j DROP\n");
        assert!(has(&found, id, Severity::Warning), "{found:#?}");
        let found =
            judged("", nft(&[]), "-A INPUT -d 10.0.0.7/32 -p tcp -m tcp --dport 6443 -j DROP\n");
        assert!(has(&found, id, Severity::Ok), "{found:#?}");
    }

    #[test]
    fn a_firewall_that_keeps_vrrp_out_is_named() {
        let id = "firewall.vrrp";
        let chain = json!({ "chain": { "family": "inet", "table": "filter", "name": "input",
            "type": "filter", "hook": "input", "prio": 0, "policy": "drop" } });
        let protocol = |verdict: &str| {
            let left = json!({ "meta": { "key": "l4proto" } });
            rule(
                json!([{ "match": { "op": "==", "left": left, "right": "vrrp" } }, { verdict: null }]),
            )
        };
        let closed = std::slice::from_ref(&chain);
        assert!(has(&judged(ELECTED, nft(closed), ""), id, Severity::Warning));
        assert!(!has(&judged("", nft(closed), ""), id, Severity::Warning), "without VRRP");
        let open = nft(&[chain.clone(), protocol("accept")]);
        assert!(has(&judged(ELECTED, open, ""), id, Severity::Ok));
        assert!(has(&judged(ELECTED, nft(&[protocol("drop")]), ""), id, Severity::Problem));
        assert!(has(&judged(ELECTED, nft(&[]), ":INPUT DROP [0:0]\n"), id, Severity::Warning));
        let accepted = ":INPUT DROP [0:0]\n-A INPUT -p vrrp -j ACCEPT\n";
        assert!(has(&judged(ELECTED, nft(&[]), accepted), id, Severity::Ok));
    }

    #[test]
    fn a_firewall_that_cannot_be_read_is_said() {
        let firewall =
            Firewall { nftables: Some(Err("not permitted".to_owned())), iptables: vec![] };
        let found = judge(&testing::config(""), &firewall);
        assert!(has(&found, "firewall.bypassed", Severity::Info), "{found:#?}");
    }
}
