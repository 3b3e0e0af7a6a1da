//! A BPF file system of a lab's own: pins in it outlive a controller, not the lab.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Iterators that a kernel with CONFIG_BPF_PRELOAD puts into every bpffs.
const KERNELS_OWN: [&str; 2] = ["maps.debug", "progs.debug"];

/// Where a command sees cgroups that was shown a bpffs.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// A mounted bpffs; unmounted on drop, and with it every pin, unless it is kept.
#[derive(Debug)]
pub struct Bpffs {
    path: PathBuf,
    keep: bool,
}

impl Bpffs {
    /// Mounts one at `path`, whose directory is made.
    pub fn mount(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting bpffs at {}", path.display()))?;
        Ok(Self { path: path.to_owned(), keep: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From here on a drop leaves it mounted.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Every pin, relative to the mount; directories only where they are empty, and without the two
    /// files that some kernels put there.
    pub fn pins(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut pending = vec![self.path.clone()];
        while let Some(directory) = pending.pop() {
            let entries = fs::read_dir(&directory)?.collect::<io::Result<Vec<_>>>()?;
            if entries.is_empty() && directory != self.path {
                found.push(directory.strip_prefix(&self.path)?.to_owned());
            }
            for entry in entries {
                if KERNELS_OWN.iter().any(|own| entry.file_name() == *own) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    pending.push(entry.path());
                } else {
                    found.push(entry.path().strip_prefix(&self.path)?.to_owned());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Lets `command` see this bpffs, and nothing of another, at `/sys/fs/bpf`, and the cgroups of version 2
    /// at [`CGROUPS`]: in a mount namespace of its own, with a sysfs that shows the interfaces of the network namespace it is in by then.
    pub fn show_to(&self, command: &mut Command) {
        let path = self.path.clone();
        // SAFETY: system calls only, but for the C strings that nix makes of paths on the stack.
        unsafe {
            command.pre_exec(move || enter_mounts(&path).map_err(io::Error::from));
        }
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if !self.keep {
            unmount(&self.path);
        }
    }
}

/// Lets `command`, which was shown a bpffs and so has mounts of its own, see a file in place of another.
pub fn replace_for(command: &mut Command, file: &Path, of: &'static str) {
    let file = file.to_owned();
    // SAFETY: a system call only, but for the C strings that nix makes of paths on the stack.
    unsafe {
        command.pre_exec(move || {
            const NONE: Option<&str> = None;
            mount(Some(&file), of, NONE, MsFlags::MS_BIND, NONE).map_err(io::Error::from)
        });
    }
}

/// Unmounts what [`Bpffs::keep`] left.
pub fn unmount(path: &Path) {
    // Detached, so that a process that has not ended yet cannot keep the lab's directory busy.
    let _ = umount2(path, MntFlags::MNT_DETACH);
}

fn enter_mounts(bpffs: &Path) -> nix::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE)?;
    // Of version 2, wherever the machine has it; one that has none does without.
    let _ = mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), NONE);
    mount(Some(bpffs), "/sys/fs/bpf", NONE, MsFlags::MS_BIND, NONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run;
    use crate::netns::Netns;

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn what_one_child_leaves_in_sys_fs_bpf_the_next_one_sees() {
        let directory = tempfile::tempdir().unwrap();
        let bpffs = Bpffs::mount(&directory.path().join("bpf")).unwrap();
        let netns = Netns::unique("bpffs").unwrap();
        let in_child = |script: &str| {
            let mut command = netns.command("sh");
            command.args(["-c", script]);
            bpffs.show_to(&mut command);
            run(&mut command).unwrap()
        };
        in_child("mkdir /sys/fs/bpf/left");
        assert_eq!(in_child("ls -d /sys/fs/bpf/left").trim(), "/sys/fs/bpf/left");
        assert_eq!(in_child("ls /sys/class/net").trim(), "lo");
        assert_eq!(bpffs.pins().unwrap(), [PathBuf::from("left")]);
    }
}
