//! Flows whose clients are to hear from this node, and when: a few at a time, as idle clients are told. Pure.
//!
//! * *Disowned* ones end by another node's word. After a partition in which two nodes served a VIP, one of them
//!   serves it on. The flows that only the other one made end: their clients get a RST, and connect anew.
//! * *Unheard* ones this node was told of by a peer that died, and their clients have sent nothing since the VIP came
//!   here, but for the first moments. They may be idle, or have closed while nobody was there to tell of it: they are asked.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::idle_reset::{TELL_INTERVAL, due};

/// Flows that wait. What finds no room is found again: by the next comparison of both nodes' flows, or by the sweep.
pub const MOST: usize = 65_536;

/// The queue. `F` names a flow.
#[derive(Clone, Debug)]
pub struct Paced<F> {
    queue: VecDeque<F>,
    last: Instant,
}

impl<F> Paced<F> {
    pub const fn new(now: Instant) -> Self {
        Self { queue: VecDeque::new(), last: now }
    }

    pub fn extend(&mut self, flows: impl IntoIterator<Item = F>, now: Instant) {
        if self.queue.is_empty() {
            self.last = now;
        }
        let room = MOST - self.queue.len();
        self.queue.extend(flows.into_iter().take(room));
    }

    /// When to call [`Self::take`].
    pub fn deadline(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then(|| self.last + TELL_INTERVAL)
    }

    /// Those whose turn it is.
    pub fn take(&mut self, now: Instant) -> Vec<F> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let due = due(&mut self.last, now).min(self.queue.len());
        self.queue.drain(..due).collect()
    }
}

const _: () = assert!(TELL_INTERVAL.as_nanos() < Duration::from_millis(50).as_nanos());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::idle_reset::RATE;

    #[test]
    fn they_come_in_order_at_the_rate() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut paced = Paced::new(start);
        assert_eq!(paced.deadline(), None);
        let mut now = start + Duration::from_secs(60);
        paced.extend(0..RATE, now);
        assert!(paced.take(now).is_empty());
        let mut taken = Vec::new();
        while let Some(deadline) = paced.deadline() {
            now = deadline;
            taken.extend(paced.take(now));
        }
        assert_eq!(taken, (0..RATE).collect::<Vec<_>>());
        let took = now - start - Duration::from_secs(60);
        assert!(
            took > Duration::from_millis(950) && took < Duration::from_millis(1050),
            "{took:?}"
        );
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut paced = Paced::new(start);
        paced.extend(0..2 * MOST, start);
        paced.extend(0..10, start);
        assert_eq!(paced.queue.len(), MOST);
    }
}
