//! What goes wrong, and its end. Pure.

use super::super::super::event::Previous;
use super::*;

impl World {
    pub(in super::super) fn disturb(&mut self) {
        let index = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap();
        let unit = self.longest_interval();
        match self.random.below(13) {
            0 => self.crash(index),
            1 | 2 => {
                let adopt = self.random.chance(50);
                self.boot(index, adopt);
            }
            3 => {
                let parts = u32::try_from(self.random.below(8000)).unwrap();
                let node = &mut self.nodes[index];
                if node.is_running && node.stalled_until.is_none() {
                    node.stalled_until = Some(self.now.after(unit * parts / 1000));
                }
            }
            4 => self.operate(index, Event::Drain),
            5 => self.operate(index, Event::Resume),
            6 => {
                self.operate(index, Event::Shutdown);
                self.crash(index);
            }
            12 => {
                self.operate(index, Event::HandOver);
                self.crash(index);
            }
            7 => self.set_link(index, false),
            8 => self.set_link(index, true),
            9 => {
                let adjustment = self.random.pick(&[0, -20, -100, 30]);
                self.operate(index, Event::Tracked { adjustment });
            }
            _ => self.damage_a_path(unit),
        }
    }

    fn damage_a_path(&mut self, unit: Duration) {
        let keys: Vec<(usize, usize)> = self.paths.keys().copied().collect();
        let key = self.random.pick(&keys);
        let parts = u32::try_from(self.random.below(2000)).unwrap();
        let path = Path {
            loss: self.random.pick(&[0, 10, 50, 90, 100]),
            duplicates: self.random.pick(&[0, 30]),
            delay: unit * parts / 1000,
            is_repaired: false,
            lost_last: false,
        };
        self.paths.insert(key, path);
    }

    /// All that runs can hear each other, and at least one runs.
    pub(in super::super) fn repair(&mut self) {
        let (loss, unit) = (self.random.pick(&[0, 0, 30]), self.longest_interval());
        for path in self.paths.values_mut() {
            *path = Path { loss, delay: unit / 50, is_repaired: true, ..Path::good() };
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].stalled_until = None;
            if self.nodes[index].is_running {
                self.wake_late(index);
            }
            self.set_link(index, true);
        }
        if self.nodes.iter().all(|node| !node.is_running) {
            self.boot(0, false);
        }
    }

    /// It was stalled until now.
    fn wake_late(&mut self, index: usize) {
        self.nodes[index].stalled_until = Some(self.now);
        self.wake(index);
    }

    fn operate(&mut self, index: usize, event: Event<'_>) {
        let node = &mut self.nodes[index];
        if !node.is_running || node.stalled_until.is_some() {
            return;
        }
        if matches!(event, Event::Drain) {
            let is_new = node.instance.state() == State::Active && !node.instance.is_draining();
            node.is_drain_pending |= is_new;
        } else {
            node.is_drain_pending &= !matches!(event, Event::Resume);
        }
        self.feed(index, event);
    }

    fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.is_running = false;
        node.queue.clear();
        node.stalled_until = None;
        node.is_drain_pending = false;
    }

    /// A controller starts where none runs; it may know what the one before was doing.
    pub(super) fn boot(&mut self, index: usize, adopt: bool) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.is_running {
            return;
        }
        let was_active = node.instance.state() == State::Active;
        let previous = Previous {
            term: node.instance.term(),
            until: (adopt && was_active).then_some(node.answer_until),
        };
        node.instance = Instance::new(&node.settings, now);
        node.is_running = true;
        node.heard_from.clear();
        node.above.forget();
        let (own, up) = (Some(node.address), node.has_link);
        for event in [
            Event::Link { up },
            Event::Address { own },
            Event::Receiving,
            Event::Start { previous: Some(previous) },
        ] {
            self.feed(index, event);
        }
        let node = &mut self.nodes[index];
        if node.instance.state() != State::Active {
            // What its predecessor held is removed.
            node.answer_until = now;
        }
    }

    fn set_link(&mut self, index: usize, up: bool) {
        let node = &mut self.nodes[index];
        if node.has_link != up {
            node.has_link = up;
            node.above.forget();
            self.operate(index, Event::Link { up });
        }
    }
}
