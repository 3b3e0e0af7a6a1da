//! What a check says of clients on this node itself. I/O: which cgroups there are here.

use crate::config::Config;
use crate::config::local_clients::Enabled;
use crate::datapath::sockets::cgroup;

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
            format!("\nlocal clients: {whom}; here, all processes below {}\n", path.display())
        }
        Err(error) => format!(
            "\nlocal clients: {whom}\n  WARNING: not on this machine: {error:#}; everybody else would be served\n"
        ),
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
        config.local_clients.cgroup = Some(PathBuf::from("/proc"));
        config.local_clients.enabled = Enabled::Always;
        let said = describe(&config);
        assert!(said.contains("WARNING") && said.contains("version 2"), "{said}");
    }
}
