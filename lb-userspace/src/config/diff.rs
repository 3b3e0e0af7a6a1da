//! What a reload changes, in words. Pure.

use std::collections::BTreeMap;

use super::{Backend, Config, Service, Vrrp};

/// One line per difference; empty: the configurations are equal.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if old.interfaces != new.interfaces {
        lines.push(format!("interfaces: {:?} becomes {:?}", old.interfaces, new.interfaces));
    }
    if old.xdp_mode != new.xdp_mode {
        lines.push(format!("xdp_mode: {:?} becomes {:?}", old.xdp_mode, new.xdp_mode));
    }
    diff_vrrp(&old.vrrp, &new.vrrp, &mut lines);
    let (before, after) = (by_name(&old.services), by_name(&new.services));
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        lines.push(format!("service {name}: removed"));
    }
    for (name, service) in after {
        match before.get(name) {
            None => lines.push(format!("service {name}: added")),
            Some(previous) => diff_service(name, previous, service, &mut lines),
        }
    }
    lines
}

fn by_name(services: &[Service]) -> BTreeMap<&str, &Service> {
    services.iter().map(|service| (service.name.as_str(), service)).collect()
}

fn diff_vrrp(old: &[Vrrp], new: &[Vrrp], lines: &mut Vec<String>) {
    let by_name = |instances: &'_ [Vrrp]| -> BTreeMap<String, Vrrp> {
        instances.iter().map(|instance| (instance.name.clone(), instance.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        lines.push(format!("vrrp {name}: removed"));
    }
    for (name, instance) in &after {
        match before.get(name) {
            None => lines.push(format!("vrrp {name}: added")),
            Some(previous) => diff_instance(name, previous, instance, lines),
        }
    }
}

fn diff_instance(name: &str, old: &Vrrp, new: &Vrrp, lines: &mut Vec<String>) {
    if old.priority != new.priority {
        lines.push(format!("vrrp {name}: priority {} becomes {}", old.priority, new.priority));
    }
    for vip in old.vips.iter().filter(|vip| !new.vips.contains(vip)) {
        lines.push(format!("vrrp {name}: VIP {vip} removed"));
    }
    for vip in new.vips.iter().filter(|vip| !old.vips.contains(vip)) {
        lines.push(format!("vrrp {name}: VIP {vip} added"));
    }
    let rest = Vrrp { priority: new.priority, vips: new.vips.clone(), ..old.clone() };
    if rest != *new {
        lines.push(format!("vrrp {name}: settings changed"));
    }
}

fn diff_service(name: &str, old: &Service, new: &Service, lines: &mut Vec<String>) {
    let backends = |service: &'_ Service| -> BTreeMap<String, Backend> {
        service.backends.iter().map(|backend| (backend.name.clone(), backend.clone())).collect()
    };
    let (before, after) = (backends(old), backends(new));
    for backend in before.keys().filter(|backend| !after.contains_key(*backend)) {
        lines.push(format!("service {name}: backend {backend} removed"));
    }
    for (backend, value) in &after {
        match before.get(backend) {
            None => lines.push(format!("service {name}: backend {backend} added")),
            Some(previous) if previous != value => lines.push(format!(
                "service {name}: backend {backend} is {} with weight {}",
                value.endpoint(),
                value.weight
            )),
            Some(_) => {}
        }
    }
    if old.health != new.health {
        lines.push(format!("service {name}: health check changed"));
    }
    let rest = |service: &Service| Service {
        backends: Vec::new(),
        health: new.health.clone(),
        ..service.clone()
    };
    if rest(old) != rest(new) {
        lines.push(format!("service {name}: settings changed"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{EXAMPLE, file};
    use super::*;

    #[test]
    fn differences_of_instances_are_named() {
        let text = "
services: [{ name: a, vips: [10.0.0.1], port: 1, backends: [{ name: b, address: 10.0.0.9 }] }]
vrrp: [{ name: v, interface: eth0, vrid: 5, vips: [10.0.0.1] }]
";
        let old = file::parse(text, Path::new("f")).unwrap();
        let change = |change: fn(&mut Vrrp)| {
            let mut new = old.clone();
            change(&mut new.vrrp[0]);
            diff(&old, &new)
        };
        assert_eq!(change(|_| {}), Vec::<String>::new());
        assert_eq!(change(|it| it.priority = 7), ["vrrp v: priority 100 becomes 7"]);
        assert_eq!(change(|it| it.vrid = 7), ["vrrp v: settings changed"]);
        assert_eq!(change(|it| it.name = "w".to_owned()), ["vrrp v: removed", "vrrp w: added"]);
        assert_eq!(
            change(|it| it.vips[0] = "10.0.0.2".parse().unwrap()),
            ["vrrp v: VIP 10.0.0.1 removed", "vrrp v: VIP 10.0.0.2 added"]
        );
    }

    #[test]
    fn differences_are_named() {
        let old = file::parse(EXAMPLE, Path::new("example")).unwrap();
        assert_eq!(diff(&old, &old), Vec::<String>::new());

        let mut new = old.clone();
        new.services[0].name = "other".to_owned();
        assert_eq!(
            diff(&old, &new),
            [
                format!("service {}: removed", old.services[0].name),
                "service other: added".to_owned()
            ]
        );

        let mut new = old.clone();
        let gone = new.services[0].backends.remove(0);
        new.services[0].backends[0].weight = 7;
        new.services[0].port = 1;
        let lines = diff(&old, &new).join("\n");
        assert!(lines.contains(&format!("backend {} removed", gone.name)), "{lines}");
        assert!(lines.contains("with weight 7"), "{lines}");
        assert!(lines.contains("settings changed"), "{lines}");
    }
}
