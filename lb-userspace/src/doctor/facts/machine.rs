//! Kernel, capabilities, file systems and limits. I/O.

use std::fs;

use caps::{CapSet, Capability};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::Looked;
use crate::datapath::{Pins, sys};
use crate::preflight;

/// What does not depend on a configuration.
#[derive(Clone, Debug)]
pub struct Machine {
    /// As `6.1.0-17-amd64`.
    pub kernel: String,
    pub capabilities: Capabilities,
    /// Why pins cannot be made below `/sys/fs/bpf`, and what to do; `None`: they can.
    pub bpffs: Option<String>,
    /// Where cgroups of version 2 are mounted.
    pub cgroup2: Option<String>,
    /// Memory that may be locked, in bytes; `None`: any amount.
    pub memlock: Option<u64>,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<u32>,
}

/// Whose capabilities are judged, and what they lack.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Of the controller that runs; `None`: of this command.
    pub controller: Option<u32>,
    /// Each with what it is for.
    pub missing: Looked<Vec<(String, &'static str)>>,
    /// Those of VRRP's thread, which does without.
    pub missing_realtime: Vec<String>,
}

impl Machine {
    /// `controller`: the process that runs, if any.
    pub(super) fn read(controller: Option<u32>) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            kernel: sys::kernel_release(),
            capabilities: capabilities(controller),
            bpffs: Pins::open().err().map(|error| format!("{error:#}")),
            cgroup2: cgroup2(&mounts),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .map(|(soft, _)| soft)
                .filter(|soft| *soft != RLIM_INFINITY),
            jit: super::number("/proc/sys/net/core/bpf_jit_enable"),
        }
    }
}

fn capabilities(controller: Option<u32>) -> Capabilities {
    let pid = controller.and_then(|pid| i32::try_from(pid).ok());
    match caps::read(pid, CapSet::Effective) {
        Ok(held) => {
            let realtime = [Capability::CAP_SYS_NICE, Capability::CAP_IPC_LOCK];
            let missing = preflight::missing(&held);
            Capabilities {
                controller,
                missing: Ok(missing.into_iter().map(|(it, use_)| (it.to_string(), use_)).collect()),
                missing_realtime: realtime
                    .iter()
                    .filter(|capability| !held.contains(capability))
                    .map(ToString::to_string)
                    .collect(),
            }
        }
        Err(error) => Capabilities {
            controller,
            missing: Err(error.to_string()),
            missing_realtime: Vec::new(),
        },
    }
}

/// The first mount of cgroup v2 in the kernel's list.
fn cgroup2(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let at = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| at.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_found_wherever_they_are_mounted() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid 0 0\n";
        assert_eq!(cgroup2(mounts).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup2("tmpfs /tmp tmpfs rw 0 0\n\nx"), None);
    }

    #[test]
    fn this_machine_has_a_kernel() {
        assert!(Machine::read(None).kernel.contains('.'));
    }
}
