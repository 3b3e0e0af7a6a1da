//! Which cgroup the programs for local clients go to. I/O, but for `mount_of`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

pub(super) const MOUNTS: &str = "/proc/self/mountinfo";
/// Every cgroup but the machine's root has it.
const NOT_IN_ROOT: &str = "cgroup.type";
/// The kernel shows it to the first network namespace alone.
const FIRST_NAMESPACE_ONLY: &str = "/proc/sys/net/core/netdev_max_backlog";

/// The root of what is mounted of cgroup version 2.
///
/// # Errors
/// Nothing of it is.
pub fn root() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string(MOUNTS).with_context(|| format!("reading {MOUNTS}"))?;
    mount_of(&mounts, "cgroup2").context(
        "no cgroup filesystem of version 2 is mounted, which programs for sockets need; mount it \
         (mount -t cgroup2 none /sys/fs/cgroup/unified, beside version 1), or boot with \
         systemd.unified_cgroup_hierarchy=1",
    )
}

/// # Errors
/// `path` is no cgroup of version 2.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let found = statfs(path).with_context(|| format!("looking at {}", path.display()))?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        bail!(
            "{} is no cgroup of version 2; those are below {}",
            path.display(),
            root()?.display()
        );
    }
    Ok(())
}

/// `cgroup` is the root of the machine's, and not only what a container sees as one.
pub fn is_machines_root(cgroup: &Path) -> bool {
    !cgroup.join(NOT_IN_ROOT).exists()
}

/// This is the machine's own network namespace, not a container's or a lab's.
pub fn is_in_first_namespace() -> bool {
    Path::new(FIRST_NAMESPACE_ONLY).exists()
}

/// Where the first filesystem of a kind is mounted, by the lines of proc_pid_mountinfo(5).
fn mount_of(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_it = after.split(' ').next() == Some(kind);
        let path = before.split(' ').nth(4)?;
        is_it.then(|| PathBuf::from(unescaped(path)))
    })
}

/// Blanks and the like are written as `\040`.
pub(super) fn unescaped(path: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(path.to_owned(), |path, (escape, plain)| path.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 28 0:21 / /proc rw,nosuid shared:14 - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu\\040acct rw shared:10 - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/uni\\040fied rw shared:11 master:2 - cgroup2 cgroup2 rw
33 30 0:28 / /other rw - cgroup2 cgroup2 rw
";

    #[test]
    fn the_first_mount_of_version_two_is_found() {
        let found = mount_of(HYBRID, "cgroup2");
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/uni fied")));
        assert_eq!(mount_of(HYBRID, "bpf"), None);
        assert_eq!(mount_of("", "cgroup2"), None);
        assert_eq!(mount_of("1 2 - cgroup2 cgroup2 rw\n - cgroup2", "cgroup2"), None);
    }

    #[test]
    fn what_is_no_cgroup_is_refused_with_a_place_to_look_at() {
        let refused = format!("{:#}", check(Path::new("/proc")).unwrap_err());
        // Where nothing is mounted it says what to mount.
        assert!(refused.contains("version 2"), "{refused}");
        assert!(check(Path::new("/nonexistent")).is_err());
    }
}
