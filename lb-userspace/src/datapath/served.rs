//! Which VIPs this node serves, by their leases. I/O.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use lb_common::lease::Lease;

use super::sys;

/// A lease is read again after so long. Nanoseconds.
const FRESH: u64 = 20_000_000;

/// Leases as they were read a moment ago.
pub struct Served {
    map: OwnedFd,
    known: BTreeMap<u32, Lease>,
    /// CLOCK_MONOTONIC.
    read: u64,
}

impl Served {
    /// By the map of leases.
    pub const fn of(map: OwnedFd) -> Self {
        Self { map, known: BTreeMap::new(), read: 0 }
    }

    /// Whether this node answers for the VIP of a lease: while it only forwards, another one serves it. `now`:
    /// CLOCK_MONOTONIC.
    pub fn may_answer(&mut self, index: u32, now: u64) -> bool {
        self.lease(index, now).may_answer(now)
    }

    fn lease(&mut self, index: u32, now: u64) -> Lease {
        if now.saturating_sub(self.read) >= FRESH {
            self.known.clear();
            self.read = now;
        }
        *self.known.entry(index).or_insert_with(|| {
            let mut bytes = [0; size_of::<Lease>()];
            let found = sys::lookup(self.map.as_fd(), &index.to_ne_bytes(), &mut bytes);
            let lease = found.is_ok_and(|found| found).then(|| sys::from_bytes(&bytes)).flatten();
            lease.unwrap_or(Lease::EXPIRED)
        })
    }
}
