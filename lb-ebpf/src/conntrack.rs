//! Flows: look after their two halves, make them, promote them, remove them. The rules are in
//! `lb_common::conntrack`.

use lb_common::backend::{Backend, SignalKind};
use lb_common::conntrack::{
    FlowHalf, Segment, TcpState, completes_handshake, confirms_guess, continues, flag, tcp,
};
use lb_common::flow::FlowKey;
use lb_common::nat::Kind;
use lb_common::time::Ticks;

use crate::clock::Now;
use crate::family::Family;
use crate::maps::{self, FlowMap, Found, Scratch};
use crate::packet::Packet;
use crate::verdict::{DropReason, ResetReason, Step, Verdict};

mod create;

pub(crate) use create::{NewFlow, create, fill_reply};

/// How often a flow's original half looks after the other one.
const CHECK_INTERVAL: u32 = Ticks::in_ns(1_000_000_000);

/// A client that has had no SYN-ACK for so long is sending its SYN again (RFC 6298 section 2.1: one
/// second, here less the clock's grain), not twice.
const SYN_RETRY: u32 = Ticks::in_ns(900_000_000);

/// What to do with a SYN that meets a flow.
pub(crate) enum OnSyn {
    /// The endpoint answers it; the flow stays as it is.
    Forward,
    /// The flow is over or was never answered: a new one takes its place.
    /// After an attempt that nobody answered, `Scratch::avoid` says whom to avoid.
    Renew { attempt: u8 },
}

/// A SYN never changes a live flow: whoever sent it may not be the client.
#[inline(never)]
pub(crate) fn on_syn<A: Family>(key: &FlowKey<A>, found: &Found<A>, now: Now) -> OnSyn {
    const ANEW: OnSyn = OnSyn::Renew { attempt: 0 };
    let half = &*found.half;
    if backend_of(half).is_none() {
        return ANEW;
    }
    if half.is_alone() {
        let over = TcpState::of_original(half).gives_way_to_syn();
        return if over { ANEW } else { OnSyn::Forward };
    }
    let Some(reply) = A::flow_in(found.map, &half.translation.peer_key()) else {
        return ANEW;
    };
    if !reply.translation.answers(key) {
        // Another flow was given the port.
        return ANEW;
    }
    let state = TcpState::of(half, reply);
    if state.gives_way_to_syn() {
        return ANEW;
    }
    if state == TcpState::SynSent && now.ticks.since(half.checked) >= SYN_RETRY {
        maps::signal(half.backend, SignalKind::Unanswered, now.ns);
        if let Some(scratch) = A::scratch() {
            scratch.avoid = half.backend;
        }
        return OnSyn::Renew { attempt: half.attempts.wrapping_add(1) };
    }
    // The client may have another MAC since, and a handshake has nobody else to look after it. Only
    // what the controller knows counts: the SYN may be forged.
    if found.map == FlowMap::HalfOpen
        && let Some(next_hop) = maps::next_hop(&key.src.ip())
    {
        reply.next_hop = *next_hop;
    }
    OnSyn::Forward
}

/// The flow's backend; `None`: it was given up since the flow was made.
#[inline(always)]
pub(crate) fn backend_of<A>(half: &FlowHalf<A>) -> Option<&'static Backend> {
    maps::backend(half.backend).filter(|backend| backend.epoch == half.epoch)
}

/// A SYN opens a flow, and so does data: its flow may have been known to a predecessor.
///
/// # Errors
/// What becomes of RST and FIN, which create nothing.
#[inline(always)]
pub(crate) fn check_opens(segment: &Segment) -> Result<(), Step> {
    const MASK: u8 = tcp::SYN | tcp::ACK | tcp::FIN | tcp::RST;
    const FIN_ACK: u8 = tcp::FIN | tcp::ACK;
    match segment.flags & MASK {
        tcp::SYN | tcp::ACK => Ok(()),
        tcp::FIN | FIN_ACK => Err(Step::AnswerReset(ResetReason::NoFlow)),
        flags if flags & (tcp::RST | tcp::SYN) == tcp::RST => {
            Err(Verdict::Drop(DropReason::RstWithoutFlow).into())
        }
        _ => Err(Verdict::Drop(DropReason::BadFlags).into()),
    }
}

/// Once a second an original half looks after the other one, and a reply half after its way.
#[inline(always)]
pub(crate) fn is_check_due<A>(half: &FlowHalf<A>, now: Now) -> bool {
    now.ticks.since(half.checked) >= CHECK_INTERVAL
}

/// Progress of a flow by a client's segment other than a SYN.
///
/// # Errors
/// The client is to be told that the connection is lost.
#[inline(always)]
pub(crate) fn request<A: Family>(
    key: &FlowKey<A>,
    found: &Found<A>,
    packet: &Packet<A>,
    now: Now,
) -> Result<(), ResetReason> {
    // The reference in `found` is the only one in use here: `half` reborrows the map's memory.
    let half = reborrow(found);
    let segment = &packet.segment;
    if segment.is_control() || half.has(flag::RST) || half.is_alone() {
        control(found.map, half, segment, now);
        return Ok(());
    }
    if found.map == FlowMap::HalfOpen && !half.has(flag::MID_STREAM) {
        return handshake(key, half, segment, now);
    }
    half.advance(segment, now.ticks);
    if is_check_due(half, now) {
        half.checked = now.ticks;
        look_after_reply(key, found.map, half, packet, now);
    }
    Ok(())
}

/// Progress of a confirmed flow, or of a handshake, by a backend's segment.
#[inline(always)]
pub(crate) fn reply<A: Family>(found: &Found<A>, packet: &Packet<A>, now: Now) {
    let half = reborrow(found);
    let segment = &packet.segment;
    if segment.is_control() || half.has(flag::RST) {
        control(found.map, half, segment, now);
    } else if found.map == FlowMap::Established {
        half.advance(segment, now.ticks);
        if is_check_due(half, now) {
            half.checked = now.ticks;
            look_after_way(half);
        }
    }
}

/// A client that only listens sends nothing that would tell its new address on the link.
#[inline(never)]
fn look_after_way<A: Family>(half: &mut FlowHalf<A>) -> bool {
    let Some(next_hop) = maps::next_hop(&half.translation.dst.ip()) else {
        return false;
    };
    let changed = half.next_hop != *next_hop;
    if changed {
        half.next_hop = *next_hop;
    }
    changed
}

#[inline(always)]
fn reborrow<'a, A>(found: &Found<A>) -> &'a mut FlowHalf<A> {
    let pointer = core::ptr::from_ref::<FlowHalf<A>>(found.half).cast_mut();
    // SAFETY: `found.half` came from a mutable pointer to the map's memory, which outlives the run;
    // callers use one of the two references at a time.
    unsafe { &mut *pointer }
}

/// SYN-ACK, FIN and RST, the first segment after a RST, and all segments of `dsr`.
// Not inlined, like all that a segment in mid-flow has no use for: the stack frame of the program
// and that of `open` share 512 bytes.
#[inline(never)]
fn control<A: Family>(map: FlowMap, half: &mut FlowHalf<A>, segment: &Segment, now: Now) {
    if segment.has(tcp::SYN) {
        // In an established flow it is a duplicate, or forged.
        if map == FlowMap::HalfOpen && !half.is_original() && segment.has(tcp::ACK) {
            half.set(flag::SYN);
            half.seq_end = segment.end();
            half.ack = segment.ack;
            half.last_seen = now.ticks;
        }
        return;
    }
    if half.is_alone() {
        alone(map, half, segment, now);
        return;
    }
    let Some(peer) = A::flow_in(map, &half.translation.peer_key()) else {
        return;
    };
    if segment.has(tcp::FIN | tcp::RST) {
        let unanswered = flag::ORIGINAL | flag::SYN | flag::MID_STREAM | flag::RST;
        let silent = !half.has(unanswered);
        half.close(peer, segment, now.ticks);
        if silent && half.has(flag::RST) {
            maps::signal(half.backend, SignalKind::Refused, now.ns);
        }
    } else {
        half.revive(peer);
        half.advance(segment, now.ticks);
    }
}

/// A client's segment of a flow of `dsr`, which has one half.
#[inline(always)]
fn alone<A: Family>(map: FlowMap, half: &mut FlowHalf<A>, segment: &Segment, now: Now) {
    if segment.has(tcp::FIN | tcp::RST) {
        half.close_alone(segment, now.ticks);
        return;
    }
    let promoted = map == FlowMap::HalfOpen && continues(half, segment);
    half.clear(flag::RST);
    half.advance(segment, now.ticks);
    half.checked = now.ticks;
    if promoted {
        // A SYN acknowledges nothing, so that there was nothing to go forward from.
        half.ack = segment.ack;
        half.set(flag::CONFIRMED);
        let key = half.translation.key();
        // Where there is no room the half-open map serves as well, for as long as it has room.
        if A::replace(FlowMap::Established, &key, half).is_ok() {
            half.set(flag::PROMOTED);
        }
        maps::count_connection(half.backend);
    }
}

/// The client's first segment after its SYN: if it completes the handshake, the flow is promoted.
#[inline(never)]
fn handshake<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    segment: &Segment,
    now: Now,
) -> Result<(), ResetReason> {
    let peer_key = half.translation.peer_key();
    let Some(peer) = A::half_open(&peer_key) else {
        return Ok(());
    };
    if !peer.translation.answers(key) {
        // Another flow was given the port, and this one is lost.
        return Err(ResetReason::NoFlow);
    }
    if !completes_handshake(peer, segment) {
        return Ok(());
    }
    half.ack = segment.ack;
    half.last_seen = now.ticks;
    half.checked = now.ticks;
    promote(key, half, &peer_key, peer)
}

/// Copies a confirmed flow to the established map, the reply half first: whoever finds the original
/// half there finds the other one too.
#[inline(always)]
fn promote<A: Family>(
    key: &FlowKey<A>,
    original: &mut FlowHalf<A>,
    reply_key: &FlowKey<A>,
    reply: &mut FlowHalf<A>,
) -> Result<(), ResetReason> {
    original.set(flag::CONFIRMED);
    reply.set(flag::CONFIRMED);
    let stored = A::replace(FlowMap::Established, reply_key, reply)
        .and_then(|()| A::replace(FlowMap::Established, key, original));
    if stored.is_err() {
        A::remove_half(key);
        A::remove_half(reply_key);
        return Err(ResetReason::TableFull);
    }
    original.set(flag::PROMOTED);
    reply.set(flag::PROMOTED);
    maps::count_connection(original.backend);
    Ok(())
}

/// A backend's segment of a flow that was guessed from a segment without state.
///
/// # Errors
/// The guess was wrong, or there is no room: the client is to be told. The half then ends where the
/// client expects it to.
#[inline(never)]
pub(crate) fn confirm_guess<A: Family>(
    key: &FlowKey<A>,
    found: &Found<A>,
    packet: &Packet<A>,
    now: Now,
) -> Result<(), ResetReason> {
    let half = reborrow(found);
    let segment = &packet.segment;
    let original_key = half.translation.peer_key();
    let Some(original) = A::flow_in(found.map, &original_key) else {
        return Ok(());
    };
    if segment.has(tcp::RST) {
        half.close(original, segment, now.ticks);
        return Ok(());
    }
    if !confirms_guess(original, segment) {
        half.seq_end = original.ack;
        A::remove_half(&original_key);
        A::remove_half(key);
        return Err(ResetReason::Unconfirmed);
    }
    let expected = original.ack;
    half.seq_end = segment.end();
    half.ack = segment.ack;
    half.last_seen = now.ticks;
    half.set(flag::CONFIRMED);
    if segment.has(tcp::FIN) {
        half.close(original, segment, now.ticks);
    }
    // What the segment carries is not delivered if there is no room.
    promote(&original_key, original, key, half).inspect_err(|_| half.seq_end = expected)
}

/// Once a second: is the other half still there, and does its next hop still hold?
#[inline(never)]
fn look_after_reply<A: Family>(
    key: &FlowKey<A>,
    map: FlowMap,
    half: &mut FlowHalf<A>,
    packet: &Packet<A>,
    now: Now,
) {
    half.next_hop = packet.came_from(maps::link_id(packet.ingress));
    let next_hop = *maps::next_hop(&key.src.ip()).unwrap_or(&half.next_hop);
    let reply_key = half.translation.peer_key();
    if let Some(reply) = A::flow_in(map, &reply_key) {
        if reply.next_hop != next_hop {
            reply.next_hop = next_hop;
        }
        return;
    }
    let kind = if half.kind == Kind::Dnat as u8 { Kind::Dnat } else { Kind::Nat };
    let source = if kind == Kind::Dnat { key.dst } else { half.translation.src };
    let Some(vip) = maps::vip(source.ip()) else {
        return;
    };
    let Some(Scratch { half: reply, .. }) = A::scratch() else { return };
    reply.init(kind, &reply_key, &key.reversed());
    reply.flags = half.flags & (flag::CONFIRMED | flag::MID_STREAM) | flag::SYN;
    reply.seq_end = half.ack;
    reply.ack = half.seq_end;
    reply.backend = half.backend;
    reply.epoch = half.epoch;
    reply.service = half.service;
    reply.vip = vip as u16;
    reply.last_seen = now.ticks;
    reply.checked = now.ticks;
    reply.next_hop = next_hop;
    // Another client's flow may have the port by now; then the backend tells this one.
    let _ = A::insert_new(map, &reply_key, reply);
}

/// Removes a flow: original, then reply, so that nobody adopts a half that is about to go.
#[inline(never)]
pub(crate) fn remove<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>) {
    let reply_key = half.translation.peer_key();
    let alone = half.is_alone();
    A::remove_half(key);
    if alone {
        return;
    }
    // The port may be another flow's by now.
    if A::established(&reply_key)
        .or_else(|| A::half_open(&reply_key))
        .is_some_and(|reply| reply.translation.answers(key))
    {
        A::remove_half(&reply_key);
    }
}

/// Removes the flow that a reply half belongs to, if its original half still says so.
#[inline(always)]
pub(crate) fn remove_by_reply<A: Family>(reply_key: &FlowKey<A>, reply: &FlowHalf<A>) {
    let key = reply.translation.peer_key();
    if A::established(&key).is_some_and(|original| original.translation.answers(reply_key)) {
        A::remove_half(&key);
    }
    A::remove_half(reply_key);
}
