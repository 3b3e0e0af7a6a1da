//! What a running controller cannot change. Pure.

use crate::config::Config;
use crate::datapath::Sizes;

const RESTART: &str = "needs a restart: fairlead stop --handover, then start";

/// A line for each difference that only a new start can make, with what to do.
pub fn frozen(old: &Config, new: &Config, sizes: &Sizes) -> Vec<String> {
    let mut lines = Vec::new();
    if new.limits != old.limits {
        lines.push(format!("`limits` changed, which {RESTART}"));
    } else if let Some(what) = sizes.lacks(&Sizes::new(new, sizes.cpus)) {
        lines.push(format!(
            "the maps have no room for {what}: fairlead stop --handover, then start"
        ));
    }
    if new.sync.is_some() != old.sync.is_some() {
        lines.push(format!("`sync` was added or removed, which {RESTART}"));
    }
    if new.flow_log != old.flow_log {
        lines.push(format!("`flow_log` changed, which {RESTART}"));
    }
    if new.xdp_mode != old.xdp_mode {
        lines.push("`xdp_mode` changed, which needs a stop and a start".to_owned());
    }
    let (before, after) = (&old.admin, &new.admin);
    for (key, differs) in [
        ("admin.socket", before.socket != after.socket),
        ("admin.listen", before.listen != after.listen),
        ("admin.token_file", before.token_file != after.token_file),
        ("admin.tls", before.tls != after.tls),
        ("admin.allowed_hosts", before.allowed_hosts != after.allowed_hosts),
        ("admin.state_file", before.state_file != after.state_file),
    ] {
        if differs {
            lines.push(format!("`{key}` changed, which {RESTART}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{EXAMPLE, ServerTls, XdpMode, parse};

    #[test]
    fn each_key_that_needs_a_start_is_named_and_others_are_not() {
        let old = parse(EXAMPLE, Path::new("f")).unwrap();
        let sizes = Sizes::new(&old, 2);
        let mut new = old.clone();
        new.services[0].port = 7;
        new.admin.watch_config = true;
        assert_eq!(frozen(&old, &new, &sizes), Vec::<String>::new());

        new.limits.flows *= 2;
        new.xdp_mode = XdpMode::Generic;
        new.admin.socket = PathBuf::from("/other");
        new.admin.listen = Some("127.0.0.1:9464".parse().unwrap());
        new.admin.token_file = Some(PathBuf::from("/other"));
        let (cert_file, key_file) = (PathBuf::from("/other"), PathBuf::from("/other"));
        new.admin.tls = Some(ServerTls { cert_file, key_file });
        new.admin.allowed_hosts.push("lb".to_owned());
        new.admin.state_file = Some(PathBuf::from("/other"));
        let lines = frozen(&old, &new, &sizes);
        let keys = ["socket", "listen", "token_file", "tls", "allowed_hosts", "state_file"];
        let keys = keys.map(|key| format!("admin.{key}"));
        let keys = ["limits".to_owned(), "xdp_mode".to_owned()].into_iter().chain(keys);
        assert_eq!(lines.len(), 8, "{lines:?}");
        for (line, key) in lines.iter().zip(keys) {
            assert!(line.contains(&format!("`{key}`")), "{line}");
        }
    }
}
