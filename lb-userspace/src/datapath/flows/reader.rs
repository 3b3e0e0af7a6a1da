//! The flows of a family, a slice at a time.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use aya::Pod;
use lb_common::addr::Address;
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;
use lb_common::time::Ticks;

use super::Halves;
use crate::control::flows::Facts;
use crate::datapath::halves::{HalfMap, Walk};
use crate::datapath::maps::Maps;
use crate::datapath::now;
use crate::datapath::removals::Removals;
use crate::datapath::stale::Found;
use crate::datapath::sweep::Family;
use crate::datapath::sys::Progress;
use crate::datapath::table::{self, FlowTable};

/// The flow maps of a family, read in slices.
pub(in crate::datapath) struct Reader<A> {
    established: Arc<FlowTable>,
    /// `None`: only the others are read.
    half_open: Option<OwnedFd>,
    walk: Walk<A>,
    in_half_open: bool,
}

/// A flow that a slice has.
pub(in crate::datapath) struct Seen<A> {
    pub(in crate::datapath) found: Found<A>,
    /// `None` in `dsr`, or if it is missing.
    pub(in crate::datapath) reply: Option<FlowHalf<A>>,
    half_open: bool,
    now: Ticks,
}

impl<A: Address> Seen<A> {
    pub(super) fn facts(&self) -> Facts {
        let Self { found: Found { key, half }, reply, half_open, now } = self;
        Facts::of(key, half, reply.as_ref(), *half_open, *now)
    }
}

/// What is done with the flows of a slice.
pub(in crate::datapath) trait Visit<A> {
    /// Whether to look for the other half of a flow whose original half this is, and then to see it.
    fn wants(&mut self, key: &FlowKey<A>, half: &FlowHalf<A>) -> bool;

    fn see(&mut self, seen: Seen<A>);
}

impl<A: Family> Reader<A>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    /// The next slice is the first one.
    pub(in crate::datapath) fn restart(&mut self) {
        self.walk.restart();
        self.in_half_open = false;
    }

    pub(super) fn new(maps: &Maps) -> io::Result<Self> {
        let established = Arc::clone(maps.flows[A::INDEX].table());
        Ok(Self::of(established, Some(maps.half_open(A::INDEX)?)))
    }

    /// Of confirmed flows.
    pub(in crate::datapath) fn of_established(table: Arc<FlowTable>) -> Self {
        Self::of(table, None)
    }

    fn of(established: Arc<FlowTable>, half_open: Option<OwnedFd>) -> Self {
        let walk = Walk::new(table::Walk::default());
        Self { established, half_open, walk, in_half_open: false }
    }

    pub(super) fn maps<'a>(&'a self, removals: &'a Removals) -> Halves<'a> {
        let established = HalfMap::Table(&self.established);
        let half_open =
            self.half_open.as_ref().map_or(established, |map| HalfMap::Hash(map.as_fd()));
        Halves { established, half_open, removals }
    }

    /// Visits the flows of the next slice. `true`: it was the last one.
    pub(in crate::datapath) fn slice(&mut self, visitor: &mut impl Visit<A>) -> io::Result<bool> {
        let now = now::ticks();
        let second = self.half_open.as_ref().filter(|_| self.in_half_open);
        let half_open = second.is_some();
        let map = match second {
            Some(map) => HalfMap::Hash(map.as_fd()),
            None => HalfMap::Table(&self.established),
        };
        let progress = self.walk.slice(map, |key, half| {
            if half.is_original() && !half.has(flag::PROMOTED) && visitor.wants(key, half) {
                let reply = reply_of(map, key, half)?;
                let found = Found { key: *key, half: *half };
                visitor.see(Seen { found, reply, half_open, now });
            }
            Ok(())
        })?;
        let complete = progress == Progress::Complete;
        if complete && self.half_open.is_some() {
            self.in_half_open = !half_open;
        }
        Ok(complete && (half_open || self.half_open.is_none()))
    }
}

fn reply_of<A: Family>(
    map: HalfMap<'_>,
    key: &FlowKey<A>,
    half: &FlowHalf<A>,
) -> io::Result<Option<FlowHalf<A>>>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    if half.is_alone() {
        return Ok(None);
    }
    let reply = map.find(&half.translation.peer_key())?;
    Ok(reply.filter(|reply| reply.translation.answers(key)))
}
