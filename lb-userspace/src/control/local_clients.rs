//! Whether clients on this node itself are led to backends. Pure.

use crate::config::LocalClients;
use crate::config::local_clients::Enabled;

/// What is known beside the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// A backend has an address of this node.
    pub is_backend: bool,
    /// This is the machine's own network namespace.
    pub is_first_namespace: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Lead,
    /// And why.
    Leave(&'static str),
}

/// Sockets are of cgroups, which all of a machine's network namespaces share: only in the first one, or
/// where somebody says so, they are all this node's.
pub const fn wish(config: &LocalClients, facts: Facts) -> Wish {
    if facts.is_first_namespace || config.cgroup.is_some() {
        match config.enabled {
            Enabled::Never => Wish::Leave("the configuration says so"),
            Enabled::Always => Wish::Lead,
            Enabled::Auto if facts.is_backend => Wish::Lead,
            Enabled::Auto => Wish::Leave("no backend has an address of this node"),
        }
    } else {
        Wish::Leave(
            "in a network namespace that is not the machine's own `local_clients.cgroup` has to say \
             whose processes are this node's",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn clients_are_led_where_they_are_this_nodes_and_something_is_gained() {
        use Enabled::{Always, Auto, Never};
        // Configured, a cgroup is named, a backend is here, the first namespace, what is expected.
        let cases = [
            (Auto, false, true, true, true),
            (Auto, false, false, true, false),
            (Auto, false, true, false, false),
            (Auto, true, true, false, true),
            (Auto, true, false, false, false),
            (Always, false, false, true, true),
            (Always, false, true, false, false),
            (Always, true, false, false, true),
            (Never, true, true, true, false),
            (Never, false, true, true, false),
        ];
        for (enabled, is_named, is_backend, is_first_namespace, leads) in cases {
            let cgroup = is_named.then(|| PathBuf::from("/c"));
            let config = LocalClients { enabled, cgroup, end_in_pods: false };
            let facts = Facts { is_backend, is_first_namespace };
            assert_eq!(wish(&config, facts) == Wish::Lead, leads, "{config:?} {facts:?}");
        }
    }
}
