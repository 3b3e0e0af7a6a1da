//! Runs a program for an event: no shell, the event on its stdin, and an end when its time is up. I/O.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::worker::Failure;
use crate::admin::model::Event;

/// Where programs look for others, if the controller was not told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Hook {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    pub(super) timeout: Duration,
}

impl Hook {
    /// Runs it to its end, or kills it and its process group when its time is up.
    pub(super) async fn run(&self, event: &Event, json: &[u8]) -> Result<(), Failure> {
        let failure = |reason| Failure { reason, again: false };
        let mut child = self
            .command(event)
            .spawn()
            .map_err(|error| failure(format!("starting it: {error}")))?;
        let group = Group::of(&child);
        match timeout(self.timeout, feed(&mut child, json)).await {
            Ok(Ok(status)) if status.success() => {
                group.leave();
                Ok(())
            }
            Ok(Ok(status)) => {
                group.leave();
                Err(failure(format!("it ended with {status}")))
            }
            Ok(Err(error)) => Err(failure(format!("waiting for it: {error}"))),
            Err(_) => {
                drop(group);
                // Killed: its end comes at once, unless the kernel holds it.
                let _ = timeout(Duration::from_secs(1), child.wait()).await;
                Err(failure(format!("killed after {:?}", self.timeout)))
            }
        }
    }

    fn command(&self, event: &Event) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        let (service, backend) = event.what.about();
        command
            .args(words)
            // What the service manager told the controller is not for it.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
            .env("FAIRLEAD_EVENT", event.what.kind().as_str())
            .env("FAIRLEAD_SEQUENCE", event.sequence.to_string())
            .env("FAIRLEAD_TIME", &event.time)
            .env("FAIRLEAD_MESSAGE", event.message.replace('\0', ""))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        for (name, value) in [("FAIRLEAD_SERVICE", service), ("FAIRLEAD_BACKEND", backend)] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }
}

/// Writes the event, and waits for the end.
async fn feed(child: &mut Child, json: &[u8]) -> std::io::Result<ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not want to know is no error.
        let _ = stdin.write_all(json).await;
        let _ = stdin.write_all(b"\n").await;
    }
    child.wait().await
}

/// A program's process group, which is killed when this is dropped. As long as its leader is not waited for,
/// its number is nobody else's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// The leader has been waited for.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
