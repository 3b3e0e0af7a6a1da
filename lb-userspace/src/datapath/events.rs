//! What became of confirmed flows, as the program and the controller tell it: for a peer, and for the flow log. I/O.
//!
//! The program writes to a ring, and wakes nobody; the reader comes by the clock, for all that has
//! gathered since. What the controller itself removes comes by a queue.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues, RingBuf};
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::event::{FlowEvent, FlowReport};
use lb_common::map;

use super::maps::Maps;
use super::removals::Removals;
use super::sweep::Family;
use super::sys;
use super::table::FlowTable;
use crate::flow_log::Tap;
use crate::sync::placement;
use crate::sync::record::{Change, FlowId, FlowRecord};

/// Events taken at a time.
pub const MOST: usize = 16_384;

/// The reader's end; there is one. It may be moved to another thread.
pub struct FlowEvents {
    ring: RingBuf<MapData>,
    report: PerCpuArray<MapData, FlowReport>,
    /// Of the program's counters so far.
    lost: u64,
    removals: Removals,
    tables: [Arc<FlowTable>; 2],
    /// Where the last change of a flow is among those of this turn.
    latest: HashMap<FlowId, usize>,
    /// Who is told of every event besides.
    tap: Option<Tap>,
}

/// What a turn brought besides changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Changes that were lost since the last turn: only a digest or a snapshot tells of which flows.
    pub lost: u64,
    /// There is more to read.
    pub more: bool,
}

impl FlowEvents {
    /// From here on the program tells.
    pub(super) fn take(ebpf: &mut Ebpf, maps: &Maps) -> anyhow::Result<Self> {
        let mut take =
            |name: &str| ebpf.take_map(name).with_context(|| format!("the object has no {name}"));
        let (ring, report) = (take(map::FLOW_EVENTS)?, take(map::FLOW_REPORT)?);
        Self::of(ring, report, maps.flows.clone(), maps.removals.clone())
    }

    /// Of these maps, and of the table of each family.
    pub fn of(
        ring: Map,
        report: Map,
        tables: [Arc<FlowTable>; 2],
        removals: Removals,
    ) -> anyhow::Result<Self> {
        let ring = RingBuf::try_from(ring)?;
        let mut report: PerCpuArray<MapData, FlowReport> = report.try_into()?;
        let cpus = report.get(&0, 0)?.len();
        let wanted = vec![FlowReport { wanted: 1, lost: 0 }; cpus];
        report.set(0, PerCpuValues::try_from(wanted)?, 0).context("asking for events of flows")?;
        removals.listen();
        Ok(Self { ring, report, lost: 0, removals, tables, latest: HashMap::new(), tap: None })
    }

    /// From here on `tap` is told of every event, too.
    pub fn tell(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Appends what changed since the last turn: of each flow its last change.
    pub fn read(&mut self, changes: &mut Vec<Change>) -> anyhow::Result<Turn> {
        self.latest.clear();
        let mut read = 0;
        while read < MOST
            && let Some(record) = self.ring.next()
        {
            read += 1;
            let event = sys::from_bytes::<FlowEvent>(&record);
            if let Some(record) = event.as_ref().and_then(FlowRecord::told) {
                if let Some(tap) = &self.tap {
                    tap.put(&record);
                }
                note(&mut self.latest, changes, record.id, Change::Put(record));
            }
        }
        for (id, why) in self.removals.take() {
            // It may have come again since: then its own event tells.
            if !self.is_there(&id) {
                if let Some(tap) = &self.tap {
                    tap.removed(&id, why);
                }
                note(&mut self.latest, changes, id, Change::Removed(id));
            }
        }
        Ok(Turn { lost: self.take_lost()?, more: read == MOST })
    }

    fn is_there(&self, id: &FlowId) -> bool {
        if id.client.is_ipv4() {
            self.is_there_as::<Ipv4Be>(id)
        } else {
            self.is_there_as::<Ipv6Be>(id)
        }
    }

    fn is_there_as<A: Family>(&self, id: &FlowId) -> bool {
        let half = self.tables[A::INDEX].find(&placement::key::<A>(id.client, id.vip));
        half.is_some_and(|half| half.is_confirmed())
    }

    fn take_lost(&mut self) -> anyhow::Result<u64> {
        let reports = self.report.get(&0, 0).context("reading how many events were lost")?;
        let total: u64 = reports.iter().map(|report| report.lost).sum();
        let lost = total.saturating_sub(self.lost);
        self.lost = total;
        let lost = lost + self.removals.take_lost();
        if let Some(tap) = &self.tap {
            tap.lost(lost);
        }
        Ok(lost)
    }
}

/// A flow that changed twice is told once.
fn note(
    latest: &mut HashMap<FlowId, usize>,
    changes: &mut Vec<Change>,
    id: FlowId,
    change: Change,
) {
    match latest.get(&id).and_then(|index| changes.get_mut(*index)) {
        Some(earlier) => *earlier = change,
        None => {
            latest.insert(id, changes.len());
            changes.push(change);
        }
    }
}
