//! The task of one target: takes events and tells them, one after the other. I/O.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::complaints::Complaints;
use super::exec::Hook;
use super::webhook::Webhook;
use crate::admin::Commands;
use crate::admin::model::Event;
use crate::config::notify::{Action, Target};
use crate::events::Mailbox;

/// The pause after a first failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a target fares, shared with who asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Fare(Arc<Mutex<Counts>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    /// Of the last event, if that failed.
    pub(super) error: Option<String>,
}

impl Fare {
    pub(super) fn get(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, outcome: Result<(), String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(()) => counts.delivered += 1,
            Err(_) => counts.failed += 1,
        }
        counts.error = outcome.err();
    }
}

/// Why an event was not told.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// Whether another attempt may do better.
    pub(super) again: bool,
}

/// How the events are told.
enum Way {
    Exec(Hook),
    Webhook(Box<Webhook>),
}

pub(super) struct Worker {
    name: String,
    way: Way,
    retries: u32,
    mailbox: Arc<Mailbox>,
    fare: Fare,
    complaints: Complaints,
}

impl Worker {
    pub(super) fn new(
        target: &Target,
        mailbox: Arc<Mailbox>,
        fare: Fare,
        commands: Commands,
    ) -> Self {
        let timeout = target.timeout;
        let (way, retries) = match target.action.clone() {
            // A program that failed may have done half of its work.
            Action::Exec { exec } => (Way::Exec(Hook { words: exec, timeout }), 0),
            Action::Webhook { webhook, token_file, ca_file, retries } => {
                let webhook = Webhook { url: webhook, token_file, ca_file, timeout, commands };
                (Way::Webhook(Box::new(webhook)), retries)
            }
        };
        let (name, complaints) = (target.name(), Complaints::default());
        Self { name, way, retries, mailbox, fare, complaints }
    }

    /// Until the mailbox is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(event) = self.mailbox.take().await {
            let outcome = self.tell(&event).await;
            if let Err(reason) = &outcome
                && let Some(unsaid) = self.complaints.fail(Instant::now().into_std())
            {
                let more =
                    if unsaid > 0 { format!(" ({unsaid} more since)") } else { String::new() };
                log::warn!("notify {}: event {}: {reason}{more}", self.name, event.sequence);
            }
            self.fare.note(outcome);
        }
    }

    async fn tell(&self, event: &Event) -> Result<(), String> {
        let json = serde_json::to_vec(event).map_err(|error| error.to_string())?;
        let mut pause = FIRST_PAUSE;
        for attempt in 0.. {
            let outcome = match &self.way {
                Way::Exec(hook) => hook.run(event, &json).await,
                Way::Webhook(webhook) => webhook.post(event, &json).await,
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(Failure { again: true, .. }) if attempt < self.retries => {}
                Err(Failure { reason, .. }) => return Err(reason),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }
}
