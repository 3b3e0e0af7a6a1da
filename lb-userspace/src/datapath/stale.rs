//! Flows of backends that were given up: finds them, and forgets each once its client was told.
//!
//! Established ones only: a client in a handshake sends its SYN again, and one whose flow was guessed
//! has just sent something.

use std::io;
use std::net::SocketAddr;

use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::backend::BackendId;
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;

use super::maps::Maps;
use super::sweep::{Family, rules};
use super::sys::Progress;
use super::table::Walk;
use crate::control::reset_frame::Reset;
use crate::flow_log::Why;
use crate::sync::placement;
use crate::sync::record::FlowId;

/// An original half as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<A> {
    pub key: FlowKey<A>,
    pub half: FlowHalf<A>,
}

/// A flow of either family.
#[derive(Clone, Copy, Debug)]
pub enum Flow {
    V4(Found<Ipv4Be>),
    V6(Found<Ipv6Be>),
}

/// What its client is to be told, and by which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub reset: Reset,
    pub next_hop: NextHop,
}

/// A search through the established flows of both families.
#[derive(Default)]
pub struct Search {
    walk: Walk,
    second: bool,
}

impl Search {
    /// The flows of the next slice whose backend and epoch are stale, and whether it was the last slice.
    pub fn slice(
        &mut self,
        maps: &Maps,
        is_stale: impl Fn(BackendId, u16) -> bool,
    ) -> (Vec<Flow>, bool) {
        let mut flows = Vec::new();
        let progress = if self.second {
            search(&mut self.walk, maps, is_stale, |found| flows.push(Flow::V6(found)))
        } else {
            search(&mut self.walk, maps, is_stale, |found| flows.push(Flow::V4(found)))
        };
        let complete = self.second && progress == Progress::Complete;
        if progress == Progress::Complete {
            self.second = !self.second;
        }
        (flows, complete)
    }
}

fn search<A: Family>(
    walk: &mut Walk,
    maps: &Maps,
    is_stale: impl Fn(BackendId, u16) -> bool,
    mut found: impl FnMut(Found<A>),
) -> Progress {
    walk.slice(&maps.flows[A::INDEX], |key, half| {
        if half.is_original()
            && half.is_confirmed()
            && is_open(half)
            && is_stale(half.backend, half.epoch)
        {
            found(Found { key: *key, half: *half });
        }
    })
}

/// Its client may still wait for something.
const fn is_open<A>(half: &FlowHalf<A>) -> bool {
    const BOTH: u32 = flag::FIN | flag::PEER_FIN;
    !half.has(flag::RST | flag::PEER_RST) && half.flags & BOTH != BOTH
}

impl Flow {
    pub const fn backend(&self) -> BackendId {
        match self {
            Self::V4(found) => found.half.backend,
            Self::V6(found) => found.half.backend,
        }
    }

    /// Index of its VIP's lease.
    pub fn vip(&self) -> u32 {
        match self {
            Self::V4(found) => found.half.vip.into(),
            Self::V6(found) => found.half.vip.into(),
        }
    }

    /// Its client's segments came by here: this node is not only told of it by another.
    pub const fn is_own(&self) -> bool {
        match self {
            Self::V4(found) => !found.half.has(flag::REPLICA),
            Self::V6(found) => !found.half.has(flag::REPLICA),
        }
    }

    /// Its addresses and ports.
    pub fn id(&self) -> FlowId {
        match self {
            Self::V4(found) => placement::id(&found.key),
            Self::V6(found) => placement::id(&found.key),
        }
    }

    /// What to tell the client. `None`: the flow has changed since it was found, or nothing leads to
    /// the client.
    pub fn message(&self, maps: &Maps) -> io::Result<Option<Message>> {
        self.message_as(maps, !self.is_own())
    }

    /// What asks the client whether it is still there; it ends nothing. `None`: likewise.
    pub fn question(&self, maps: &Maps) -> io::Result<Option<Message>> {
        self.message_as(maps, true)
    }

    fn message_as(&self, maps: &Maps, asks: bool) -> io::Result<Option<Message>> {
        match self {
            Self::V4(found) => message(maps, found, asks),
            Self::V6(found) => message(maps, found, asks),
        }
    }

    /// Forgets the flow, unless it has changed since it was found.
    pub fn forget(&self, maps: &Maps, why: Why) {
        match self {
            Self::V4(found) => forget(maps, found, why),
            Self::V6(found) => forget(maps, found, why),
        }
    }
}

fn message<A: Family>(maps: &Maps, found: &Found<A>, asks: bool) -> io::Result<Option<Message>> {
    let table = &maps.flows[A::INDEX];
    let is_it = |half: &FlowHalf<A>| {
        half.is_confirmed() && rules::is_same(half, &found.half) && is_open(half)
    };
    let Some(half) = table.find(&found.key).filter(is_it) else { return Ok(None) };
    // Where replies go, and where there are none, where requests came from.
    let reply = if half.is_alone() { None } else { table.find(&half.translation.peer_key()) };
    let next_hop = reply
        .filter(|reply| reply.translation.answers(&found.key) && reply.next_hop.is_known())
        .map_or(half.next_hop, |reply| reply.next_hop);
    let FlowKey { src, dst, ports, .. } = found.key;
    // Of a peer's flow no way is known before the client has sent something here, nor where it is.
    let next_hop = if next_hop.is_known() { Some(next_hop) } else { maps.next_hop(src.ip())? };
    Ok(next_hop.map(|next_hop| Message {
        reset: Reset {
            from: SocketAddr::new(dst.ip().get(), ports.dst().get()),
            to: SocketAddr::new(src.ip().get(), ports.src().get()),
            seq: if asks { half.ack.wrapping_sub(1) } else { half.ack },
            ask: asks.then_some(half.seq_end),
        },
        next_hop,
    }))
}

fn forget<A: Family>(maps: &Maps, found: &Found<A>, why: Why) {
    let Found { key, half } = found;
    // The client may have made another flow meanwhile, with the same port.
    let is_its_own =
        |reply: &FlowHalf<A>| (reply.backend, reply.epoch) == (half.backend, half.epoch);
    rules::remove(&maps.flows[A::INDEX], key, half, is_its_own);
    maps.removals.push(why, || placement::id(key));
}
