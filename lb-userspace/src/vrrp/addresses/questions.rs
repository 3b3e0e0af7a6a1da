//! Who else has the VIPs? Asked once, some time after they came here. I/O.

use std::net::IpAddr;
use std::time::Duration;

use super::super::{Nanos, announce};
use super::Facts;
use crate::netlink::garp::FrameSocket;

/// Who had them before has let go, and the burst of announcements is over.
const AFTER: Duration = Duration::from_millis(1500);
/// Hundreds of VIPs are asked for little by little.
const AT_ONCE: usize = 32;
const BETWEEN: Duration = Duration::from_millis(20);

/// What is still to be asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Questions {
    /// VIPs, counted from the last one.
    left: usize,
    due: Nanos,
}

impl Questions {
    pub(super) fn after(now: Nanos, vips: usize) -> Self {
        Self { left: vips, due: now.after(AFTER) }
    }

    pub(super) fn due(&self) -> Option<Nanos> {
        (self.left > 0).then_some(self.due)
    }

    /// Asks what is due.
    pub(super) fn ask(&mut self, now: Nanos, vips: &[IpAddr], facts: &Facts, frames: &FrameSocket) {
        if self.left == 0 || now < self.due {
            return;
        }
        self.left = self.left.min(vips.len());
        let end = self.left.saturating_sub(AT_ONCE);
        for vip in vips.get(end..self.left).unwrap_or_default() {
            // One that is lost is asked by whoever needs the VIP.
            let _ = match (vip, facts.own4, facts.own6) {
                (IpAddr::V4(vip), Some(own), _) => {
                    frames.send(facts.ifindex, &announce::question(facts.mac, own, *vip))
                }
                (IpAddr::V6(vip), _, Some(own)) => {
                    frames.send(facts.ifindex, &announce::solicitation(facts.mac, own, *vip))
                }
                (IpAddr::V4(_) | IpAddr::V6(_), _, _) => Ok(()),
            };
        }
        self.left = end;
        self.due = now.after(BETWEEN);
    }
}
