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
    let came_up = facts.up && known.is_some_and(|known| !known.up);
    match &instance.membership {
        Some((ifindex, membership)) if *ifindex == facts.ifindex => {
            if now < instance.renew_at && !came_up {
                return Ok(());
            }
            membership.renew()?;
        }
        Some(_) | None => {
            instance.membership = Some((facts.ifindex, Membership::join(*family, facts.ifindex)?));
        }
    }
    instance.renew_at = Nanos(now.0 + MEMBERSHIP);
    Ok(())
}
