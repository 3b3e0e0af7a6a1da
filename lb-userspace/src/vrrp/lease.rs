//! The leases of VIPs: how long the datapath answers and forwards for each without hearing from this
//! process. Written by the VRRP thread. I/O.
//!
//! ```text
//!  advertisement sent                    answer_until        forward_until
//!  │◄────────── 3 × interval − tick ──────────►│◄──── linger ────►│
//!  │◄────────── Active_Down_Interval of any peer ─►│ peer takes over
//! ```
//! A peer takes over at the earliest 3 intervals and its Skew_Time after it received an advertisement (RFC
//! 9568 6.1), and it received it after we read the clock: the machine says so much. XDP reads a clock that
//! lags behind by up to a tick, which is taken off here. So a killed, stopped or stalled controller
//! answers no ARP or NS, and makes no flow, once a peer may do that.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use lb_common::lease::Lease;

use super::Nanos;
use crate::datapath::sys;

/// The lease for XDP, whose clock is up to `tick` nanoseconds behind.
pub fn for_xdp(answer_until: Nanos, forward_until: Nanos, tick: u64) -> Lease {
    Lease {
        answer_until: answer_until.0.saturating_sub(tick),
        forward_until: forward_until.0.saturating_sub(tick),
    }
}

/// The `answer_until` that [`for_xdp`] made this lease of.
pub fn answer_until(lease: &Lease, tick: u64) -> Nanos {
    Nanos(lease.answer_until.saturating_add(tick))
}

/// Where a datapath keeps leases: of one set of maps.
#[derive(Debug)]
pub struct Table {
    map: OwnedFd,
    index: BTreeMap<IpAddr, u32>,
}

impl Table {
    /// `map` holds a [`Lease`] under each index.
    pub fn new(map: OwnedFd, index: BTreeMap<IpAddr, u32>) -> Self {
        Self { map, index }
    }

    /// A VIP's lease; `None`: the datapath does not know the VIP.
    pub fn get(&self, vip: IpAddr) -> io::Result<Option<Lease>> {
        let Some(index) = self.index.get(&vip) else { return Ok(None) };
        let mut bytes = [0; size_of::<Lease>()];
        if !sys::lookup(self.map.as_fd(), &index.to_ne_bytes(), &mut bytes)? {
            return Ok(None);
        }
        Ok(sys::from_bytes(&bytes))
    }

    fn set(&self, vip: IpAddr, lease: &Lease) -> io::Result<()> {
        let Some(index) = self.index.get(&vip) else { return Ok(()) };
        sys::update(self.map.as_fd(), &index.to_ne_bytes(), sys::as_bytes(lease), 0)
    }
}

/// Every table to be kept: two while a successor's datapath takes over from its predecessor's.
#[derive(Debug, Default)]
pub struct Leases(Vec<Table>);

impl Leases {
    pub fn new(tables: Vec<Table>) -> Self {
        Self(tables)
    }

    /// The same lease for all of `vips`. One that a datapath does not know has none there.
    ///
    /// # Errors
    /// The first of those that a map gave; all are tried.
    pub fn set(&self, vips: &[IpAddr], lease: &Lease) -> io::Result<()> {
        let mut outcome = Ok(());
        for table in &self.0 {
            for vip in vips {
                let set = table.set(*vip, lease);
                outcome = outcome.and(set);
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TICK: u64 = 4_000_000;

    #[test]
    fn a_lease_ends_before_the_most_eager_peer_takes_over() {
        for interval in [SECOND / 100, SECOND / 10, SECOND, 40 * SECOND] {
            let sent = 77 * SECOND;
            let silent = Nanos(sent + 3 * interval);
            let lease = for_xdp(silent, Nanos(silent.0 + 2 * SECOND), TICK);
            // Priority 254, an advertisement that took no time, and XDP's clock a tick behind.
            let takes_over = silent.0 + 2 * interval / 256;
            assert!(!lease.may_answer(takes_over - TICK));
            // One advertisement may be lost.
            assert!(lease.may_answer(sent + 2 * interval));
            assert_eq!(answer_until(&lease, TICK), silent);
            assert_eq!(lease.forward_until - lease.answer_until, 2 * SECOND);
        }
    }

    #[test]
    fn nothing_is_lost_where_there_is_no_datapath() {
        let leases = Leases::default();
        assert!(leases.set(&[IpAddr::from([10, 0, 0, 100])], &Lease::EXPIRED).is_ok());
    }
}
