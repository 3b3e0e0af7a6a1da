//! The events of this controller, shared by who pushes and who reads. I/O: it reads the clock, and wakes
//! readers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::mailbox::Mailbox;
use super::ring::{Batch, Ring};
use crate::admin::model::{What, rfc3339};

/// Some hundred bytes each.
const CAPACITY: usize = 4096;

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// Number of the last event; closed with its sender's drop.
    last: Mutex<Option<watch::Sender<u64>>>,
    reader: watch::Receiver<u64>,
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self::starting_at(wall_clock())
    }
}

impl Events {
    /// Numbers begin with the microseconds of that time since 1970, so that those of a controller that
    /// is started later are larger.
    fn starting_at(time: SystemTime) -> Self {
        let age = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::from_secs(1));
        // Below 2^53, which is as far as numbers of JSON go, until the year 2255.
        let first = u64::try_from(age.as_micros()).unwrap_or(1).max(1);
        let (last, reader) = watch::channel(first - 1);
        Self(Arc::new(Shared {
            ring: Mutex::new(Ring::new(CAPACITY, first)),
            last: Mutex::new(Some(last)),
            reader,
            mailboxes: Mutex::default(),
        }))
    }

    /// It has happened just now. Never waits for a reader.
    pub fn push(&self, what: What) {
        // Held until all have it: everyone sees the same order.
        let mut mailboxes = lock(&self.0.mailboxes);
        let event = lock(&self.0.ring).push(what, rfc3339(wall_clock()));
        mailboxes.retain(|mailbox| {
            let mailbox = mailbox.upgrade();
            if let Some(mailbox) = &mailbox {
                mailbox.put(&event);
            }
            mailbox.is_some()
        });
        if let Some(last) = lock(&self.0.last).as_ref() {
            last.send_replace(event.sequence);
        }
    }

    /// Everything kept, or what comes after a number; at most `limit` of it.
    pub fn since(&self, sequence: Option<u64>, limit: usize) -> Batch {
        lock(&self.0.ring).since(sequence, limit)
    }

    /// The number after which the newest `count` events come.
    pub fn before_last(&self, count: usize) -> u64 {
        lock(&self.0.ring).before_last(count)
    }

    /// Number of the last event.
    pub fn last(&self) -> u64 {
        lock(&self.0.ring).last()
    }

    /// Changes with each event; an error once there will be no more.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.reader.clone()
    }

    /// Has all further events put into `mailbox`, until it is dropped.
    pub fn deliver_to(&self, mailbox: &Arc<Mailbox>) {
        lock(&self.0.mailboxes).push(Arc::downgrade(mailbox));
    }

    /// There will be no more: who follows may go.
    pub fn close(&self) {
        lock(&self.0.last).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left a whole state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "a driver: stamps events")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::admin::model::Kind;

    fn vip(address: &str) -> What {
        What::Vip { address: address.to_owned(), gained: true }
    }

    #[test]
    fn a_later_controllers_numbers_are_larger_and_fit_json() {
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400);
        let (first, second) = (Events::starting_at(day(20_000)), Events::starting_at(day(20_001)));
        first.push(vip("a"));
        assert!(first.last() < second.last());
        assert!(Events::starting_at(day(36_500)).last() < 1 << 53);
    }

    #[tokio::test]
    async fn mailboxes_get_their_kinds_in_order_and_drop_the_oldest() {
        let events = Events::default();
        let mailbox = Arc::new(Mailbox::new(BTreeSet::from([Kind::Vip]), 2));
        events.deliver_to(&mailbox);
        events.push(What::Stop { handover: false });
        for address in ["a", "b", "c"] {
            events.push(vip(address));
        }
        assert_eq!((mailbox.waiting(), mailbox.dropped()), (2, 1));
        assert_eq!(mailbox.take().await.unwrap().what, vip("b"));
        mailbox.close();
        events.push(vip("d"));
        assert_eq!(mailbox.take().await.unwrap().what, vip("c"));
        assert_eq!(mailbox.take().await, None);
    }

    #[tokio::test]
    async fn who_watches_is_woken_and_told_of_the_end() {
        let events = Events::default();
        let mut watch = events.watch();
        watch.borrow_and_update();
        events.push(vip("a"));
        watch.changed().await.unwrap();
        assert_eq!(*watch.borrow(), events.last());
        events.close();
        assert!(watch.changed().await.is_err());
        events.push(vip("b"));
    }
}
