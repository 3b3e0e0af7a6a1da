//! Events for machines, and for those that share a sync group with them. Called by the VRRP thread. I/O.

use super::super::event::FaultCause;
use super::super::group::{self, Members};
use super::super::{Event, Instance, Nanos};
use super::Thread;
use super::member::Member;

/// Members of one group, by their places among all.
struct Fellows<'a> {
    members: &'a mut [Member],
    places: &'a [usize],
}

impl Members for Fellows<'_> {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn at(&self, index: usize) -> &Instance {
        &self.members[self.places[index]].machine
    }

    fn at_mut(&mut self, index: usize) -> &mut Instance {
        &mut self.members[self.places[index]].machine
    }
}

impl Thread {
    /// Tells an instance, and performs what it and its group want done then.
    pub(super) fn handle(&mut self, index: usize, event: Event<'_>, now: Nanos) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Some(name) = member.group.clone() else {
            let actions = member.machine.handle(event, now);
            return self.perform(actions.into_iter().map(|action| (index, action)), now);
        };
        // Kept from one time to the next: an event allocates nothing.
        let (mut places, mut todo) =
            (std::mem::take(&mut self.places), std::mem::take(&mut self.todo));
        let members = self.members.iter().enumerate();
        let fellows = members.filter(|(_, member)| member.group.as_ref() == Some(&name));
        places.extend(fellows.map(|(place, _)| place));
        let own = places.iter().position(|place| *place == index).unwrap_or(0);
        let mut fellows = Fellows { members: &mut self.members, places: &places };
        group::feed(&mut fellows, own, event, now, &mut |of, action| {
            todo.extend(places.get(of).map(|at| (*at, action)));
        });
        self.perform(todo.drain(..), now);
        places.clear();
        (self.places, self.todo) = (places, todo);
    }

    /// Whether another member of the group knows nothing of its link or address yet, or has lost them: the
    /// group would take that for a fault of all.
    pub(super) fn waits_for_fellows(&self, index: usize) -> bool {
        let Some(group) = self.members.get(index).and_then(|member| member.group.as_ref()) else {
            return false;
        };
        let others = self.members.iter().enumerate().filter(|(place, _)| *place != index);
        let mut fellows = others.filter(|(_, member)| member.group.as_ref() == Some(group));
        fellows.any(|(_, it)| it.machine.faults().any(|cause| cause != FaultCause::Group))
    }

    /// Makes room for as much as one event calls for.
    pub(super) fn reserve_for_groups(&mut self) {
        let most = self.members.len();
        self.places.reserve(most);
        self.todo.reserve(most * ROUNDS * super::super::event::MAX_ACTIONS);
    }
}

/// An event, then a promotion or a step down, faults, and what follows from them.
const ROUNDS: usize = 4;
