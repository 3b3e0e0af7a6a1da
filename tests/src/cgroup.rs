//! Cgroups (version 2) of a test's own: whose processes are a node's.
//!
//! Most are threaded, so that a thread of the test can be a process of a node; what it spawns is too.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bpffs::CGROUPS;
use crate::netns::{is_stale, unique_prefix};

const MOUNTS: &str = "/proc/self/mounts";
/// The calling thread's, in each hierarchy.
const OWN: &str = "/proc/thread-self/cgroup";
/// Who writes 0 to it goes there.
const MEMBERS: &str = "cgroup.threads";

/// A cgroup below the one that this process is in; removed on drop.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    shown: PathBuf,
}

impl Cgroup {
    /// One whose name no other test has.
    pub fn unique(label: &str) -> Result<Self> {
        let cgroup = Self::of_processes(label)?;
        write(&cgroup.path.join("cgroup.type"), "threaded")?;
        Ok(cgroup)
    }

    /// The same for whole processes, which may make others below it.
    pub fn of_processes(label: &str) -> Result<Self> {
        let (root, own) = own_in_root()?;
        let name = own.join(format!("{}-{label}", unique_prefix()));
        let (path, shown) = (root.join(&name), Path::new(CGROUPS).join(name));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path, shown })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a controller on an LB node sees it.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Moves the calling thread inside until the guard is dropped. Sockets stay where they were opened.
    pub fn enter(&self) -> Result<Entered> {
        let before = own()?.join(MEMBERS);
        write(&self.path.join(MEMBERS), "0")?;
        Ok(Entered { before, _this_thread_only: PhantomData })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A test that fails may have threads in it still; it is removed with other stale things then.
        let _ = remove(&self.path);
    }
}

/// The calling thread is in a cgroup; dropping this brings it back.
#[derive(Debug)]
pub struct Entered {
    before: PathBuf,
    /// The guard must be dropped where it was made.
    _this_thread_only: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        write(&self.before, "0").expect("a cgroup that a thread came from takes it back");
    }
}

/// Removes the cgroups of test processes that were killed before they could.
pub(crate) fn remove_stale() -> Result<()> {
    // Without version 2 nobody made any.
    let Ok(own) = own() else { return Ok(()) };
    for entry in fs::read_dir(own)? {
        let entry = entry?;
        if is_stale(&entry.file_name().to_string_lossy()) {
            // Somebody may be in it who was not killed.
            let _ = remove(&entry.path());
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The cgroup of the calling thread.
fn own() -> Result<PathBuf> {
    own_in_root().map(|(root, own)| root.join(own))
}

/// Where cgroups are, and the calling thread's among them.
fn own_in_root() -> Result<(PathBuf, PathBuf)> {
    let mounts = fs::read_to_string(MOUNTS).with_context(|| format!("reading {MOUNTS}"))?;
    let root = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|words| words.get(2) == Some(&"cgroup2"))
        .context("no cgroup filesystem of version 2 is mounted")?[1]
        .to_owned();
    let own = fs::read_to_string(OWN).with_context(|| format!("reading {OWN}"))?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.context("this thread is in no cgroup of version 2")?;
    Ok((PathBuf::from(root), PathBuf::from(own)))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {text} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn a_thread_enters_and_returns_and_nothing_is_left() {
        let outside = own().unwrap();
        let cgroup = Cgroup::unique("enter").unwrap();
        let path = cgroup.path().to_owned();
        {
            let _inside = cgroup.enter().unwrap();
            assert_eq!(own().unwrap(), path);
            // What a thread spawns is where it is.
            assert_eq!(std::thread::spawn(own).join().unwrap().unwrap(), path);
        }
        assert_eq!(own().unwrap(), outside);
        drop(cgroup);
        assert!(!path.exists());
    }
}
