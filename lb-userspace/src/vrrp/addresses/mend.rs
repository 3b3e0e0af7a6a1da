//! Compares the VIPs of an instance with what is on its interface, and mends what is wrong. I/O.

use std::sync::Arc;

use super::{Keeper, LOSSES, Report};
use crate::config::Family;
use crate::netlink::snapshot::Address;
use crate::vrrp::Nanos;

/// Within so long [`LOSSES`] are no accident.
const LOSSES_WITHIN: u64 = 15_000_000_000;
/// Between two extensions of an address's life. Each tells whoever watches addresses, so it is no shorter.
const EXTEND_EVERY: u64 = 5_000_000_000;
/// Until another try.
const CONTESTED_FOR: u64 = 30_000_000_000;

impl Keeper {
    pub(super) fn mend(
        &mut self,
        index: usize,
        ifindex: u32,
        addresses: &[Address],
        now: Nanos,
    ) -> anyhow::Result<()> {
        let Some(instance) = self.instances.get_mut(index) else { return Ok(()) };
        let (held, was_complete) = (instance.managed.held, instance.complete);
        let (vips, life) = (Arc::clone(&instance.managed.vips), instance.managed.life);
        let extends = now >= instance.extend_at;
        let name = Arc::clone(&instance.managed.instance);
        let mut lost = false;
        for vip in vips.iter() {
            let found = addresses.iter().find(|a| (a.ifindex, a.address) == (ifindex, *vip));
            match (held, found) {
                (true, None) => {
                    self.requests.add_vip(ifindex, *vip, life)?;
                    if was_complete {
                        lost = true;
                        self.reports
                            .send(Report::Restored { instance: Arc::clone(&name), vip: *vip });
                    }
                }
                (true, Some(found)) if extends || !is_right(found) => {
                    self.requests.correct_vip(ifindex, *vip, life)?;
                }
                (false, Some(found)) if found.prefix_len == Family::of(vip).bits() => {
                    self.requests.remove_vip(ifindex, *vip)?;
                }
                (true | false, Some(_)) | (false, None) => {}
            }
        }
        let Some(instance) = self.instances.get_mut(index) else { return Ok(()) };
        instance.complete = held;
        if extends {
            instance.extend_at = Nanos(now.0 + EXTEND_EVERY);
        }
        if instance.contested_until.is_some_and(|until| until <= now) {
            instance.contested_until = None;
            self.reports.send(Report::Uncontested { instance: Arc::clone(&name) });
        }
        if lost {
            instance.lost_at.push_back(now);
            instance.lost_at.retain(|lost| now.0 - lost.0 < LOSSES_WITHIN);
            if instance.lost_at.len() >= LOSSES {
                instance.lost_at.clear();
                instance.contested_until = Some(Nanos(now.0 + CONTESTED_FOR));
                self.reports.send(Report::Contested { instance: name });
            }
        }
        Ok(())
    }
}

/// A VIP as it was added, or one that a predecessor added.
fn is_right(found: &Address) -> bool {
    found.prefix_len == Family::of(&found.address).bits() && found.deprecated
}
