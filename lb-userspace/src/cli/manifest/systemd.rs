//! The unit of the packages, for another configuration or another place of the program. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use super::{PROGRAM, directory};
use crate::config::flow_log::FlowLog;
use crate::config::load::Files;
use crate::config::{Config, DEFAULT_PATH, DEFAULT_SOCKET};

const UNIT: &str = include_str!("../../../packaging/fairlead.service");

/// What the unit lets the controller write, below which a path needs nothing more.
const WRITTEN: [&str; 3] = ["/run/fairlead", "/var/lib/fairlead", "/var/log/fairlead"];

/// What it takes to enter the network namespaces of pods, in place of what the unit has.
const IN_PODS: [(&str, &str); 3] = [
    (" Nothing needs SYS_ADMIN.\n", "\n# SYS_ADMIN: local_clients.end_in_pods.\n"),
    (" CAP_IPC_LOCK\n", " CAP_IPC_LOCK CAP_SYS_ADMIN\n"),
    ("RestrictNamespaces=yes\n", "RestrictNamespaces=net\n"),
];

/// # Errors
/// A path that a unit would have to quote.
pub(super) fn unit(config: &Config, path: &Path, files: &Files, program: &Path) -> Result<String> {
    let (path, program) = (word(path)?, word(program)?);
    let socket = word(&config.admin.socket)?;
    let mut start = format!("ExecStart={program} run");
    let mut reload = format!("ExecReload={program} reload");
    if path != DEFAULT_PATH {
        start += &format!(" --config {path}");
    }
    if socket != DEFAULT_SOCKET {
        reload += &format!(" --socket {socket}");
    }
    let mut written = "ReadWritePaths=-/sys/fs/bpf".to_owned();
    for directory in written_elsewhere(config)? {
        written += &format!(" {directory}");
    }
    let mut unit = UNIT.to_owned();
    if config.local_clients.end_in_pods {
        for (line, instead) in IN_PODS {
            unit = unit.replace(line, instead);
        }
    }
    for (line, instead) in [
        (format!("ExecStart={PROGRAM} run"), start),
        (format!("ExecReload={PROGRAM} reload"), reload),
        (format!("ConditionPathExists={DEFAULT_PATH}"), format!("ConditionPathExists={path}")),
        ("ReadWritePaths=-/sys/fs/bpf".to_owned(), written),
    ] {
        unit = unit.replace(&format!("{line}\n"), &format!("{instead}\n"));
    }
    if files.read.iter().chain(&files.run).any(|file| is_of_a_user(file)) {
        unit = unit.replace("ProtectHome=yes", "ProtectHome=read-only");
    }
    Ok(unit)
}

fn written_elsewhere(config: &Config) -> Result<BTreeSet<String>> {
    let flows = config.flow_log.as_ref().and_then(FlowLog::path);
    let files = [Some(&config.admin.socket), config.admin.state_file.as_ref(), flows];
    let elsewhere = files
        .into_iter()
        .flatten()
        .filter(|file| !WRITTEN.iter().any(|directory| file.starts_with(directory)));
    elsewhere.map(|file| word(directory(file)?)).collect()
}

/// What `ProtectHome=yes` hides.
fn is_of_a_user(file: &Path) -> bool {
    ["/home", "/root", "/run/user"].iter().any(|directory| file.starts_with(directory))
}

/// A path as a word of a unit: systemd.syntax(7), systemd.unit(5) on specifiers.
fn word(path: &Path) -> Result<String> {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:=@%".contains(c);
    if !text.chars().all(is_plain) {
        bail!("{text} cannot be written in a unit as it is; choose a path without such characters");
    }
    Ok(text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const FILE: &str = "interfaces: [eth0]
services:
  - name: api
    vips: [10.0.0.100]
    port: 6443
    backends: [{ name: cp1, address: 10.0.0.11 }]
    health: { type: tcp }
";

    fn config(more: &str) -> Config {
        config::parse(&format!("{FILE}{more}"), Path::new("f.yaml")).unwrap()
    }

    #[test]
    fn by_default_it_is_the_unit_of_the_packages() {
        let (path, program) = (Path::new(DEFAULT_PATH), Path::new(PROGRAM));
        assert_eq!(unit(&config(""), path, &Files::default(), program).unwrap(), UNIT);
    }

    #[test]
    fn other_paths_are_written_where_they_matter() {
        let admin = "admin: { socket: /run/lb/admin.sock, state_file: /srv/lb/state.json }\n";
        let files = Files { read: ["/root/ca.crt".into()].into(), run: BTreeSet::new() };
        let unit =
            unit(&config(admin), Path::new("/etc/lb%.yaml"), &files, Path::new("/opt/f")).unwrap();
        for line in [
            "ExecStart=/opt/f run --config /etc/lb%%.yaml\n",
            "ExecReload=/opt/f reload --socket /run/lb/admin.sock\n",
            "ConditionPathExists=/etc/lb%%.yaml\n",
            "ReadWritePaths=-/sys/fs/bpf /run/lb /srv/lb\n",
            "ProtectHome=read-only\n",
        ] {
            assert!(unit.contains(line), "no {line} in {unit}");
        }
        assert!(!unit.contains(PROGRAM));
    }

    #[test]
    fn only_who_enters_pods_may() {
        let unit = |more| {
            let (path, program) = (Path::new(DEFAULT_PATH), Path::new(PROGRAM));
            unit(&config(more), path, &Files::default(), program).unwrap()
        };
        let entering = unit("local_clients: { end_in_pods: true }\n");
        let lines = |unit: &str| unit.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let more: Vec<_> = lines(&entering).difference(&lines(&unit(""))).cloned().collect();
        let bounding = "CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_NET_RAW \
                        CAP_SYS_NICE CAP_IPC_LOCK CAP_SYS_ADMIN";
        let last = more.iter().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
        assert_eq!(last, [bounding, "RestrictNamespaces=net"]);
        assert!(!unit("").contains("CAP_SYS_ADMIN") && !entering.contains("Nothing needs"));
    }

    #[test]
    fn a_path_that_needs_quotes_is_refused() {
        let path = Path::new("/etc/my lb.yaml");
        let refused = unit(&config(""), path, &Files::default(), Path::new(PROGRAM)).unwrap_err();
        assert!(refused.to_string().contains("/etc/my lb.yaml cannot be written in a unit"));
    }
}
