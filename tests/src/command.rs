//! Running programs: with their output in the error, or as a child that dies with its guard.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::eventually::{Seen, eventually};

/// Runs `command` to its end; its standard output. A failure carries what it wrote to stderr.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", describe(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end and leaves judging its status to the caller.
pub fn output(command: &mut Command) -> Result<Output> {
    let shown = describe(command);
    command.stdin(Stdio::null()).output().with_context(|| format!("starting {shown}"))
}

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C at the terminal reaches only us
    /// and the children end in the order that we choose. If the thread that calls this ends without a
    /// drop, the child is killed too.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        // SAFETY: prctl is one system call; the closure neither allocates nor takes locks.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from)
            });
        }
        Self::spawn_detached(command)
    }

    /// As [`Self::spawn`], for a child that [`Self::forget`] may leave behind.
    pub fn spawn_detached(command: &mut Command) -> Result<Self> {
        let name = describe(command);
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { child, name })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`; it is no error if the child has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Until it is reaped, its pid is not given to another process.
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a pid above 2^31")?);
        kill(pid, signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Its status if it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        eventually(&what, timeout, || {
            Ok(match self.child.try_wait()? {
                Some(status) => Seen::Done(status),
                None => Seen::Pending("still running".to_owned()),
            })
        })
    }

    /// Leaves the child running; its pid.
    pub fn forget(self) -> u32 {
        let pid = self.pid();
        std::mem::forget(self);
        pid
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child may have ended, or the test may be failing already: nothing better can be done here.
        let _ = self.kill();
    }
}

/// Whether namespaces can be made.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Sends `signal`, if any, to everything that runs in a namespace that `ip netns` knows; how many
/// processes there were.
pub fn signal_namespace(name: &str, signal: Option<Signal>) -> Result<usize> {
    let Ok(pids) = run(Command::new("ip").args(["netns", "pids", name])) else {
        // No such namespace.
        return Ok(0);
    };
    let pids: Vec<i32> = pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    for pid in &pids {
        // It may have ended since.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
    Ok(pids.len())
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_command_and_its_stderr() {
        let error = run(Command::new("sh").args(["-c", "echo so sad >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("so sad"), "{text}");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = Process::spawn(Command::new("sleep").arg("100")).unwrap();
        let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
        drop(process);
        assert!(kill(pid, None).is_err());
    }
}
