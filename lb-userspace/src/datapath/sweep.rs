//! Forgets flows that are over, in bounded slices, and counts those that are not.
//!
//! A slice of half-open halves is read in one system call, so what it says of the last of them is old.
//! Each removal looks again and takes in one step; a half that a client made new meanwhile is put back.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::AddAssign;

use aya::Pod;
use lb_common::addr::{Address, Ipv4Be, Ipv6Be};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{FlowHalf, Timeouts};
use lb_common::flow::FlowKey;
use lb_common::nat::Kind;
use lb_common::time::Ticks;

use super::halves::Walk;
use super::maps::{MAX_NEIGHBOURS, Maps};
use super::sys::Progress;
use super::table;
use crate::control::paced::MOST;
use crate::sync::record::FlowId;

use elsewhere::Elsewhere;
use evicted::{Counted, Evicted};
use rules::Rules;

pub mod elsewhere;
mod evicted;
pub(super) mod rules;

/// What is closed or copied may be gone after so much silence.
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
    /// Of those: not confirmed by a reply, nor by the client alone.
    pub unconfirmed: u64,
    /// Half-open flows that were evicted since the controller's first pass, at least.
    pub evicted: u64,
    /// Flows per backend, of both maps.
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

/// Which map a pass is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Established,
    HalfOpen,
}

/// Passes over the flow maps of both families, one slice at a time.
#[derive(Default)]
pub struct Sweep {
    v4: Pass<Ipv4Be>,
    v6: Pass<Ipv6Be>,
    /// The pass is in the second family.
    second: bool,
    census: Census,
    evicted: Evicted,
    /// What was counted when the pass began.
    start: Option<Counted>,
}

/// A pass over the flow maps of one family.
struct Pass<A> {
    walk: Walk<A>,
    stage: Stage,
    census: Census,
    /// Of the last complete pass: decides how long what is over may stay.
    established: u64,
    family: PhantomData<A>,
}

impl<A: Family> Default for Pass<A>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    fn default() -> Self {
        Self {
            walk: Walk::new(table::Walk::reclaiming()),
            stage: Stage::Established,
            census: Census::default(),
            established: 0,
            family: PhantomData,
        }
    }
}

/// What flows are judged by.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub timeouts: &'a BTreeMap<u32, Timeouts>,
    pub backends: &'a BTreeMap<BackendId, Backend>,
    pub elsewhere: &'a Elsewhere,
    pub now: Ticks,
}

impl Sweep {
    /// Sweeps one slice. `Some`: a pass is complete.
    pub fn slice(&mut self, maps: &Maps, facts: &Facts<'_>) -> anyhow::Result<Option<Census>> {
        if self.start.is_none() {
            self.start = Some(self.evicted.count(maps, facts)?);
        }
        let done =
            if self.second { self.v6.slice(maps, facts)? } else { self.v4.slice(maps, facts)? };
        let Some(census) = done else { return Ok(None) };
        self.census += census;
        self.second = !self.second;
        if self.second {
            return Ok(None);
        }
        let mut census = std::mem::take(&mut self.census);
        if let Some(start) = self.start.take() {
            let end = self.evicted.count(maps, facts)?;
            census.evicted = self.evicted.note(start, end, census.unconfirmed);
        }
        Ok(Some(census))
    }
}

impl Evicted {
    /// What is counted now.
    fn count(&mut self, maps: &Maps, facts: &Facts<'_>) -> anyhow::Result<Counted> {
        for id in facts.backends.keys() {
            let counters = maps.backend_counters(*id)?;
            self.add(*id, counters.flows, counters.connections);
        }
        Ok(self.counted(maps.half_open_removed()? + maps.removals.half_open()))
    }
}

impl AddAssign for Census {
    fn add_assign(&mut self, other: Self) {
        self.established += other.established;
        self.half_open += other.half_open;
        self.unconfirmed += other.unconfirmed;
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

impl<A: Family> Pass<A>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    fn slice(&mut self, maps: &Maps, facts: &Facts<'_>) -> anyhow::Result<Option<Census>> {
        let flows = &maps.flows[A::INDEX];
        let capacity = u64::from(flows.table().capacity()) / 2;
        let rules = Rules {
            established: flows.established(),
            half_open: flows.half_open(),
            facts: *facts,
            removals: &maps.removals,
            squeeze: squeeze(self.established, capacity),
            family: PhantomData,
        };
        let (established, half_open) = (rules.established, rules.half_open);
        let (stage, census) = (self.stage, &mut self.census);
        let progress = match stage {
            Stage::Established => {
                self.walk.slice(established, |key, half| rules.established(census, key, half))?
            }
            Stage::HalfOpen => {
                self.walk.slice(half_open, |key, half| rules.half_open(census, key, half))?
            }
        };
        match (progress, stage) {
            (Progress::More, _) => Ok(None),
            (Progress::Complete, Stage::Established) => {
                self.stage = Stage::HalfOpen;
                Ok(None)
            }
            (Progress::Complete, Stage::HalfOpen) => {
                self.stage = Stage::Established;
                let census = std::mem::take(&mut self.census);
                self.established = census.established;
                Ok(Some(census))
            }
        }
    }
}

/// The longest that a closed flow stays, by how full the map is: a table full of TIME_WAIT refuses
/// new connections.
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
