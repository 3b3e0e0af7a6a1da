//! Kernel, capabilities, file systems, limits. Pure.

use super::super::facts::Machine;
use super::super::finding::Finding;
use crate::preflight::{OLDEST, version};

/// From here on BPF memory counts for the cgroup, not for RLIMIT_MEMLOCK.
const MEMORY_BY_CGROUP: (u32, u32) = (5, 11);
/// What the maps of the usual limits take.
const USUAL_MAPS: u64 = 128 << 20;

/// `elects`: the configuration has VRRP.
pub(super) fn judge(machine: &Machine, elects: bool) -> Vec<Finding> {
    let mut found = vec![kernel(machine), capabilities(machine), bpffs(machine), cgroup2(machine)];
    found.extend(elects.then(|| realtime(machine)));
    found.extend(memlock(machine));
    found.extend(jit(machine));
    found
}

fn kernel(machine: &Machine) -> Finding {
    const ID: &str = "kernel.version";
    let release = &machine.kernel;
    match version(release) {
        None => Finding::info(ID, format!("the kernel calls itself {release:?}"))
            .because("which features it has cannot be told from that"),
        Some(found) if found < OLDEST => Finding::problem(ID, format!("this is Linux {release}"))
            .because(format!(
                "{}.{} is the oldest kernel that has all that Fairlead needs",
                OLDEST.0, OLDEST.1
            ))
            .fix("# install a newer kernel, such as Debian 12's 6.1"),
        Some(_) => Finding::ok(ID, format!("Linux {release}")),
    }
}

fn capabilities(machine: &Machine) -> Finding {
    const ID: &str = "capabilities.missing";
    let whose = match machine.capabilities.controller {
        Some(pid) => format!("the controller (process {pid})"),
        None => "this command".to_owned(),
    };
    let missing = match &machine.capabilities.missing {
        Err(error) => return Finding::unknown(ID, &format!("the capabilities of {whose}"), error),
        Ok(missing) => missing,
    };
    if missing.is_empty() {
        return Finding::ok(ID, format!("{whose} has the capabilities that are needed"));
    }
    let names: Vec<String> =
        missing.iter().map(|(name, purpose)| format!("{name} ({purpose})")).collect();
    let what = format!("{whose} has not {}", names.join(", "));
    if machine.capabilities.controller.is_some() {
        return Finding::problem(ID, what)
            .because("what needs them fails")
            .fix("# in the unit: AmbientCapabilities= and CapabilityBoundingSet=; see `fairlead manifest systemd`");
    }
    Finding::warning(ID, what)
        .because("a controller that is started like this does not start, and not all can be looked at here")
        .fix("sudo fairlead doctor")
}

fn realtime(machine: &Machine) -> Finding {
    const ID: &str = "capabilities.realtime";
    let missing = &machine.capabilities.missing_realtime;
    if missing.is_empty() {
        return Finding::ok(ID, "VRRP may have real-time scheduling and locked memory");
    }
    Finding::warning(ID, format!("{} missing for VRRP", missing.join(" and ")))
        .because("advertisements may be late on a busy machine, and a peer may take over")
        .fix("# in the unit: AmbientCapabilities=… CAP_SYS_NICE CAP_IPC_LOCK")
}

fn bpffs(machine: &Machine) -> Finding {
    const ID: &str = "bpffs.mounted";
    match &machine.bpffs {
        None => Finding::ok(ID, "a BPF filesystem is mounted at /sys/fs/bpf"),
        Some(error) => Finding::problem(ID, error.clone())
            .because("the controller does not start: its datapath has to outlive it")
            .fix("mount -t bpf bpf /sys/fs/bpf"),
    }
}

fn cgroup2(machine: &Machine) -> Finding {
    const ID: &str = "cgroup2.mounted";
    match &machine.cgroup2 {
        Some(at) => Finding::ok(ID, format!("cgroup v2 is mounted at {at}")),
        None => Finding::info(ID, "cgroup v2 is not mounted")
            .because("programs for this node's own sockets attach to it; what comes over the network needs none")
            .fix("mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"),
    }
}

fn memlock(machine: &Machine) -> Option<Finding> {
    const ID: &str = "limits.memlock";
    let limit = machine.memlock.filter(|limit| *limit < USUAL_MAPS)?;
    let by_cgroup = version(&machine.kernel).is_some_and(|found| found >= MEMORY_BY_CGROUP);
    if by_cgroup {
        return Some(Finding::ok(ID, "this kernel does not count maps as locked memory"));
    }
    Some(
        Finding::problem(ID, format!("only {} KiB of memory may be locked", limit / 1024))
            .because("this kernel counts maps as locked memory, and they do not fit")
            .fix("ulimit -l unlimited     # in a unit: LimitMEMLOCK=infinity"),
    )
}

fn jit(machine: &Machine) -> Option<Finding> {
    const ID: &str = "kernel.jit";
    let found = match machine.jit? {
        0 => Finding::warning(ID, "the kernel interprets BPF programs")
            .because("every packet takes several times as long as with the compiler")
            .fix("sysctl -w net.core.bpf_jit_enable=1"),
        _ => Finding::ok(ID, "BPF programs are compiled"),
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::machine::Capabilities;
    use super::super::testing::{has, severities};
    use super::*;
    use crate::doctor::Severity;

    fn machine() -> Machine {
        Machine {
            kernel: "6.1.0-17-amd64".to_owned(),
            capabilities: Capabilities {
                controller: None,
                missing: Ok(vec![]),
                missing_realtime: vec![],
            },
            bpffs: None,
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            memlock: Some(8 << 20),
            jit: Some(1),
        }
    }

    #[test]
    fn a_good_machine_is_found_good() {
        assert_eq!(severities(&judge(&machine(), true)), [Severity::Ok]);
    }

    #[test]
    fn every_fault_is_named() {
        let lacking = |controller| Capabilities {
            controller,
            missing: Ok(vec![("CAP_BPF".to_owned(), "to load")]),
            missing_realtime: vec!["CAP_SYS_NICE".to_owned()],
        };
        let cases: [(&str, Severity, Machine); 9] = [
            ("kernel.version", Severity::Problem, Machine { kernel: "5.4.0".into(), ..machine() }),
            ("kernel.version", Severity::Info, Machine { kernel: "odd".into(), ..machine() }),
            ("limits.memlock", Severity::Problem, Machine { kernel: "5.10.0".into(), ..machine() }),
            (
                "capabilities.missing",
                Severity::Warning,
                Machine { capabilities: lacking(None), ..machine() },
            ),
            (
                "capabilities.missing",
                Severity::Problem,
                Machine { capabilities: lacking(Some(7)), ..machine() },
            ),
            (
                "capabilities.realtime",
                Severity::Warning,
                Machine { capabilities: lacking(None), ..machine() },
            ),
            (
                "bpffs.mounted",
                Severity::Problem,
                Machine { bpffs: Some("none".to_owned()), ..machine() },
            ),
            ("cgroup2.mounted", Severity::Info, Machine { cgroup2: None, ..machine() }),
            ("kernel.jit", Severity::Warning, Machine { jit: Some(0), ..machine() }),
        ];
        for (id, severity, machine) in cases {
            let found = judge(&machine, true);
            assert!(has(&found, id, severity), "{id}: {found:#?}");
        }
    }
}
