//! The events that wait for one reader, who takes them at its own pace. I/O: it wakes the reader.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::admin::model::{Event, Kind};

/// Events of some kinds; of too many the oldest are dropped.
#[derive(Debug)]
pub struct Mailbox {
    kinds: BTreeSet<Kind>,
    capacity: usize,
    inside: Mutex<Inside>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    events: VecDeque<Arc<Event>>,
    dropped: u64,
    closed: bool,
}

impl Mailbox {
    /// An open one, which nobody puts anything into.
    pub fn new(kinds: BTreeSet<Kind>, capacity: usize) -> Self {
        Self { kinds, capacity, inside: Mutex::default(), arrived: Notify::new() }
    }

    /// Puts an event in, if it is of the right kind. Never waits.
    pub(super) fn put(&self, event: &Arc<Event>) {
        if !self.kinds.contains(&event.what.kind()) {
            return;
        }
        let mut inside = self.inside();
        if inside.closed {
            return;
        }
        if inside.events.len() >= self.capacity {
            inside.events.pop_front();
            inside.dropped += 1;
        }
        inside.events.push_back(Arc::clone(event));
        drop(inside);
        self.arrived.notify_one();
    }

    /// Waits for the next event and takes it. `None`: it was closed, and is empty.
    pub async fn take(&self) -> Option<Arc<Event>> {
        loop {
            match self.look() {
                Some(found) => return found,
                // Kept by `Notify` if it comes between the look and the wait.
                None => self.arrived.notified().await,
            }
        }
    }

    /// `None`: nothing is there, but something may come.
    fn look(&self) -> Option<Option<Arc<Event>>> {
        let mut inside = self.inside();
        match inside.events.pop_front() {
            Some(event) => Some(Some(event)),
            None if inside.closed => Some(None),
            None => None,
        }
    }

    /// Nothing more comes in; what is there can be taken.
    pub fn close(&self) {
        self.inside().closed = true;
        self.arrived.notify_one();
    }

    /// Drops what is there, and counts it.
    pub fn clear(&self) {
        let mut inside = self.inside();
        inside.dropped += inside.events.len() as u64;
        inside.events.clear();
    }

    pub fn waiting(&self) -> u64 {
        self.inside().events.len() as u64
    }

    /// How many were dropped, ever.
    pub fn dropped(&self) -> u64 {
        self.inside().dropped
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Whoever panicked while holding it left a whole state.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
