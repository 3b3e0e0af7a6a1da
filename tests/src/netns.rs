//! Network namespaces that go away with their guard, and ways to do things inside them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command::run;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// Cheap to clone, so that a child's set-up can own one.
pub type NetnsHandle = Arc<File>;

/// A network namespace with `lo` up, known to `ip netns`; removed on drop unless it is kept.
#[derive(Debug)]
pub struct Netns {
    name: String,
    handle: NetnsHandle,
    keep: bool,
}

impl Netns {
    /// A namespace whose name no other test has: `fl-<pid>-<n>-<label>`.
    pub fn unique(label: &str) -> Result<Self> {
        Self::named(&format!("{}-{label}", unique_prefix()))
    }

    /// A namespace with exactly this name; an error if there is one.
    pub fn named(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let mut netns = Self::open(name).inspect_err(|_| delete(name))?;
        netns.keep = false;
        netns.run("ip", ["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// One that exists and that this guard does not remove.
    pub fn open(name: &str) -> Result<Self> {
        let path = path_of(name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { name: name.to_owned(), handle: Arc::new(file), keep: true })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn handle(&self) -> NetnsHandle {
        Arc::clone(&self.handle)
    }

    /// From here on a drop leaves the namespace alone.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// A command that will run inside. Unlike `ip netns exec` this leaves the mounts alone, so that
    /// bpffs stays visible; `/sys/class/net` therefore shows the interfaces of outside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let handle = self.handle();
        // SAFETY: setns is one system call on an open descriptor; the closure does not allocate.
        unsafe {
            command.pre_exec(move || {
                setns(&*handle, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
            });
        }
        command
    }

    /// Runs a program inside to its end; its standard output.
    pub fn run<'a>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Result<String> {
        run(self.command(program).args(args)).with_context(|| format!("in {}", self.name))
    }

    /// Runs `ip` with words separated by blanks.
    pub fn ip(&self, words: &str) -> Result<String> {
        self.run("ip", words.split_whitespace())
    }

    /// Writes a sysctl of the namespace, named by its path under `/proc/sys/net`. One that the kernel
    /// does not have is skipped: it was built without the protocol.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let _inside = self.enter()?;
        match fs::write(Path::new("/proc/sys/net").join(path), value) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("net/{path} = {value} in {}", self.name))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Moves the calling thread inside until the guard is dropped. Sockets stay where they were opened.
    pub fn enter(&self) -> Result<Entered> {
        let before = File::open("/proc/thread-self/ns/net").context("opening our namespace")?;
        setns(&*self.handle, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering {}", self.name))?;
        Ok(Entered { before, _this_thread_only: PhantomData })
    }

    /// Does `work` on a thread of its own inside, and waits for it.
    pub fn on_thread<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _inside = self.enter()?;
                work()
            });
            thread.join().map_err(|_| anyhow!("a thread in {} panicked", self.name))?
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.keep {
            delete(&self.name);
        }
    }
}

/// The calling thread is in a namespace; dropping this brings it back.
#[derive(Debug)]
pub struct Entered {
    before: File,
    /// The namespace is the thread's: the guard must be dropped where it was made.
    _this_thread_only: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        setns(&self.before, CloneFlags::CLONE_NEWNET)
            .expect("a namespace that we hold open can be entered again");
    }
}

/// `fl-<pid>-<n>`: for the names of one lab's namespaces and files.
pub fn unique_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("fl-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes the namespaces of test processes that were killed before they could.
pub(crate) fn remove_stale() -> Result<()> {
    let Ok(names) = fs::read_dir(NAMES) else {
        return Ok(());
    };
    for name in names {
        let name = name?.file_name().to_string_lossy().into_owned();
        if is_stale(&name) {
            delete(&name);
        }
    }
    Ok(())
}

/// Whether a name was made by [`unique_prefix`] of a process that is gone.
pub fn is_stale(name: &str) -> bool {
    // What anybody else called so is not ours to remove.
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    let Some(rest) = name.strip_prefix("fl-") else { return false };
    let mut parts = rest.split(['-', '.']);
    let (Some(pid), Some(_)) = (number(parts.next()), number(parts.next())) else { return false };
    // A process that nobody has reaped is gone too; it has no command line any more.
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
}

/// Removes a namespace by its name; one that is gone is no error.
pub fn delete(name: &str) {
    // Nobody could do more about a failure than to see the name in `ip netns`.
    let _ = run(Command::new("ip").args(["netns", "del", name]));
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_lab_of_a_dead_process_made_is_stale() {
        let own = unique_prefix();
        assert!(!is_stale(&own) && !is_stale(&format!("{own}-client")));
        for name in ["fl-4294967295-0", "fl-4294967295-7-client"] {
            assert!(is_stale(name), "{name}");
        }
        for name in ["fl-main", "fl-", "fl-4294967295", "fl-main-0", "fairlead", "xfl-4294967295-0"]
        {
            assert!(!is_stale(name), "{name}");
        }
    }

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn a_dropped_namespace_is_gone_and_its_guard_returns_the_thread() {
        let netns = Netns::unique("drop").unwrap();
        let name = netns.name().to_owned();
        let outside = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let inside = {
            let _inside = netns.enter().unwrap();
            fs::read_link("/proc/thread-self/ns/net").unwrap()
        };
        assert_ne!(inside, outside);
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
        assert!(netns.ip("link show lo").unwrap().contains("UP"));
        drop(netns);
        assert!(!path_of(&name).exists());
    }
}
