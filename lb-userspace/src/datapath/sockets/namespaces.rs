//! The network namespaces of this machine besides this one: those of pods. I/O, but for `mounted`.
//!
//! Runtimes mount each one's below /run/netns, which takes CAP_SYS_ADMIN to enter. Others are those of
//! processes, which only who has CAP_SYS_PTRACE too may see; without it they are passed over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use super::cgroup::{MOUNTS, unescaped};

const OWN: &str = "/proc/thread-self/ns/net";
/// A node has some hundred pods.
const MOST: usize = 4096;
/// Entries of /proc that are looked at.
const MOST_PROCESSES: usize = 65_536;

/// A namespace that is there as long as this is.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
    pub(super) path: PathBuf,
}

impl Namespace {
    /// Has the calling thread enter it, for good.
    pub(super) fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering {}", self.path.display()))
    }
}

/// All but the one that the calling thread is in at first, each once. Each is opened when it is its turn.
pub(super) fn others() -> Result<impl Iterator<Item = Namespace>> {
    let own = fs::metadata(OWN).with_context(|| format!("looking at {OWN}"))?.ino();
    let mounts = fs::read_to_string(MOUNTS).with_context(|| format!("reading {MOUNTS}"))?;
    let mut seen = BTreeSet::from([own]);
    let paths = mounted(&mounts).into_iter().chain(of_processes()?);
    // One that is hidden, or gone, has no connections that could be found.
    let found = paths.filter_map(move |path| open(path, &mut seen)).enumerate();
    let is_within = |(index, _): &(usize, Namespace)| {
        if *index == MOST {
            log::warn!("more than {MOST} network namespaces: no connection of the others is ended");
        }
        *index < MOST
    };
    Ok(found.take_while(is_within).map(|(_, namespace)| namespace))
}

fn open(path: PathBuf, seen: &mut BTreeSet<u64>) -> Option<Namespace> {
    // Most processes are in the same one, and none of their files has to be opened.
    if number(&path).is_some_and(|number| seen.contains(&number)) {
        return None;
    }
    // Whatever else has been mounted over it, nobody waits for it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()?;
    seen.insert(file.metadata().ok()?.ino()).then_some(Namespace { file, path })
}

/// Of a process's namespace, `net:[4026532265]`, by its link alone.
fn number(path: &Path) -> Option<u64> {
    let link = fs::read_link(path).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The files of processes' namespaces; and of what else is in /proc, which are not there.
fn of_processes() -> Result<impl Iterator<Item = PathBuf>> {
    let entries = fs::read_dir("/proc").context("reading /proc")?.take(MOST_PROCESSES);
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path().join("ns/net")))
}

/// Where network namespaces are mounted, by the lines of proc_pid_mountinfo(5).
fn mounted(mounts: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut words = before.split(' ').skip(3);
        let (root, path) = (words.next()?, words.next()?);
        let is_it = after.split(' ').next() == Some("nsfs") && root.starts_with("net:[");
        is_it.then(|| PathBuf::from(unescaped(path)))
    };
    mounts.lines().filter_map(of_line).collect()
}

/// # Errors
/// Why this process may not enter other namespaces, and what it takes.
pub fn check() -> Result<()> {
    // That changes nothing, and needs the same as entering any other.
    let own = Namespace {
        file: File::open(OWN).with_context(|| format!("opening {OWN}"))?,
        path: Path::new(OWN).to_owned(),
    };
    own.enter().context(
        "the network namespaces of pods cannot be entered: that takes CAP_SYS_ADMIN, in a unit also \
         RestrictNamespaces=net, which `fairlead manifest` writes for this configuration",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_network_namespaces_are_found() {
        let mounts = "\
23 28 0:21 / /proc rw,nosuid shared:14 - proc proc rw
90 25 0:4 net:[4026532265] /run/netns/cni-1\\0402 rw shared:55 - nsfs nsfs rw
91 25 0:4 mnt:[4026532266] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw
92 25 0:9 net:[4026532265] /srv rw - ext4 /dev/vda rw
93 25 0:4 net:[4026532267] /run/docker/netns/default rw - nsfs nsfs rw
nsfs - nsfs
";
        let found = ["/run/netns/cni-1 2", "/run/docker/netns/default"].map(PathBuf::from);
        assert_eq!(mounted(mounts), found);
    }

    #[test]
    fn no_namespace_is_there_twice_and_our_own_is_not() {
        let own = fs::metadata(OWN).unwrap().ino();
        let mut seen = BTreeSet::from([own]);
        assert!(open(PathBuf::from("/proc/self/ns/net"), &mut seen).is_none());
        assert!(open(PathBuf::from("/nonexistent"), &mut seen).is_none());
        let found: Vec<_> = others().unwrap().collect();
        let numbers: BTreeSet<u64> =
            found.iter().map(|it| it.file.metadata().unwrap().ino()).collect();
        assert_eq!(numbers.len(), found.len());
        assert!(!numbers.contains(&own));
    }
}
