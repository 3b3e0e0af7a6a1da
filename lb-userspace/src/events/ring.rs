//! The last events. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::admin::model::{Event, What};

/// Keeps the last few events.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// Number of the next one.
    next: u64,
    /// Number of the first one ever.
    first: u64,
}

/// Events after some number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// First and last number of those that should come before, and are not there.
    pub missed: Option<(u64, u64)>,
    pub events: Vec<Arc<Event>>,
}

impl Ring {
    /// Numbers start at `first`.
    pub(super) fn new(capacity: usize, first: u64) -> Self {
        Self { events: VecDeque::with_capacity(capacity), capacity, next: first, first }
    }

    /// Adds one, and forgets the oldest if there are too many.
    pub(super) fn push(&mut self, what: What, time: String) -> Arc<Event> {
        let sequence = self.next;
        self.next += 1;
        let event = Arc::new(Event { sequence, time, message: what.to_string(), what });
        if self.events.len() >= self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Arc::clone(&event));
        event
    }

    /// Number of the last one; before the first there is none.
    pub(super) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Everything kept, if `sequence` is `None`; else what comes after that number, at most `limit` of it.
    pub(super) fn since(&self, sequence: Option<u64>, limit: usize) -> Batch {
        let oldest = self.next - self.events.len() as u64;
        let (missed, from) = match sequence {
            None => (None, oldest),
            // A number that nobody has been given is another controller's, or invented.
            Some(sequence) if sequence > self.last() => {
                (Some((self.next, sequence)).filter(|_| sequence >= self.next), self.next)
            }
            Some(sequence) if sequence + 1 < oldest => (Some((sequence + 1, oldest - 1)), oldest),
            Some(sequence) => (None, sequence + 1),
        };
        let skipped = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let events = self.events.iter().skip(skipped).take(limit).cloned().collect();
        Batch { missed, events }
    }

    /// The number after which the newest `count` events come.
    pub(super) fn before_last(&self, count: usize) -> u64 {
        let kept = self.events.len().min(count) as u64;
        (self.next - 1 - kept).max(self.first - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(capacity: usize, pushed: u64) -> Ring {
        let mut ring = Ring::new(capacity, 100);
        for number in 0..pushed {
            push(&mut ring, number);
        }
        ring
    }

    fn push(ring: &mut Ring, number: u64) {
        let what = What::Vip { address: number.to_string(), gained: true };
        ring.push(what, String::new());
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn numbers_follow_each_other() {
        let ring = ring(4, 3);
        let batch = ring.since(None, 10);
        assert_eq!((numbers(&batch), batch.missed), (vec![100, 101, 102], None));
        assert_eq!(numbers(&ring.since(Some(100), 10)), [101, 102]);
        assert_eq!(numbers(&ring.since(Some(100), 1)), [101]);
        assert_eq!(ring.since(Some(102), 10), Batch::default());
    }

    #[test]
    fn what_was_overwritten_is_said_to_be_missing() {
        let ring = ring(4, 10);
        let batch = ring.since(Some(101), 10);
        assert_eq!((numbers(&batch), batch.missed), (vec![106, 107, 108, 109], Some((102, 105))));
        assert_eq!(ring.since(Some(105), 10).missed, None);
        assert_eq!(ring.since(None, 10).missed, None);
    }

    #[test]
    fn numbers_that_were_never_given_are_said_to_be_missing() {
        let mut ring = ring(4, 2);
        let batch = ring.since(Some(500), 10);
        assert_eq!((numbers(&batch), batch.missed), (vec![], Some((102, 500))));
        // A predecessor's.
        assert_eq!(ring.since(Some(7), 10).missed, Some((8, 99)));
        push(&mut ring, 2);
        assert_eq!(numbers(&ring.since(Some(101), 10)), [102]);
    }

    #[test]
    fn the_last_few_can_be_had() {
        for (pushed, count, expected) in
            [(10, 2, vec![108, 109]), (1, 5, vec![100]), (0, 5, vec![])]
        {
            let ring = ring(4, pushed);
            let batch = ring.since(Some(ring.before_last(count)), 10);
            assert_eq!((numbers(&batch), batch.missed), (expected, None));
        }
    }
}
