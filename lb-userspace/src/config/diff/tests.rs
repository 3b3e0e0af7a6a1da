use std::path::Path;

use super::super::{EXAMPLE, Mode, file};
use super::*;

fn example() -> Config {
    file::parse(EXAMPLE, Path::new("example")).unwrap()
}

fn lines(new: impl FnOnce(&mut Config)) -> Vec<String> {
    let old = example();
    let mut changed = old.clone();
    new(&mut changed);
    diff(&old, &changed).iter().map(Change::to_string).collect()
}

#[test]
fn equal_configurations_do_not_differ() {
    assert_eq!(lines(|_| {}), Vec::<String>::new());
}

#[test]
fn values_are_given_by_key_from_and_to() {
    let found = lines(|config| {
        config.interfaces.push("eth1".to_owned());
        config.limits.flows = 7;
        config.admin.watch_config = true;
        let service = &mut config.services[0];
        service.mode = Mode::Dsr;
        service.vips.push("fd00::100".parse().unwrap());
        service.backends[1].weight = 7;
        service.reset_delay = Duration::from_millis(1500);
        service.health.pace.fall.timeout = 5;
        service.allow.push(super::super::Cidr::containing("10.0.0.0".parse().unwrap(), 8));
    });
    assert_eq!(
        found,
        [
            "admin.watch_config: false -> true",
            "interfaces: [eth0] -> [eth0, eth1]",
            "limits.flows: 131072 -> 7",
            "services[kube-apiserver].allow: [] -> [10.0.0.0/8]",
            "services[kube-apiserver].backends[cp2].weight: 100 -> 7",
            "services[kube-apiserver].health.fall.timeout: 3 -> 5",
            "services[kube-apiserver].mode: nat -> dsr",
            "services[kube-apiserver].reset_delay: 3s -> 1s 500ms",
            "services[kube-apiserver].vips: [10.0.0.100] -> [10.0.0.100, fd00::100]",
        ]
    );
}

#[test]
fn what_comes_and_goes_is_named() {
    let found = lines(|config| {
        let mut other = config.services[0].clone();
        other.name = "other".to_owned();
        config.services.push(other);
        let mut new = config.services[0].backends.remove(0);
        new.name = "cp9".to_owned();
        config.services[0].backends.push(new);
    });
    assert_eq!(
        found[..2],
        [
            "services[kube-apiserver].backends[cp1]: removed: \
             { address: 10.0.0.11, port: 6443, weight: 100 }",
            "services[kube-apiserver].backends[cp9]: added: \
             { address: 10.0.0.11, port: 6443, weight: 100 }",
        ]
    );
    assert!(found[2].starts_with("services[other]: added: { allow: []"), "{}", found[2]);
    assert!(found[2].contains("backends: [cp1, cp2, cp3]"), "{}", found[2]);
    assert_eq!(found.len(), 3);
}

#[test]
fn another_order_is_a_difference() {
    let found = lines(|config| config.services[0].backends.swap(0, 1));
    let expected = "services[kube-apiserver].backends: order cp1, cp2, cp3 -> order cp2, cp1, cp3";
    assert_eq!(found, [expected]);
}

#[test]
fn another_probe_is_told_by_its_keys() {
    let found = lines(|config| config.services[0].health.probe = super::super::Probe::Tcp);
    assert!(found.contains(&"services[kube-apiserver].health.type: https -> tcp".to_owned()));
    assert!(found.contains(&"services[kube-apiserver].health.path: /readyz -> none".to_owned()));
}

/// Parts of it may be secret.
#[test]
fn another_webhook_is_told_without_its_path() {
    let with = |path: &str| {
        let text = format!(
            "services: [{{ name: a, vips: [10.0.0.100], port: 1, backends: [{{ name: b, address: \
             10.0.0.1 }}] }}]\nnotify: [{{ webhook: \"http://a/{path}\" }}]\n"
        );
        file::parse(&text, Path::new("f")).unwrap()
    };
    let changes = diff(&with("hunter2"), &with("hunter3"));
    assert_eq!(changes.len(), 1);
    assert!(!changes[0].to_string().contains("hunter"));
}
