//! SNAT ports: a space per VIP and backend endpoint, claimed by storing a reply half.

use lb_common::conntrack::{FlowHalf, PortHold, flag};
use lb_common::flow::FlowKey;
use lb_common::nat::{PORT_PROBES, port_candidate};
use lb_common::selection::client_hash;
use lb_common::service::{MAX_SNAT_ADDRESSES, SnatAddress};

use crate::conntrack::{self, NewFlow};
use crate::maps::{self, Choice, FlowMap, Ip};
use crate::packet::Packet;
use crate::verdict::{DropReason, Verdict};

/// A candidate is free, or its occupant is of no more use to anyone.
const FREE: u64 = 0;
/// A candidate has a live flow. Other values are when a flow in TIME_WAIT was last seen.
const LIVE: u64 = u64::MAX;
/// A candidate has a flow that no reply has confirmed.
const UNCONFIRMED: u64 = LIVE - 1;

/// Claims a port for a new flow: the first choice of its client, then a bounded number of others,
/// then the one that has been in TIME_WAIT longest, then one that no reply has confirmed. Fills
/// `reply` and returns its key.
///
/// # Errors
/// `SnatExhausted`: all candidates have live flows.
#[inline(always)]
pub(crate) fn claim(
    new: &NewFlow<'_>,
    packet: &Packet,
    reply: &mut FlowHalf<Ip>,
    choice: &mut Choice,
) -> Result<FlowKey<Ip>, Verdict> {
    let hash = client_hash(new.key);
    choose(new, hash, choice);
    let (attempt, evict) = (choice.attempt(), choice.occupancy());
    let snat = snat_address(new, hash, attempt);
    let reply_key = candidate(new, snat.address, hash, attempt);
    if let Some(occupant) = maps::established(&reply_key) {
        if evict == LIVE {
            return Err(Verdict::Drop(DropReason::SnatExhausted));
        }
        conntrack::remove_by_reply(&reply_key, occupant);
    }
    conntrack::fill_reply(reply, new, &reply_key, packet);
    reply.vip = snat.vip;
    // What is in the half-open map gives way: the other CPU's half of this very flow, the copy of a
    // flow that is over, or one that no reply has confirmed.
    maps::replace(FlowMap::HalfOpen, &reply_key, reply)
        .map_err(|()| Verdict::Drop(DropReason::FlowInsert))?;
    Ok(reply_key)
}

/// The attempt to take, and what occupies it: the first free one, else the longest in TIME_WAIT,
/// else an unconfirmed one.
#[inline(always)]
fn choose(new: &NewFlow<'_>, hash: u64, best: &mut Choice) {
    best.set(0, LIVE);
    for attempt in 0..PORT_PROBES {
        let occupancy = occupancy(new, hash, attempt);
        if occupancy < best.occupancy() {
            best.set(attempt, occupancy);
        }
        if occupancy == FREE {
            break;
        }
    }
}

/// Key of the reply half for the client's `attempt`th choice.
#[inline(always)]
fn candidate(new: &NewFlow<'_>, snat: Ip, hash: u64, attempt: u32) -> FlowKey<Ip> {
    let service = new.service;
    let port = port_candidate(hash, attempt, service.snat_port_min, service.snat_port_count());
    let backend = &new.backend.endpoint;
    FlowKey::new(backend.address, snat, backend.port, port)
}

#[inline(always)]
fn snat_address(new: &NewFlow<'_>, hash: u64, attempt: u32) -> SnatAddress<Ip> {
    let count = u32::from(new.service.snat_count.max(1));
    let index = ((hash >> 48) as u32).wrapping_add(attempt) % count;
    new.service.snat[index as usize & (MAX_SNAT_ADDRESSES - 1)]
}

/// What is behind the client's `attempt`th choice: [`FREE`], [`LIVE`] or since when TIME_WAIT.
#[inline(never)]
fn occupancy(new: &NewFlow<'_>, hash: u64, attempt: u32) -> u64 {
    let snat = snat_address(new, hash, attempt);
    let reply_key = candidate(new, snat.address, hash, attempt);
    let Some(occupant) = maps::established(&reply_key) else {
        return half_open_occupancy(new, &reply_key);
    };
    let same_client = occupant.translation.dst == new.key.src;
    match occupant.port_hold(same_client, &new.service.timeouts, new.now) {
        PortHold::Free => FREE,
        PortHold::TimeWait => occupant.last_seen,
        PortHold::Live => LIVE,
    }
}

/// A half-open port is free for its own client, and after a flow that moved on, failed or expired.
#[inline(always)]
fn half_open_occupancy(new: &NewFlow<'_>, reply_key: &FlowKey<Ip>) -> u64 {
    let Some(occupant) = maps::half_open(reply_key) else {
        return FREE;
    };
    let expired = new.now.saturating_sub(occupant.last_seen) >= new.service.timeouts.half_open;
    if expired
        || occupant.has(flag::PROMOTED | flag::RST)
        || occupant.translation.peer_key() == *new.key
    {
        FREE
    } else {
        UNCONFIRMED
    }
}
