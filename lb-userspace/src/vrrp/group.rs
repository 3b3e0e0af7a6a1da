//! Sync groups: instances that become Active, Backup and Fault together, such as the two families of a
//! dual-stack pair. The VRRP thread feeds every event through it. Pure.
//!
//! A member whose timer ended *wishes* to be Active; the group promotes all when all wish it. So a
//! family that only seems dead, because its packets do not arrive, moves nothing: the other one
//! does not wish. What takes the VIPs of one member away takes those of all.
//!
//! ```text
//! a member wishes, and so do all ──────► Promote to all
//! a member is Active, others Backup ───► Promote to all
//! a member leaves Active ──────────────► StepDown to all
//! a member has a fault of its own ─────► Fault { Group } to the others, until none has one
//! ```

use super::event::{Action, Actions, Event, FaultCause, Reason};
use super::{Instance, Nanos, State};

/// What all members are told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Promote,
    StepDown,
    /// To each: whether another one has a fault of its own.
    Faults,
}

/// The instances of a group, by number.
pub trait Members {
    fn count(&self) -> usize;
    fn at(&self, index: usize) -> &Instance;
    fn at_mut(&mut self, index: usize) -> &mut Instance;
}

#[cfg(test)]
impl<const N: usize> Members for [Instance; N] {
    fn count(&self) -> usize {
        N
    }

    fn at(&self, index: usize) -> &Instance {
        &self[index]
    }

    fn at_mut(&mut self, index: usize) -> &mut Instance {
        &mut self[index]
    }
}

/// Feeds `event` to the member `index`, and to all what follows from it. `perform` gets the actions with
/// the index of the member that they are of. An instance of no group is the only member of its own.
pub fn feed(
    members: &mut impl Members,
    index: usize,
    event: Event<'_>,
    now: Nanos,
    perform: &mut impl FnMut(usize, Action),
) {
    let mut order = step(members, index, event, now, perform);
    // Each order leaves its members as it wants them, so the next round asks for less.
    while let Some(current) = order.take() {
        for index in 0..members.count() {
            let event = match current {
                Order::Promote => Event::Promote,
                Order::StepDown => Event::StepDown,
                Order::Faults => {
                    let present = has_failed_fellow(members, index);
                    Event::Fault { cause: FaultCause::Group, present }
                }
            };
            let next = step(members, index, event, now, perform);
            order = order.or(next);
        }
    }
}

/// What tracking does to a group: the worst that it does to a member, or they would part.
pub fn adjustment(of_members: impl IntoIterator<Item = i16>) -> i16 {
    of_members.into_iter().min().unwrap_or(0)
}

fn step(
    members: &mut impl Members,
    index: usize,
    event: Event<'_>,
    now: Nanos,
    perform: &mut impl FnMut(usize, Action),
) -> Option<Order> {
    let actions = members.at_mut(index).handle(event, now);
    let order = what_follows(members, &actions);
    for action in actions {
        perform(index, action);
    }
    order
}

fn what_follows(members: &impl Members, actions: &Actions) -> Option<Order> {
    if members.count() == 1 {
        return None;
    }
    let is_told = |index: usize| {
        let told = members.at(index).faults().any(|cause| cause == FaultCause::Group);
        told == has_failed_fellow(members, index)
    };
    if !(0..members.count()).all(is_told) {
        return Some(Order::Faults);
    }
    if actions.iter().any(leaves_active) {
        return Some(Order::StepDown);
    }
    let (mut active, mut behind, mut wishing) = (0, 0, 0);
    for index in 0..members.count() {
        let member = members.at(index);
        match member.state() {
            State::Active => active += 1,
            State::Backup if member.wishes() => wishing += 1,
            State::Backup => behind += 1,
            State::Init | State::Fault => return None,
        }
    }
    let joins = actions.iter().any(becomes_active) && behind + wishing > 0;
    (joins || (wishing > 0 && active + wishing == members.count())).then_some(Order::Promote)
}

/// Not because the group told it to, nor because it ends.
fn leaves_active(action: &Action) -> bool {
    matches!(action, Action::Notify(it)
        if it.from == State::Active && it.to == State::Backup && it.reason != Reason::Group)
}

fn becomes_active(action: &Action) -> bool {
    matches!(action, Action::Notify(it) if it.to == State::Active && it.reason != Reason::Group)
}

fn has_failed_fellow(members: &impl Members, index: usize) -> bool {
    let mut others = (0..members.count()).filter(|other| *other != index);
    others.any(|other| members.at(other).faults().any(|cause| cause != FaultCause::Group))
}

#[cfg(test)]
mod tests;
