//! What `nft -j list ruleset` prints (libnftables-json(5)), of which only what matters here is read. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{Effect, Rule, Ruleset};

/// Its protocol number, where nft does not know the name.
const VRRP: u64 = 112;

pub(super) fn read(ruleset: &Value) -> Ruleset {
    let items = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ruleset {
        rules: items.iter().filter_map(|item| item.get("rule")).map(rule).collect(),
        closed: items.iter().filter_map(|item| closed(item.get("chain")?)).collect(),
    }
}

fn place(value: &Value, name: &str) -> String {
    let word = |key: &str| value[key].as_str().unwrap_or("?").to_owned();
    format!("{} {} {}", word("family"), word("table"), word(name))
}

fn closed(chain: &Value) -> Option<String> {
    let is_closed = chain["hook"] == "input" && chain["policy"] == "drop";
    is_closed.then(|| place(chain, "name"))
}

fn rule(rule: &Value) -> Rule {
    let mut found = Rule {
        place: format!("{} handle {}", place(rule, "chain"), rule["handle"]),
        everything: true,
        ..Rule::default()
    };
    for expression in rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default() {
        if let Some(matched) = expression.get("match") {
            asks(&mut found, matched);
        } else if expression.get("accept").is_some() {
            found.effect = Effect::Accept;
        } else if expression.get("drop").is_some() || expression.get("reject").is_some() {
            found.effect = Effect::Refuse;
        } else if expression.get("xt").is_some() {
            // What it asks for is not shown.
            found.everything = false;
        }
    }
    found
}

fn asks(rule: &mut Rule, matched: &Value) {
    rule.everything = false;
    if matched["op"] != "==" && matched["op"] != "in" {
        return;
    }
    let (left, right) = (&matched["left"], &matched["right"]);
    let (field, key) = (&left["payload"]["field"], &left["meta"]["key"]);
    if field == "dport" {
        each(right, &mut |value| rule.ports.extend(ports(value)));
    } else if field == "daddr" {
        each(right, &mut |value| rule.addresses.extend(address(value)));
    } else if field == "protocol" || field == "nexthdr" || key == "l4proto" {
        each(right, &mut |value| rule.vrrp |= *value == "vrrp" || value.as_u64() == Some(VRRP));
    }
}

/// The value, or each one of a set.
fn each(value: &Value, see: &mut impl FnMut(&Value)) {
    match value["set"].as_array().or_else(|| value.as_array()) {
        Some(list) => list.iter().for_each(see),
        None => see(value),
    }
}

fn ports(value: &Value) -> BTreeSet<u16> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    let range = value["range"].as_array();
    match range.map(Vec::as_slice) {
        Some([first, last]) => port(first)
            .zip(port(last))
            .map_or_else(BTreeSet::new, |(first, last)| (first..=last).collect()),
        Some(_) | None => port(value).into_iter().collect(),
    }
}

/// A prefix counts as the address if it is one of a single host.
fn address(value: &Value) -> Option<IpAddr> {
    value.as_str().and_then(|text| text.parse().ok())
}
