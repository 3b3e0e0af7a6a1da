//! What a check says of clients on this node itself. I/O: which cgroups there are here.

use crate::config::Config;
use crate::config::local_clients::Enabled;
use crate::datapath::sockets::{cgroup, namespaces};

/// Whom the configuration has led to backends, and whether this machine lets it.
pub(super) fn describe(config: &Config) -> String {
    let whom = match config.local_clients.enabled {
        Enabled::Never => {
            return "\nlocal clients: left alone (local_clients.enabled)\n".to_owned();
        }
        Enabled::Always => "led to backends",
        Enabled::Auto => "led to backends where a backend has an address of this node",
    };
    let place = match &config.local_clients.cgroup {
        Some(path) => cgroup::check(path).map(|()| path.clone()),
        None => cgroup::root(),
    };
    match place {
        Ok(path) => {
            let below = path.display();
            let pods = of_pods(config);
            format!("\nlocal clients: {whom}; here, all processes below {below}\n{pods}")
        }
        Err(error) => format!(
            "\nlocal clients: {whom}\n  WARNING: not on this machine: {error:#}; everybody else would be served\n"
        ),
    }
}

/// What becomes of pods' connections to a backend that is lost.
fn of_pods(config: &Config) -> String {
    if !config.local_clients.end_in_pods {
        return "  connections of pods to a backend that vanishes end by their own timeouts \
                (local_clients.end_in_pods)\n"
            .to_owned();
    }
    match namespaces::check() {
        Ok(()) => "  connections of pods to a backend that is lost are ended too\n".to_owned(),
        // Of this command: a controller may have more, or less.
        Err(error) => format!("  WARNING: with the privileges of this command {error:#}\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{EXAMPLE, parse};

    #[test]
    fn what_is_wished_and_what_this_machine_lacks_is_said() {
        let mut config = parse(EXAMPLE, Path::new("f")).unwrap();
        config.local_clients.enabled = Enabled::Never;
        assert!(describe(&config).contains("left alone"));
        config.local_clients.enabled = Enabled::Auto;
        assert!(describe(&config).contains("where a backend has an address of this node"));
        assert!(of_pods(&config).contains("by their own timeouts"), "{}", of_pods(&config));
        config.local_clients.end_in_pods = true;
        // Whether it may depends on who runs this.
        let said = of_pods(&config);
        let says = |words| said.contains(words);
        assert!(says("are ended too") != says("CAP_SYS_ADMIN"), "{said}");
        config.local_clients.cgroup = Some(PathBuf::from("/proc"));
        config.local_clients.enabled = Enabled::Always;
        let said = describe(&config);
        assert!(said.contains("WARNING") && said.contains("version 2"), "{said}");
    }
}
