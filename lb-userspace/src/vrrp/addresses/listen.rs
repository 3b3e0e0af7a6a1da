//! The sockets of instances, and their membership in VRRP's group. I/O.

use std::sync::Arc;

use super::super::socket::{Membership, Socket};
use super::super::{Nanos, channel};
use super::{Facts, Instance, Managed, Report};

/// Switches forget members of groups, and the kernel does not notice.
const MEMBERSHIP: u64 = 60_000_000_000;

/// Sees to it that an instance has a socket for its interface, and is in VRRP's group there.
pub(super) fn listen(
    instance: &mut Instance,
    facts: &Facts,
    reports: &channel::Sender<Report>,
    now: Nanos,
) -> std::io::Result<()> {
    let Managed { interface, family, multicast, .. } = &instance.managed;
    if facts.ifindex == 0 {
        (instance.socket, instance.membership) = (0, None);
        return Ok(());
    }
    let known = instance.facts.as_ref();
    if instance.socket != facts.ifindex {
        let socket = Socket::open(*family, interface, facts.ifindex)?;
        let name = Arc::clone(&instance.managed.instance);
        reports.send(Report::Socket { instance: name, socket });
        instance.socket = facts.ifindex;
    }
    if !multicast {
        return Ok(());
    }
    let joined = instance.membership.as_ref().map(|(ifindex, _)| *ifindex);
    match step(joined, known, facts, now >= instance.renew_at) {
        Step::Stay => return Ok(()),
        Step::Renew => {
            // Put back if it is in the group again: if not, the next look joins anew.
            if let Some(membership) = instance.membership.take() {
                membership.1.renew()?;
                instance.membership = Some(membership);
            }
        }
        Step::Join => {
            instance.membership = Some((facts.ifindex, Membership::join(*family, facts.ifindex)?));
        }
    }
    instance.renew_at = Nanos(now.0 + MEMBERSHIP);
    Ok(())
}

/// What a look does about the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stay,
    /// Leaves the group and joins it.
    Renew,
    /// Of an interface that it is not in the group on.
    Join,
}

/// `joined`: the interface of the membership; `known`: the facts of the look before.
fn step(joined: Option<u32>, known: Option<&Facts>, facts: &Facts, due: bool) -> Step {
    let came_up = facts.up && known.is_some_and(|known| !known.up);
    match joined {
        Some(ifindex) if ifindex == facts.ifindex => {
            if due || came_up {
                Step::Renew
            } else {
                Step::Stay
            }
        }
        Some(_) | None => Step::Join,
    }
}

#[cfg(test)]
mod tests {
    use super::super::LOOK_ANYWAY;
    use super::*;

    fn facts(ifindex: u32, up: bool) -> Facts {
        Facts { ifindex, up, ..Facts::default() }
    }

    #[test]
    fn the_group_is_joined_again_when_the_link_comes_up_and_on_another_interface() {
        let [down, up, other] = [facts(7, false), facts(7, true), facts(8, true)];
        assert_eq!(step(None, None, &down, true), Step::Join);
        assert_eq!(step(Some(7), None, &up, false), Step::Stay, "the first look");
        assert_eq!(step(Some(7), Some(&up), &down, false), Step::Stay);
        assert_eq!(step(Some(7), Some(&down), &up, false), Step::Renew);
        assert_eq!(step(Some(7), Some(&up), &up, false), Step::Stay);
        assert_eq!(step(Some(7), Some(&up), &other, false), Step::Join);
    }

    #[test]
    fn the_group_is_joined_again_once_a_minute() {
        let up = facts(7, true);
        let (mut renew_at, mut renewed) = (Nanos(0), Vec::new());
        for second in 1..=181 {
            let now = Nanos(second * LOOK_ANYWAY);
            let joined = (second > 1).then_some(7);
            if step(joined, Some(&up), &up, now >= renew_at) != Step::Stay {
                renewed.push(second);
                renew_at = Nanos(now.0 + MEMBERSHIP);
            }
        }
        assert_eq!(renewed, [1, 61, 121, 181]);
    }
}
