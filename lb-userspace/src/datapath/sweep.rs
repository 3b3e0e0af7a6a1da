//! Forgets flows that are over, in bounded slices, and counts those that are not.
//!
//! The program goes on meanwhile: each removal looks again, and a half that a client made new is put back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::AddAssign;

use aya::Pod;
use lb_common::addr::{Address, Ipv4Be, Ipv6Be};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{FlowHalf, Timeouts};
use lb_common::nat::Kind;
use lb_common::time::Ticks;

use super::maps::{MAX_NEIGHBOURS, Maps};
use super::sys::Progress;
use super::table::Walk;
use crate::control::paced::MOST;
use crate::sync::record::FlowId;

use elsewhere::Elsewhere;
use rules::Rules;

pub mod elsewhere;
pub(super) mod rules;

/// What is closed may be gone after so much silence.
const SILENCE: u32 = Ticks::in_ns(2_000_000_000);

/// An address family of flows.
pub trait Family: Address + Pod + Send {
    const INDEX: usize;
}

impl Family for Ipv4Be {
    const INDEX: usize = 0;
}

impl Family for Ipv6Be {
    const INDEX: usize = 1;
}

/// What a complete pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Established flows.
    pub established: u64,
    pub half_open: u64,
    /// Established flows per backend.
    pub connections: BTreeMap<BackendId, u64>,
    /// Backends that any half names.
    pub referenced: BTreeSet<BackendId>,
    /// Backends that a half of `dnat` names.
    pub replying: BTreeSet<BackendId>,
    /// Backends that were given up and have established flows from before.
    pub stale: BTreeSet<BackendId>,
    /// Clients of flows whose VIP another node serves, or that have sent nothing since it came here, `CLIENTS` at most:
    /// this node is to know its way to them before it needs it.
    pub clients: BTreeSet<IpAddr>,
    /// Flows that a peer told of or that were here before their VIP left, whose VIP is here and whose clients have been
    /// silent since for as long as an end that was closed first remembers a connection; [`MOST`] at most.
    pub unheard: Vec<FlowId>,
    /// Flows that this pass forgot.
    pub removed: u64,
}

/// As many as the datapath has room for neighbours.
const CLIENTS: usize = MAX_NEIGHBOURS as usize;

/// Passes over the tables of both families, one slice at a time.
#[derive(Default)]
pub struct Sweep {
    v4: Pass,
    v6: Pass,
    /// The pass is in the second family.
    second: bool,
    census: Census,
}

/// A pass over the table of one family.
struct Pass {
    walk: Walk,
    census: Census,
    /// Of the last complete pass: decides how long what is over may stay.
    established: u64,
}

impl Default for Pass {
    fn default() -> Self {
        Self { walk: Walk::reclaiming(), census: Census::default(), established: 0 }
    }
}

/// What flows are judged by.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub timeouts: &'a BTreeMap<u32, Timeouts>,
    pub backends: &'a BTreeMap<BackendId, Backend>,
    pub elsewhere: &'a Elsewhere,
    /// Established flows that a table is for.
    pub capacity: u32,
    pub now: Ticks,
}

impl Sweep {
    /// Sweeps one slice. `Some`: a pass is complete.
    pub fn slice(&mut self, maps: &Maps, facts: &Facts<'_>) -> Option<Census> {
        self.census += if self.second {
            self.v6.slice::<Ipv6Be>(maps, facts)?
        } else {
            self.v4.slice::<Ipv4Be>(maps, facts)?
        };
        self.second = !self.second;
        (!self.second).then(|| std::mem::take(&mut self.census))
    }
}

impl AddAssign for Census {
    fn add_assign(&mut self, other: Self) {
        self.established += other.established;
        self.half_open += other.half_open;
        for (id, count) in other.connections {
            *self.connections.entry(id).or_default() += count;
        }
        self.referenced.extend(other.referenced);
        self.replying.extend(other.replying);
        self.stale.extend(other.stale);
        let room = CLIENTS.saturating_sub(self.clients.len());
        self.clients.extend(other.clients.into_iter().take(room));
        let room = MOST.saturating_sub(self.unheard.len());
        self.unheard.extend(other.unheard.into_iter().take(room));
        self.removed += other.removed;
    }
}

impl Pass {
    fn slice<A: Family>(&mut self, maps: &Maps, facts: &Facts<'_>) -> Option<Census> {
        let table = &maps.flows[A::INDEX];
        let squeeze = squeeze(self.established, facts.capacity.into());
        let rules = Rules { table, facts: *facts, removals: &maps.removals, squeeze };
        let census = &mut self.census;
        let progress = self.walk.slice::<A>(table, |key, half| rules.judge(census, key, half));
        (progress == Progress::Complete).then(|| {
            let census = std::mem::take(&mut self.census);
            self.established = census.established;
            census
        })
    }
}

/// The longest that a closed flow stays, by how full the table is: one full of TIME_WAIT refuses new
/// connections.
const fn squeeze(established: u64, capacity: u64) -> u32 {
    if established * 10 > capacity * 9 {
        0
    } else if established * 4 > capacity * 3 {
        SILENCE
    } else {
        u32::MAX
    }
}

impl Census {
    fn note_client(&mut self, client: IpAddr) {
        if self.clients.len() < CLIENTS {
            self.clients.insert(client);
        }
    }

    fn note_unheard(&mut self, flow: FlowId) {
        if self.unheard.len() < MOST {
            self.unheard.push(flow);
        }
    }

    fn note<A>(&mut self, half: &FlowHalf<A>) {
        self.referenced.insert(half.backend);
        if half.kind == Kind::Dnat as u8 {
            self.replying.insert(half.backend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_keeps_what_is_over_less_long() {
        assert_eq!(squeeze(100, 1000), u32::MAX);
        assert_eq!(squeeze(750, 1000), u32::MAX);
        assert_eq!(squeeze(751, 1000), SILENCE);
        assert_eq!(squeeze(901, 1000), 0);
    }
}
