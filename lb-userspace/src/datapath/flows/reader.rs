//! The flows of a family, a slice at a time.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Pod;
use aya::maps::MapData;
use lb_common::addr::Address;
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;
use lb_common::time::Ticks;

use super::Halves;
use crate::control::flows::Facts;
use crate::datapath::maps::{FlowMaps, Maps};
use crate::datapath::now;
use crate::datapath::removals::Removals;
use crate::datapath::stale::Found;
use crate::datapath::sweep::{Family, rules};
use crate::datapath::sys::{self, Progress, Walk};

/// Halves read at a time.
const SLICE: usize = 4096;

/// The flow maps of a family, read in slices.
pub(in crate::datapath) struct Reader<A> {
    established: OwnedFd,
    half_open: OwnedFd,
    walk: Walk,
    in_half_open: bool,
    only_established: bool,
    family: PhantomData<A>,
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
        let FlowMaps { established, half_open } = &maps.flows[A::INDEX];
        let own = |map: &MapData| map.fd().as_fd().try_clone_to_owned();
        Ok(Self::of(own(established)?, own(half_open)?, false))
    }

    /// Of confirmed flows.
    pub(in crate::datapath) fn of_established(map: OwnedFd) -> io::Result<Self> {
        Ok(Self::of(map.try_clone()?, map, true))
    }

    fn of(established: OwnedFd, half_open: OwnedFd, only_established: bool) -> Self {
        Self {
            established,
            half_open,
            walk: Walk::new(size_of::<FlowKey<A>>(), size_of::<FlowHalf<A>>(), SLICE),
            in_half_open: false,
            only_established,
            family: PhantomData,
        }
    }

    pub(super) fn maps<'a>(&'a self, removals: &'a Removals) -> Halves<'a> {
        let (established, half_open) = (self.established.as_fd(), self.half_open.as_fd());
        Halves { established, half_open, removals }
    }

    /// Visits the flows of the next slice. `true`: it was the last one.
    pub(in crate::datapath) fn slice(&mut self, visitor: &mut impl Visit<A>) -> io::Result<bool> {
        let now = now::ticks();
        let half_open = self.in_half_open;
        let map = if half_open { self.half_open.as_fd() } else { self.established.as_fd() };
        let progress = self.walk.slice(map, |key, half| {
            if let (Some(key), Some(half)) =
                (sys::from_bytes::<FlowKey<A>>(key), sys::from_bytes::<FlowHalf<A>>(half))
                && half.is_original()
                && !half.has(flag::PROMOTED)
                && visitor.wants(&key, &half)
            {
                let reply = reply_of(map, &key, &half)?;
                visitor.see(Seen { found: Found { key, half }, reply, half_open, now });
            }
            Ok(())
        })?;
        let complete = progress == Progress::Complete;
        if complete && !self.only_established {
            self.in_half_open = !half_open;
        }
        Ok(complete && (half_open || self.only_established))
    }
}

fn reply_of<A: Family>(
    map: BorrowedFd<'_>,
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
    let reply: Option<FlowHalf<A>> = rules::find(map, &half.translation.peer_key())?;
    Ok(reply.filter(|reply| reply.translation.answers(key)))
}
