//! What `iptables-save` prints, of which only what matters here is read. Pure.

use std::net::IpAddr;

use super::{Effect, Rule, Ruleset};
use crate::config::Family;

pub(super) fn read(text: &str) -> Ruleset {
    let mut found = Ruleset::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [":INPUT", "DROP", ..] => found.closed.push("ip filter INPUT".to_owned()),
            ["-A", chain, rest @ ..] => found.rules.push(rule(line, chain, rest)),
            _ => {}
        }
    }
    found
}

fn rule(line: &str, chain: &str, words: &[&str]) -> Rule {
    let mut rule = Rule { place: line.chars().take(120).collect(), ..Rule::default() };
    for pair in words.windows(2) {
        let [option, value] = pair else { continue };
        match *option {
            "--dport" | "--dports" | "--destination-port" => {
                rule.ports.extend(value.split(',').flat_map(ports));
            }
            "-d" | "--destination" => rule.addresses.extend(address(value)),
            "-p" => rule.vrrp |= ["vrrp", "112"].contains(value),
            "-j" => {
                rule.effect = match *value {
                    "ACCEPT" => Effect::Accept,
                    "DROP" | "REJECT" => Effect::Refuse,
                    _ => Effect::Other,
                };
            }
            _ => {}
        }
    }
    rule.everything = chain == "INPUT" && words.first() == Some(&"-j");
    rule
}

fn ports(text: &str) -> Vec<u16> {
    match text.split_once(':') {
        None => text.parse().into_iter().collect(),
        Some((first, last)) => match (first.parse::<u16>(), last.parse()) {
            (Ok(first), Ok(last)) => (first..=last).collect(),
            (Ok(_) | Err(_), _) => Vec::new(),
        },
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let Some((address, length)) = text.split_once('/') else { return text.parse().ok() };
    let address: IpAddr = address.parse().ok()?;
    (length.parse() == Ok(Family::of(&address).bits())).then_some(address)
}
