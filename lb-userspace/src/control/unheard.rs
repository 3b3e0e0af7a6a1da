//! Which silent clients are asked whether they are still there, and when. Pure.
//!
//! A node takes a VIP from a peer that died. Of the flows that the peer told of, those that go on are soon heard of.
//! The others are idle, or their ends closed while nobody was there to tell of it: nobody says anything more of these.
//! Each is asked, and again after ten seconds, twice that, and so on; who answers is silent no longer. Who cannot be
//! reached was not asked: a link that was down has forgotten its neighbours, and knows them soon.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::paced::Paced;
use crate::sync::record::FlowId;

/// Between the first two times that a client is asked.
const FIRST: Duration = Duration::from_secs(10);
/// From the tenth time on, an hour and a half.
const MOST_DOUBLED: u32 = 9;

/// The machine.
#[derive(Debug)]
pub struct Unheard {
    asked: HashMap<FlowId, Asked>,
    queue: Paced<FlowId>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    times: u32,
    again: Instant,
}

impl Unheard {
    pub fn new(now: Instant) -> Self {
        Self { asked: HashMap::new(), queue: Paced::new(now) }
    }

    /// All that are silent, by the last look at all flows. How many are to be asked for the first time.
    pub fn note(&mut self, silent: Vec<FlowId>, now: Instant) -> usize {
        let before = std::mem::take(&mut self.asked);
        let mut first = 0;
        let mut due = Vec::new();
        for flow in silent {
            let asked = match before.get(&flow) {
                Some(asked) if now < asked.again => *asked,
                asked => {
                    first += usize::from(asked.is_none());
                    due.push(flow);
                    let times = asked.map_or(0, |asked| asked.times);
                    let again = now + FIRST * (1 << times.min(MOST_DOUBLED));
                    Asked { times: times + 1, again }
                }
            };
            self.asked.insert(flow, asked);
        }
        self.queue.extend(due, now);
        first
    }

    /// When to call [`Self::take`].
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.deadline()
    }

    /// There was no way to this one: its turn comes again with the next look.
    pub fn not_reached(&mut self, flow: &FlowId, now: Instant) {
        if let Some(asked) = self.asked.get_mut(flow) {
            *asked = Asked { times: asked.times.saturating_sub(1), again: now };
        }
    }

    /// Those whose turn it is.
    pub fn take(&mut self, now: Instant) -> Vec<FlowId> {
        self.queue.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::testing::record;

    const SECOND: Duration = Duration::from_secs(1);

    fn flows(clients: std::ops::Range<u32>) -> Vec<FlowId> {
        clients.map(|client| record(client).id).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    /// All that are asked until nobody waits.
    fn take(unheard: &mut Unheard) -> Vec<FlowId> {
        let mut taken = Vec::new();
        while let Some(deadline) = unheard.deadline() {
            taken.extend(unheard.take(deadline));
        }
        taken
    }

    #[test]
    fn each_is_asked_once_however_often_it_is_seen() {
        let mut now = start();
        let mut unheard = Unheard::new(now);
        assert_eq!(unheard.note(flows(0..100), now), 100);
        assert_eq!(take(&mut unheard), flows(0..100));
        now += SECOND;
        assert_eq!(unheard.note(flows(50..150), now), 50);
        assert_eq!(take(&mut unheard), flows(100..150));
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_more_seldom() {
        let begin = start();
        let mut unheard = Unheard::new(begin);
        let mut asked = Vec::new();
        for second in 0..200 {
            unheard.note(flows(7..8), begin + SECOND * second);
            if !take(&mut unheard).is_empty() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 10, 30, 70, 150]);
    }

    #[test]
    fn who_could_not_be_asked_is_asked_as_soon_as_it_can_be() {
        let begin = start();
        let mut unheard = Unheard::new(begin);
        let mut asked = Vec::new();
        for second in 0..50 {
            let now = begin + SECOND * second;
            unheard.note(flows(7..8), now);
            for flow in take(&mut unheard) {
                if second < 3 {
                    unheard.not_reached(&flow, now);
                } else {
                    asked.push(second);
                }
            }
        }
        assert_eq!(asked, [3, 13, 33]);
        // One that has answered meanwhile.
        unheard.not_reached(&flows(8..9)[0], begin);
        assert_eq!(unheard.asked.len(), 1);
    }

    #[test]
    fn who_has_answered_is_forgotten() {
        let now = start();
        let mut unheard = Unheard::new(now);
        unheard.note(flows(0..10), now);
        unheard.note(Vec::new(), now);
        assert!(unheard.asked.is_empty());
        // Silent once more, after the VIP came here another time.
        assert_eq!(unheard.note(flows(0..1), now), 1);
    }

    #[test]
    fn a_client_that_is_dead_is_asked_for_ever_without_an_overflow() {
        let now = start();
        let mut unheard = Unheard::new(now);
        for round in 0..100 {
            unheard.note(flows(0..1), now + FIRST * 512 * round);
        }
        assert_eq!(unheard.asked.len(), 1);
    }
}
