//! Reads the flows of both families, and removes some: for the API. I/O.
//!
//! A reader has descriptors of its own and works on another thread than the main loop's. It reads in
//! slices of a few thousand halves; whoever comes or goes meanwhile may be missed.

use std::io;

use aya::Pod;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;

use super::halves::HalfMap;
use super::maps::Maps;
use super::removals::Removals;
use super::stale::{Flow, Found};
use super::sweep::{Family, rules};
use crate::control::flows::Facts;
use crate::control::trace::FlowMap;
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

/// The flow maps.
pub struct FlowReader {
    v4: Reader<Ipv4Be>,
    v6: Reader<Ipv6Be>,
    second: bool,
    removals: Removals,
}

impl FlowReader {
    /// Goes on working after `maps` are gone.
    pub fn new(maps: &Maps) -> io::Result<Self> {
        let removals = maps.removals.clone();
        Ok(Self { v4: Reader::new(maps)?, v6: Reader::new(maps)?, second: false, removals })
    }
}

impl FlowSource for FlowReader {
    fn slice(&mut self, records: &mut Vec<Record>) -> io::Result<bool> {
        if self.second {
            return self.v6.slice(records);
        }
        self.second = self.v4.slice(records)?;
        Ok(false)
    }

    fn remove(&self, flow: &Flow, unused: bool) -> io::Result<bool> {
        let removed = match flow {
            Flow::V4(found) => self.v4.maps(&self.removals).remove(found, unused),
            Flow::V6(found) => self.v6.maps(&self.removals).remove(found, unused),
        };
        self.removals.push(Why::Purged, || flow.id());
        removed
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

/// The maps of a family.
struct Halves<'a> {
    established: HalfMap<'a>,
    half_open: HalfMap<'a>,
    removals: &'a Removals,
}

impl Halves<'_> {
    /// Original half, then reply half, so that nobody adopts a half that is about to go.
    fn remove<A: Family>(&self, flow: &Found<A>, unused: bool) -> io::Result<bool>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let Found { key, half } = flow;
        let is_it = |found: &FlowHalf<A>| is_it(found, half, unused);
        let confirmed = self.established.remove_if(key, is_it)?;
        let other = self
            .half_open
            .remove_if(key, |found| is_it(found) || confirmed && found.has(flag::PROMOTED))?;
        if other && !confirmed && rules::counts_as_half_open(half) {
            self.removals.note_half_open();
        }
        let removed = confirmed || other;
        if removed && !half.is_alone() {
            let is_its = |reply: &FlowHalf<A>| {
                reply.translation.answers(key)
                    && (reply.backend, reply.epoch) == (half.backend, half.epoch)
            };
            let peer_key = half.translation.peer_key();
            self.established.remove_if(&peer_key, is_its)?;
            self.half_open.remove_if(&peer_key, is_its)?;
        }
        Ok(removed)
    }
}

/// The same flow, which may have gone on. A later one with its addresses and ports has none of the
/// flags that its end had.
fn is_it<A: Family>(found: &FlowHalf<A>, half: &FlowHalf<A>, unused: bool) -> bool {
    // What a segment after a RST clears, the first one after a take-over, and what is left of a guess
    // that was right.
    let stay = half.flags & !(flag::RST | flag::PEER_RST | flag::MID_STREAM | flag::REPLICA);
    found.translation == half.translation
        && (found.backend, found.epoch) == (half.backend, half.epoch)
        && found.flags & stay == stay
        && !found.has(flag::PROMOTED)
        && (!unused || found.last_seen == half.last_seen)
}

/// Removes a flow as [`FlowSource::remove`] does, whether or not it has gone on.
pub fn remove(maps: &Maps, flow: &Flow) -> io::Result<bool> {
    let of = |index: usize| {
        let flows = &maps.flows[index];
        let (established, half_open) = (flows.established(), flows.half_open());
        Halves { established, half_open, removals: &maps.removals }
    };
    let removed = match flow {
        Flow::V4(found) => of(Ipv4Be::INDEX).remove(found, false),
        Flow::V6(found) => of(Ipv6Be::INDEX).remove(found, false),
    };
    maps.removals.push(Why::Purged, || flow.id());
    removed
}

/// A confirmed flow by its name, as it is now.
pub fn confirmed(maps: &Maps, id: &FlowId) -> io::Result<Option<Flow>> {
    if id.client.is_ipv4() {
        Ok(found(maps, id)?.map(Flow::V4))
    } else {
        Ok(found(maps, id)?.map(Flow::V6))
    }
}

fn found<A: Family>(maps: &Maps, id: &FlowId) -> io::Result<Option<Found<A>>>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    let key = placement::key(id.client, id.vip);
    Ok(half(maps, FlowMap::Established, &key)?.map(|half| Found { key, half }))
}

/// The flow as it is now; `None`: it is gone, or another has taken its place, or with `unused` it was
/// used since.
pub fn refreshed(maps: &Maps, flow: &Flow, unused: bool) -> io::Result<Option<Flow>> {
    Ok(match flow {
        Flow::V4(found) => refresh(maps, found, unused)?.map(Flow::V4),
        Flow::V6(found) => refresh(maps, found, unused)?.map(Flow::V6),
    })
}

fn refresh<A: Family>(maps: &Maps, flow: &Found<A>, unused: bool) -> io::Result<Option<Found<A>>>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    let Found { key, half } = *flow;
    let flows = &maps.flows[A::INDEX];
    for map in [flows.established(), flows.half_open()] {
        let found = map.find(&key)?;
        if let Some(found) = found.filter(|found| is_it(found, &half, unused)) {
            return Ok(Some(Found { key, half: found }));
        }
    }
    Ok(None)
}

/// A half of a family.
pub fn half<A: Family>(
    maps: &Maps,
    map: FlowMap,
    key: &FlowKey<A>,
) -> io::Result<Option<FlowHalf<A>>>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    let flows = &maps.flows[A::INDEX];
    match map {
        FlowMap::Established => flows.established().find(key),
        FlowMap::HalfOpen => flows.half_open().find(key),
    }
}
