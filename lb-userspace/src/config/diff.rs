//! What a reload changes, in words. Pure.

use std::collections::BTreeMap;

use super::{Backend, Config, Service};

/// One line per difference; empty: the configurations are equal.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if old.interfaces != new.interfaces {
        lines.push(format!("interfaces: {:?} becomes {:?}", old.interfaces, new.interfaces));
    }
    if old.xdp_mode != new.xdp_mode {
        lines.push(format!("xdp_mode: {:?} becomes {:?}", old.xdp_mode, new.xdp_mode));
    }
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
