//! Events for machines, and for those that share a sync group with them. Called by the VRRP thread. I/O.

use super::super::{Event, Instance, Nanos, group};
use super::Thread;

impl Thread {
    /// Tells an instance, and performs what it and its group want done then.
    pub(super) fn handle(&mut self, index: usize, event: Event<'_>, now: Nanos) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Some(name) = member.group.clone() else {
            let actions = member.machine.handle(event, now);
            return self.perform(actions.into_iter().map(|action| (index, action)), now);
        };
        let mut places = Vec::new();
        let mut machines: Vec<&mut Instance> = Vec::new();
        for (place, member) in self.members.iter_mut().enumerate() {
            if member.group.as_ref() == Some(&name) {
                places.push(place);
                machines.push(&mut member.machine);
            }
        }
        let own = places.iter().position(|place| *place == index).unwrap_or(0);
        let mut actions = Vec::new();
        let mut note = |of: usize, action| actions.extend(places.get(of).map(|at| (*at, action)));
        group::feed(&mut machines, own, event, now, &mut note);
        self.perform(actions, now);
    }
}
