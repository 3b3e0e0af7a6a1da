//! The tables of flows as the thread that speaks with peers reads and writes them. I/O.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::events::FlowEvents;
use super::maps::Maps;
use super::records::{self, RecordReader};
use super::replica::{Replica, SharedPlaces};
use super::table::FlowTable;
use crate::sync::record::{Change, FlowId, FlowRecord};
use crate::sync::store::{Detail, Store, Turn, Walk};

/// The flows of both families.
pub struct FlowStore {
    events: FlowEvents,
    replica: Replica,
    tables: [Arc<FlowTable>; 2],
    backends: OwnedFd,
    refused: BTreeMap<&'static str, u64>,
}

impl FlowStore {
    /// Of these maps; `places` say what a peer's flows mean here.
    pub fn new(maps: &Maps, events: FlowEvents, places: SharedPlaces) -> std::io::Result<Self> {
        Ok(Self {
            events,
            replica: Replica::new(maps, places)?,
            tables: maps.flows.clone(),
            backends: maps.backends()?,
            refused: BTreeMap::new(),
        })
    }

    fn put(&mut self, record: &FlowRecord) {
        if let Err(refusal) = self.replica.put(record) {
            *self.refused.entry(refusal.name()).or_default() += 1;
        }
    }
}

impl Store for FlowStore {
    fn walk(&self) -> anyhow::Result<Box<dyn Walk>> {
        let reader = RecordReader::of(self.tables.clone(), self.backends.try_clone()?);
        Ok(Box::new(FlowWalk(reader)))
    }

    fn read(&mut self, changes: &mut Vec<Change>) -> anyhow::Result<Turn> {
        let turn = self.events.read(changes)?;
        Ok(Turn { lost: turn.lost, more: turn.more })
    }

    fn apply(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for change in changes {
            match change {
                Change::Put(record) => self.put(record),
                Change::Removed(id) => {
                    self.replica.remove(id);
                }
            }
        }
        Ok(())
    }

    fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused.clone()
    }
}

struct FlowWalk(RecordReader);

impl Walk for FlowWalk {
    fn slice(
        &mut self,
        detail: Detail,
        wanted: &dyn Fn(&FlowId) -> bool,
        records: &mut Vec<FlowRecord>,
    ) -> anyhow::Result<bool> {
        let detail = match detail {
            Detail::Outline => records::Detail::Outline,
            Detail::Whole => records::Detail::Whole,
        };
        Ok(self.0.slice(detail, wanted, records))
    }
}
