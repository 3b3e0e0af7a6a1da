//! Flows: look after their two halves, make them, promote them, remove them. The rules are in
//! `lb_common::conntrack`.

use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{
    FlowHalf, Segment, TcpState, completes_handshake, confirms_guess, flag, tcp,
};
use lb_common::flow::FlowKey;
use lb_common::nat::Translation;
use lb_common::service::Service;

use crate::maps::{self, FlowMap, Found, Ip, Scratch};
use crate::packet::Packet;
use crate::snat;
use crate::verdict::{DropReason, ResetReason, Verdict};

/// How often a flow's original half looks after the other one.
const CHECK_INTERVAL: u64 = 1_000_000_000;

/// A client that has had no SYN-ACK for so long is sending its SYN again (RFC 6298 section 2.1: one
/// second, here less the clock's grain), not twice.
const SYN_RETRY: u64 = 900_000_000;

/// What to do with a SYN that meets a flow.
pub(crate) enum OnSyn {
    /// The endpoint answers it; the flow stays as it is.
    Forward,
    /// The flow is over or was never answered: a new one takes its place.
    Renew { attempt: u8 },
}

/// A SYN never changes a live flow: whoever sent it may not be the client.
#[inline(never)]
pub(crate) fn on_syn(key: &FlowKey<Ip>, found: &Found, now: u64) -> OnSyn {
    const ANEW: OnSyn = OnSyn::Renew { attempt: 0 };
    let half = &*found.half;
    let Some(reply) = maps::flow_in(found.map, &half.translation.peer_key()) else {
        return ANEW;
    };
    if reply.translation.peer_key() != *key {
        // Another flow was given the port.
        return ANEW;
    }
    let state = TcpState::of(half, reply);
    if state.gives_way_to_syn() || is_given_up(half) {
        return ANEW;
    }
    if state == TcpState::SynSent && now.saturating_sub(half.checked) >= SYN_RETRY {
        return OnSyn::Renew { attempt: half.attempts.wrapping_add(1) };
    }
    // The client may have another MAC since, and a handshake has nobody else to look after it. Only
    // what the controller knows counts: the SYN may be forged.
    if found.map == FlowMap::HalfOpen
        && let Some(next_hop) = maps::next_hop(key.src)
    {
        reply.next_hop = *next_hop;
    }
    OnSyn::Forward
}

/// The flow's backend was given up since the flow was made.
#[inline(always)]
fn is_given_up(half: &FlowHalf<Ip>) -> bool {
    maps::backend(half.backend).is_none_or(|backend| backend.epoch != half.epoch)
}

/// What to do with a segment of no flow that is for a service.
pub(crate) enum Unknown {
    Open,
    Reset(ResetReason),
}

/// A SYN opens a flow, and so does data: its flow may have been known to a predecessor. RST and FIN
/// create nothing.
#[inline(always)]
pub(crate) fn on_unknown(segment: &Segment) -> Result<Unknown, Verdict> {
    const MASK: u8 = tcp::SYN | tcp::ACK | tcp::FIN | tcp::RST;
    const FIN_ACK: u8 = tcp::FIN | tcp::ACK;
    match segment.flags & MASK {
        tcp::SYN | tcp::ACK => Ok(Unknown::Open),
        tcp::FIN | FIN_ACK => Ok(Unknown::Reset(ResetReason::NoFlow)),
        flags if flags & (tcp::RST | tcp::SYN) == tcp::RST => {
            Err(Verdict::Drop(DropReason::RstWithoutFlow))
        }
        _ => Err(Verdict::Drop(DropReason::BadFlags)),
    }
}

/// Progress of a flow by a client's segment other than a SYN.
///
/// # Errors
/// The client is to be told that the connection is lost.
#[inline(always)]
pub(crate) fn request(
    key: &FlowKey<Ip>,
    found: &Found,
    packet: &Packet,
    now: u64,
) -> Result<(), ResetReason> {
    // The reference in `found` is the only one in use here: `half` reborrows the map's memory.
    let half = reborrow(found);
    let segment = &packet.segment;
    if !segment.has(tcp::RST) && is_given_up(half) {
        return Err(ResetReason::BackendDown);
    }
    if segment.is_control() || half.has(flag::RST) {
        control(found.map, half, segment, now);
        return Ok(());
    }
    if found.map == FlowMap::HalfOpen && !half.has(flag::MID_STREAM) {
        return handshake(key, half, segment, now);
    }
    half.advance(segment, now);
    if now.saturating_sub(half.checked) >= CHECK_INTERVAL {
        half.checked = now;
        look_after_reply(key, found.map, half, packet, now);
    }
    Ok(())
}

/// Progress of a confirmed flow, or of a handshake, by a backend's segment.
#[inline(always)]
pub(crate) fn reply(found: &Found, packet: &Packet, now: u64) {
    let half = reborrow(found);
    let segment = &packet.segment;
    if segment.is_control() || half.has(flag::RST) {
        control(found.map, half, segment, now);
    } else if found.map == FlowMap::Established {
        half.advance(segment, now);
    }
}

#[inline(always)]
fn reborrow<'a>(found: &Found) -> &'a mut FlowHalf<Ip> {
    let pointer = core::ptr::from_ref::<FlowHalf<Ip>>(found.half).cast_mut();
    // SAFETY: `found.half` came from a mutable pointer to the map's memory, which outlives the run;
    // callers use one of the two references at a time.
    unsafe { &mut *pointer }
}

/// SYN-ACK, FIN and RST, and the first segment after a RST.
// Not inlined, like all that a segment in mid-flow has no use for: the stack frame of the program
// and that of `open` share 512 bytes.
#[inline(never)]
fn control(map: FlowMap, half: &mut FlowHalf<Ip>, segment: &Segment, now: u64) {
    if segment.has(tcp::SYN) {
        // In an established flow it is a duplicate, or forged.
        if map == FlowMap::HalfOpen && !half.is_original() && segment.has(tcp::ACK) {
            half.flags |= flag::SYN;
            half.seq_end = segment.end();
            half.ack = segment.ack;
            half.last_seen = now;
        }
        return;
    }
    let Some(peer) = maps::flow_in(map, &half.translation.peer_key()) else {
        return;
    };
    if segment.has(tcp::FIN | tcp::RST) {
        half.close(peer, segment, now);
    } else {
        half.revive(peer);
        half.advance(segment, now);
    }
}

/// The client's first segment after its SYN: if it completes the handshake, the flow is promoted.
#[inline(never)]
fn handshake(
    key: &FlowKey<Ip>,
    half: &mut FlowHalf<Ip>,
    segment: &Segment,
    now: u64,
) -> Result<(), ResetReason> {
    let peer_key = half.translation.peer_key();
    let Some(peer) = maps::half_open(&peer_key) else {
        return Ok(());
    };
    if peer.translation.peer_key() != *key {
        // Another flow was given the port, and this one is lost.
        return Err(ResetReason::NoFlow);
    }
    if !completes_handshake(peer, segment) {
        return Ok(());
    }
    half.ack = segment.ack;
    half.last_seen = now;
    half.checked = now;
    promote(key, half, &peer_key, peer)
}

/// Copies a confirmed flow to the established map, the reply half first: whoever finds the original
/// half there finds the other one too.
#[inline(always)]
fn promote(
    key: &FlowKey<Ip>,
    original: &mut FlowHalf<Ip>,
    reply_key: &FlowKey<Ip>,
    reply: &mut FlowHalf<Ip>,
) -> Result<(), ResetReason> {
    original.flags |= flag::CONFIRMED;
    reply.flags |= flag::CONFIRMED;
    let stored = maps::replace(FlowMap::Established, reply_key, reply)
        .and_then(|()| maps::replace(FlowMap::Established, key, original));
    if stored.is_err() {
        maps::remove_half(key);
        maps::remove_half(reply_key);
        return Err(ResetReason::TableFull);
    }
    original.flags |= flag::PROMOTED;
    reply.flags |= flag::PROMOTED;
    maps::count_connection(original.backend);
    Ok(())
}

/// A backend's segment of a flow that was guessed from a segment without state.
///
/// # Errors
/// The guess was wrong, or there is no room: the client is to be told. The half then ends where the
/// client expects it to.
#[inline(never)]
pub(crate) fn confirm_guess(
    key: &FlowKey<Ip>,
    found: &Found,
    packet: &Packet,
    now: u64,
) -> Result<(), ResetReason> {
    let half = reborrow(found);
    let segment = &packet.segment;
    let original_key = half.translation.peer_key();
    let Some(original) = maps::flow_in(found.map, &original_key) else {
        return Ok(());
    };
    if segment.has(tcp::RST) {
        half.close(original, segment, now);
        return Ok(());
    }
    if !confirms_guess(original, segment) {
        half.seq_end = original.ack;
        maps::remove_half(&original_key);
        maps::remove_half(key);
        return Err(ResetReason::Unconfirmed);
    }
    let expected = original.ack;
    half.seq_end = segment.end();
    half.ack = segment.ack;
    half.last_seen = now;
    half.flags |= flag::CONFIRMED;
    if segment.has(tcp::FIN) {
        half.close(original, segment, now);
    }
    // What the segment carries is not delivered if there is no room.
    promote(&original_key, original, key, half).inspect_err(|_| half.seq_end = expected)
}

/// Once a second: is the other half still there, and does its next hop still hold?
#[inline(never)]
fn look_after_reply(
    key: &FlowKey<Ip>,
    map: FlowMap,
    half: &mut FlowHalf<Ip>,
    packet: &Packet,
    now: u64,
) {
    half.next_hop = packet.came_from();
    let next_hop = *maps::next_hop(key.src).unwrap_or(&half.next_hop);
    let reply_key = half.translation.peer_key();
    if let Some(reply) = maps::flow_in(map, &reply_key) {
        if reply.next_hop != next_hop {
            reply.next_hop = next_hop;
        }
        return;
    }
    let Some(vip) = maps::vip(half.translation.src) else {
        return;
    };
    let Some(Scratch { half: reply, .. }) = maps::scratch() else { return };
    reply.init(Translation::reversed(key), &reply_key);
    reply.flags = half.flags & (flag::CONFIRMED | flag::MID_STREAM) | flag::SYN;
    reply.seq_end = half.ack;
    reply.ack = half.seq_end;
    reply.backend = half.backend;
    reply.epoch = half.epoch;
    reply.service = half.service;
    reply.vip = vip;
    reply.last_seen = now;
    reply.checked = now;
    reply.next_hop = next_hop;
    // Another client's flow may have the port by now; then the backend tells this one.
    let _ = maps::insert_new(map, &reply_key, reply);
}

/// Removes a flow: original, then reply, so that nobody adopts a half that is about to go.
#[inline(always)]
pub(crate) fn remove(key: &FlowKey<Ip>, half: &FlowHalf<Ip>) {
    let reply_key = half.translation.peer_key();
    maps::remove_half(key);
    // The port may be another flow's by now.
    if maps::established(&reply_key)
        .or_else(|| maps::half_open(&reply_key))
        .is_some_and(|reply| reply.translation.peer_key() == *key)
    {
        maps::remove_half(&reply_key);
    }
}

/// Removes the flow that a reply half belongs to, if its original half still says so.
#[inline(always)]
pub(crate) fn remove_by_reply(reply_key: &FlowKey<Ip>, reply: &FlowHalf<Ip>) {
    let key = reply.translation.peer_key();
    if maps::established(&key).is_some_and(|original| original.translation.peer_key() == *reply_key)
    {
        maps::remove_half(&key);
    }
    maps::remove_half(reply_key);
}

/// A flow that is to be made.
pub(crate) struct NewFlow<'a> {
    pub(crate) key: &'a FlowKey<Ip>,
    pub(crate) service: &'a Service<Ip>,
    pub(crate) id: BackendId,
    pub(crate) backend: &'a Backend<Ip>,
    pub(crate) attempt: u8,
    pub(crate) now: u64,
}

/// Makes a half-open flow: claims a SNAT port by its reply half, then stores the original half.
///
/// # Errors
/// The verdict, if there is no port or no room.
#[inline(always)]
pub(crate) fn create(new: &NewFlow<'_>, packet: &Packet) -> Result<&'static FlowHalf<Ip>, Verdict> {
    let Scratch { half, choice, .. } =
        maps::scratch().ok_or(Verdict::Drop(DropReason::Inconsistent))?;
    let reply_key = snat::claim(new, packet, half, choice)?;
    fill_original(half, new, &reply_key, packet);
    if maps::insert_new(FlowMap::HalfOpen, new.key, half).is_ok() {
        maps::count_flow(new.id);
        return Ok(half);
    }
    // Another CPU made this flow at the same time: its halves win.
    let winner = maps::half_open(new.key).ok_or(Verdict::Drop(DropReason::FlowInsert))?;
    if winner.has(flag::PROMOTED) {
        // The copy of a flow that was swept.
        maps::replace(FlowMap::HalfOpen, new.key, half)
            .map_err(|()| Verdict::Drop(DropReason::FlowInsert))?;
        maps::count_flow(new.id);
        return Ok(half);
    }
    if winner.translation != half.translation {
        maps::remove_half(&reply_key);
    }
    Ok(winner)
}

#[inline(never)]
fn fill_original(
    half: &mut FlowHalf<Ip>,
    new: &NewFlow<'_>,
    reply_key: &FlowKey<Ip>,
    packet: &Packet,
) {
    let segment = &packet.segment;
    let opening = if segment.is_syn() { flag::SYN } else { flag::MID_STREAM };
    half.init(Translation::reversed(reply_key), new.key);
    half.flags = flag::ORIGINAL | opening;
    half.attempts = new.attempt;
    half.seq_end = segment.end();
    half.ack = segment.ack;
    half.window = segment.window;
    half.backend = new.id;
    half.epoch = new.backend.epoch;
    half.service = new.service.id;
    half.vip = new.service.vip;
    half.last_seen = new.now;
    half.checked = new.now;
    half.next_hop = packet.came_from();
}

/// The reply half of a new flow.
#[inline(never)]
pub(crate) fn fill_reply(
    half: &mut FlowHalf<Ip>,
    new: &NewFlow<'_>,
    reply_key: &FlowKey<Ip>,
    packet: &Packet,
) {
    let segment = &packet.segment;
    half.init(Translation::reversed(new.key), reply_key);
    half.flags = if segment.is_syn() { 0 } else { flag::MID_STREAM };
    half.attempts = new.attempt;
    half.seq_end = segment.ack;
    half.ack = segment.seq;
    half.backend = new.id;
    half.epoch = new.backend.epoch;
    half.service = new.service.id;
    half.last_seen = new.now;
    half.checked = new.now;
    half.next_hop = packet.came_from();
    if let Some(next_hop) = maps::next_hop(new.key.src) {
        half.next_hop = *next_hop;
    }
}
