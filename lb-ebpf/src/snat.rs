//! Where replies are found again: in `nat` by a SNAT port, of which each VIP and backend endpoint have
//! a space, in `dnat` by the client itself. Claimed by storing a reply half.

use lb_common::addr::Ports;
use lb_common::conntrack::{FlowHalf, PortHold, flag};
use lb_common::flow::FlowKey;
use lb_common::nat::{Kind, PORT_PROBES, port_candidate};
use lb_common::selection::client_hash;
use lb_common::service::{MAX_SNAT_ADDRESSES, SnatAddress};
use lb_common::table::Refusal;

use crate::conntrack::{self, NO_ROOM, NewFlow};
use crate::family::Family;
use crate::maps::Choice;
use crate::packet::Packet;
use crate::verdict::{DropReason, Step, Verdict};

/// A candidate has no flow.
const EMPTY: u64 = 0;
/// What a candidate has is of no more use to anyone.
const FREE: u64 = 1;
/// A candidate has a live flow. Smaller values are of flows in TIME_WAIT, more for younger ones.
const LIVE: u64 = u64::MAX;
/// A candidate has a flow that no reply has confirmed; less the longer it has been silent. A flood may have taken all
/// ports: whoever has just come is answered sooner than the oldest.
const UNCONFIRMED: u64 = LIVE - 1;
/// The longest TIME_WAIT can be, and more than any other that is confirmed.
const TIME_WAIT: u64 = 1 << 32;

/// Claims a place for the replies of a new flow: the first choice of its client, then a bounded number
/// of others, then the one that has been in TIME_WAIT longest, then one that no reply has confirmed.
/// Fills `reply` and `reply_key`. In `dnat` the first choice is the client; if another of its flows
/// is there, to another VIP, this one becomes one of `nat`.
///
/// # Errors
/// What becomes of the segment: all candidates have live flows (`SnatExhausted`), or there is no room.
#[inline(always)]
pub(crate) fn claim<A: Family>(
    new: &NewFlow<'_, A>,
    packet: &Packet<A>,
    reply: &mut FlowHalf<A>,
    reply_key: &mut FlowKey<A>,
    choice: &mut Choice,
) -> Result<Kind, Step> {
    let hash = client_hash(new.key);
    let vip = candidate(new, hash, 0, reply_key);
    A::prefetch(reply_key);
    // Most often nothing is there, and storing tells without a lookup.
    let filled = fill(new, packet, reply, reply_key, 0, vip)?;
    match A::insert_new(reply_key, reply) {
        Ok(()) => return Ok(filled),
        Err(Refusal::Full) => return Err(NO_ROOM),
        Err(Refusal::Exists) => {}
    }
    choose(new, hash, reply_key, choice);
    let (attempt, evict) = (choice.attempt(), choice.occupancy());
    let vip = candidate(new, hash, attempt, reply_key);
    if evict == LIVE {
        return Err(Verdict::Drop(DropReason::SnatExhausted).into());
    }
    if evict != EMPTY
        && let Some(occupant) = A::half(reply_key)
        && occupant.is_confirmed()
    {
        if evict > TIME_WAIT {
            // It has been confirmed since it was looked at.
            return Err(Verdict::Drop(DropReason::SnatExhausted).into());
        }
        conntrack::remove_by_reply(reply_key, occupant);
    }
    let kind = fill(new, packet, reply, reply_key, attempt, vip)?;
    match store(reply_key, reply, evict) {
        Ok(()) => Ok(kind),
        Err(Refusal::Exists) => Err(Verdict::Drop(DropReason::FlowInsert).into()),
        Err(Refusal::Full) => Err(NO_ROOM),
    }
}

/// Fills `reply` for the candidate that `reply_key` is; its translation.
#[inline(always)]
fn fill<A: Family>(
    new: &NewFlow<'_, A>,
    packet: &Packet<A>,
    reply: &mut FlowHalf<A>,
    reply_key: &FlowKey<A>,
    attempt: u32,
    vip: u32,
) -> Result<Kind, Verdict> {
    let kind = kind_of(new, attempt);
    if !conntrack::fill_reply(reply, new, reply_key, kind, packet) {
        return Err(Verdict::Drop(DropReason::NoNextHop));
    }
    reply.vip = vip as u16;
    Ok(kind)
}

/// What was found there gives way: the other CPU's half of this very flow, or one that no reply has confirmed. But not
/// one that came since it was looked at.
#[inline(always)]
fn store<A: Family>(
    reply_key: &FlowKey<A>,
    reply: &FlowHalf<A>,
    evict: u64,
) -> Result<(), Refusal> {
    if evict != EMPTY
        && let Some(found) = A::half(reply_key)
        && !found.is_confirmed()
    {
        // Whoever had the port looks from now on what has become of it.
        if let Some(loser) = A::half(&found.translation.peer_key()) {
            loser.note_answer();
        }
        A::replace(reply_key, reply)
    } else {
        A::insert_new(reply_key, reply)
    }
}

/// The attempt to take, and what occupies it: the first free one, else the longest in TIME_WAIT,
/// else an unconfirmed one.
#[inline(always)]
fn choose<A: Family>(
    new: &NewFlow<'_, A>,
    hash: u64,
    reply_key: &mut FlowKey<A>,
    best: &mut Choice,
) {
    best.set(0, LIVE);
    for attempt in 0..PORT_PROBES {
        let occupancy = occupancy(new, hash, attempt, reply_key);
        if occupancy < best.occupancy() {
            best.set(attempt, occupancy);
        }
        if occupancy <= FREE {
            break;
        }
    }
}

/// A backend on this node gets nothing from an address of ours, so that it has one choice only.
#[inline(always)]
fn kind_of<A>(new: &NewFlow<'_, A>, attempt: u32) -> Kind {
    if attempt == 0 || new.backend.is_local() { new.kind } else { Kind::Nat }
}

/// Makes `reply_key` that of the client's `attempt`th choice, and returns the VIP whose lease it is
/// under.
#[inline(always)]
fn candidate<A: Family>(
    new: &NewFlow<'_, A>,
    hash: u64,
    attempt: u32,
    reply_key: &mut FlowKey<A>,
) -> u32 {
    let backend = &new.backend.endpoint;
    let source = A::from_ip(backend.address);
    if kind_of(new, attempt) == Kind::Dnat {
        let ports = Ports::new(backend.port, new.key.ports.src());
        *reply_key = FlowKey::new(source, new.key.src, ports);
        return new.service.vip;
    }
    let service = new.service;
    let snat = snat_address(new, hash, attempt);
    let port = port_candidate(hash, attempt, service.snat_port_min, service.snat_port_count());
    *reply_key = FlowKey::new(source, A::from_ip(snat.address), Ports::new(backend.port, port));
    snat.vip
}

#[inline(always)]
fn snat_address<'a, A>(new: &NewFlow<'a, A>, hash: u64, attempt: u32) -> &'a SnatAddress {
    let count = u32::from(new.service.snat_count.max(1));
    let index = ((hash >> 48) as u32).wrapping_add(attempt) % count;
    &new.service.snat[index as usize & (MAX_SNAT_ADDRESSES - 1)]
}

/// What is behind the client's `attempt`th choice: [`EMPTY`], [`FREE`], [`LIVE`], or how recent what is there.
#[inline(never)]
fn occupancy<A: Family>(
    new: &NewFlow<'_, A>,
    hash: u64,
    attempt: u32,
    reply_key: &mut FlowKey<A>,
) -> u64 {
    candidate(new, hash, attempt, reply_key);
    let Some(occupant) = A::half(reply_key) else { return EMPTY };
    if !occupant.is_confirmed() {
        return half_open_occupancy(new, occupant);
    }
    if occupant.translation.answers(new.key) {
        // This very flow, whose original half was lost.
        return FREE;
    }
    match occupant.port_hold(&new.service.timeouts, new.now) {
        PortHold::Free => FREE,
        PortHold::TimeWait => TIME_WAIT - u64::from(new.now.since(occupant.last_seen)),
        PortHold::Live => LIVE,
    }
}

/// A half-open port is free for its own client, and after a flow that failed or expired.
#[inline(always)]
fn half_open_occupancy<A: Family>(new: &NewFlow<'_, A>, occupant: &FlowHalf<A>) -> u64 {
    let idle = new.now.since(occupant.last_seen);
    if idle >= new.service.timeouts.half_open
        || occupant.has(flag::RST)
        || occupant.translation.answers(new.key)
    {
        FREE
    } else {
        UNCONFIRMED - u64::from(idle)
    }
}
