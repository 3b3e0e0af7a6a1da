//! Tells others of events, as the configuration's `notify` says. I/O: a task for each target, which takes
//! events from its mailbox in order, one at a time.
//!
//! ```text
//! events ──► mailbox (drops the oldest) ──► worker ──┬─► exec: a program, event on its stdin
//!                                                     └─► webhook: POST, retried
//! ```
//!
//! A target that fails, hangs or floods harms nobody but itself: its mailbox is bounded, each attempt has
//! its time, and what goes wrong is counted and said now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::{Commands, model};
use crate::config::notify::Target;
use crate::events::{Events, Mailbox};

mod complaints;
mod exec;
mod webhook;
mod worker;

use worker::{Fare, Worker};

/// For what waits when the controller ends.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// The targets and their workers. Dropping it stops them.
pub struct Notifier {
    events: Events,
    /// Asked for the address to connect from.
    commands: Commands,
    running: Vec<Running>,
}

struct Running {
    target: Target,
    mailbox: Arc<Mailbox>,
    fare: Fare,
    task: JoinHandle<()>,
}

impl Notifier {
    /// One without targets.
    pub const fn new(events: Events, commands: Commands) -> Self {
        Self { events, commands, running: Vec::new() }
    }

    /// Makes the targets these. Those that stay keep what waits; those that go finish what they are at.
    /// Must be called within a tokio runtime.
    pub fn apply(&mut self, targets: &[Target]) {
        let mut before = std::mem::take(&mut self.running);
        for target in targets {
            let known = before.iter().position(|running| running.target == *target);
            let running = match known {
                Some(index) => before.swap_remove(index),
                None => self.start(target.clone()),
            };
            self.running.push(running);
        }
        for gone in before {
            gone.mailbox.close();
            if gone.mailbox.waiting() > 0 {
                let name = gone.target.name();
                log::warn!("notify {name}: removed; {} events untold", gone.mailbox.waiting());
            }
            gone.mailbox.clear();
        }
    }

    fn start(&self, target: Target) -> Running {
        let capacity = usize::try_from(target.queue).unwrap_or(usize::MAX);
        let mailbox = Arc::new(Mailbox::new(target.events.clone(), capacity));
        self.events.deliver_to(&mailbox);
        let fare = Fare::default();
        let commands = self.commands.clone();
        let worker = Worker::new(&target, Arc::clone(&mailbox), fare.clone(), commands);
        Running { target, mailbox, fare, task: tokio::spawn(worker.run()) }
    }

    /// For `status`, in the order of the configuration.
    pub fn status(&self) -> Vec<model::Notification> {
        let of = |running: &Running| {
            let fare = running.fare.get();
            model::Notification {
                target: running.target.name(),
                delivered: fare.delivered,
                failed: fare.failed,
                dropped: running.mailbox.dropped(),
                waiting: running.mailbox.waiting(),
                error: fare.error,
            }
        };
        self.running.iter().map(of).collect()
    }

    /// Has what waits told, but does not wait for ever.
    pub async fn finish(mut self) {
        for running in &self.running {
            running.mailbox.close();
        }
        let all = async {
            for running in &mut self.running {
                // That it failed has been said.
                let _ = (&mut running.task).await;
            }
        };
        if timeout(END_TIMEOUT, all).await.is_err() {
            for running in self.running.iter().filter(|running| !running.task.is_finished()) {
                let (name, waiting) = (running.target.name(), running.mailbox.waiting());
                log::warn!("notify {name}: takes too long; {waiting} events untold");
            }
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        for running in &self.running {
            running.task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
