//! Reads the flows of both families, and removes some: for the API. I/O.
//!
//! A reader works on another thread than the main loop's. It reads in slices of a few thousand halves; whoever
//! comes or goes meanwhile may be missed.

use std::io;
use std::sync::Arc;

use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;

use super::maps::Maps;
use super::removals::Removals;
use super::stale::{Flow, Found};
use super::sweep::Family;
use super::table::FlowTable;
use crate::control::flows::Facts;
use crate::flow_log::Why;
use crate::sync::placement;
use crate::sync::record::FlowId;

mod reader;

pub(super) use reader::{Reader, Seen, Visit};

/// A flow, and what to remove it by.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub facts: Facts,
    pub flow: Flow,
}

/// Where flows are read from, and removed.
pub trait FlowSource: Send {
    /// Appends the flows of the next slice. `true`: it was the last one.
    fn slice(&mut self, records: &mut Vec<Record>) -> io::Result<bool>;

    /// Removes a flow; `false`: it is gone, or another has taken its place, or with `unused` it was used
    /// since.
    fn remove(&self, flow: &Flow, unused: bool) -> io::Result<bool>;
}

/// The tables of flows.
pub struct FlowReader {
    reader: Reader,
    removals: Removals,
}

impl FlowReader {
    /// Goes on working after `maps` are gone.
    pub fn new(maps: &Maps) -> Self {
        Self { reader: Reader::new(maps.flows.clone()), removals: maps.removals.clone() }
    }
}

impl FlowSource for FlowReader {
    fn slice(&mut self, records: &mut Vec<Record>) -> io::Result<bool> {
        Ok(self.reader.slice(records))
    }

    fn remove(&self, flow: &Flow, unused: bool) -> io::Result<bool> {
        Ok(purge(&self.reader.tables, &self.removals, flow, unused))
    }
}

impl Visit<Ipv4Be> for Vec<Record> {
    fn wants(&mut self, _: &FlowKey<Ipv4Be>, _: &FlowHalf<Ipv4Be>) -> bool {
        true
    }

    fn see(&mut self, seen: Seen<Ipv4Be>) {
        self.push(Record { facts: seen.facts(), flow: Flow::V4(seen.found) });
    }
}

impl Visit<Ipv6Be> for Vec<Record> {
    fn wants(&mut self, _: &FlowKey<Ipv6Be>, _: &FlowHalf<Ipv6Be>) -> bool {
        true
    }

    fn see(&mut self, seen: Seen<Ipv6Be>) {
        self.push(Record { facts: seen.facts(), flow: Flow::V6(seen.found) });
    }
}

fn purge([v4, v6]: &[Arc<FlowTable>; 2], removals: &Removals, flow: &Flow, unused: bool) -> bool {
    let removed = match flow {
        Flow::V4(found) => remove_halves(v4, found, unused),
        Flow::V6(found) => remove_halves(v6, found, unused),
    };
    removals.push(Why::Purged, || flow.id());
    removed
}

/// Original half, then reply half, so that nobody adopts a half that is about to go.
fn remove_halves<A: Family>(table: &FlowTable, flow: &Found<A>, unused: bool) -> bool {
    let Found { key, half } = flow;
    let removed = table.remove_if(key, |found| {
        is_it(found, half, unused) && found.is_confirmed() == half.is_confirmed()
    });
    if removed && !half.is_alone() {
        table.remove_if(&half.translation.peer_key(), |reply| {
            reply.translation.answers(key)
                && (reply.backend, reply.epoch) == (half.backend, half.epoch)
        });
    }
    removed
}

/// The same flow, which may have gone on. A later one with its addresses and ports has none of the
/// flags that its end had.
pub(super) fn is_it<A: Family>(found: &FlowHalf<A>, half: &FlowHalf<A>, unused: bool) -> bool {
    // What a segment after a RST clears, the first one after a take-over, and what is left of a guess
    // that was right.
    let stay = half.flags & !(flag::RST | flag::PEER_RST | flag::MID_STREAM | flag::REPLICA);
    found.translation == half.translation
        && (found.backend, found.epoch) == (half.backend, half.epoch)
        && found.flags & stay == stay
        && (!unused || found.last_seen == half.last_seen)
}

/// Removes a flow as [`FlowSource::remove`] does, whether or not it has gone on.
pub fn remove(maps: &Maps, flow: &Flow) -> bool {
    purge(&maps.flows, &maps.removals, flow, false)
}

/// A confirmed flow by its name, as it is now.
pub fn confirmed(maps: &Maps, id: &FlowId) -> Option<Flow> {
    if id.client.is_ipv4() { found(maps, id).map(Flow::V4) } else { found(maps, id).map(Flow::V6) }
}

fn found<A: Family>(maps: &Maps, id: &FlowId) -> Option<Found<A>> {
    let key = placement::key(id.client, id.vip);
    let half = maps.flows[A::INDEX].find(&key).filter(FlowHalf::is_confirmed)?;
    Some(Found { key, half })
}

/// The flow as it is now; `None`: it is gone, or another has taken its place, or with `unused` it was
/// used since.
pub fn refreshed(maps: &Maps, flow: &Flow, unused: bool) -> Option<Flow> {
    match flow {
        Flow::V4(found) => refresh(maps, found, unused).map(Flow::V4),
        Flow::V6(found) => refresh(maps, found, unused).map(Flow::V6),
    }
}

fn refresh<A: Family>(maps: &Maps, flow: &Found<A>, unused: bool) -> Option<Found<A>> {
    let Found { key, half } = flow;
    let found = maps.flows[A::INDEX].find(key)?;
    is_it(&found, half, unused).then_some(Found { key: *key, half: found })
}
