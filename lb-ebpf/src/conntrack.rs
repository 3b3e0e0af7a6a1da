//! Flows: look after their two halves, make them, promote them, remove them. The rules are in
//! `lb_common::conntrack`.

use lb_common::backend::{Backend, SignalKind};
use lb_common::conntrack::{FlowHalf, Segment, TcpState, continues, flag, tcp};
use lb_common::flow::FlowKey;
use lb_common::time::Ticks;

use crate::clock::Now;
use crate::family::Family;
use crate::maps;
use crate::packet::Packet;
use crate::verdict::{DropReason, ResetReason, Step, Verdict};

mod confirm;
mod create;
mod look_after;
mod refused;

pub(crate) use confirm::confirm_guess;
pub(crate) use create::{NO_ROOM, NewFlow, create, fill_reply};
pub(crate) use look_after::needs_check;
pub(crate) use refused::hold_back_refusal;

use confirm::handshake;
use look_after::{look_after_reply, look_after_way, resume_reply, resume_request};

/// How often a flow is looked after at most.
const CHECK_INTERVAL: u32 = Ticks::in_ns(1_000_000_000);

/// A client that has had no SYN-ACK for so long is sending its SYN again (RFC 6298 section 2.1: one
/// second, here less the clock's grain), not twice.
const SYN_RETRY: u32 = Ticks::in_ns(900_000_000);

/// What to do with a SYN that meets a flow.
pub(crate) enum OnSyn {
    /// The endpoint answers it; the flow stays as it is.
    Forward,
    /// The flow is over or was never answered: a new one takes its place.
    /// After an attempt that nobody answered, or that was refused, `Scratch::avoid` says whom to avoid.
    Renew { attempt: u8 },
}

/// A SYN never changes a live flow: whoever sent it may not be the client.
#[inline(never)]
pub(crate) fn on_syn<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>, now: Now) -> OnSyn {
    const ANEW: OnSyn = OnSyn::Renew { attempt: 0 };
    if backend_of(half).is_none() {
        return ANEW;
    }
    if half.is_alone() {
        let over = TcpState::of_original(half).gives_way_to_syn();
        return if over { ANEW } else { OnSyn::Forward };
    }
    let Some(reply) = peer_of(key, half) else {
        return ANEW;
    };
    let state = TcpState::of(half, reply);
    if state.gives_way_to_syn() {
        return ANEW;
    }
    let refused = reply.has(flag::REFUSED);
    if state == TcpState::SynSent && (refused || now.ticks.since(half.checked) >= SYN_RETRY) {
        if !refused {
            maps::signal(half.backend, SignalKind::Unanswered, now.ns);
        }
        if let Some(scratch) = A::scratch() {
            scratch.avoid = half.backend;
        }
        return OnSyn::Renew { attempt: half.attempts.wrapping_add(1) };
    }
    // The client may have another MAC since, and a handshake has nobody else to look after it. Only
    // what the controller knows counts: the SYN may be forged.
    if !half.is_confirmed()
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

/// A half has not been looked after for a second.
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
    half: &mut FlowHalf<A>,
    packet: &Packet<A>,
    now: Now,
) -> Result<(), ResetReason> {
    let segment = &packet.segment;
    if half.has(flag::REPLICA) && !segment.has(tcp::SYN | tcp::RST) {
        resume_request(key, half, packet, now);
    }
    if segment.is_control() || half.has(flag::RST) || half.is_alone() {
        control(key, half, segment, now);
        return Ok(());
    }
    if !half.has(flag::CONFIRMED | flag::MID_STREAM) {
        return handshake(key, half, segment, now);
    }
    half.advance(segment, now.ticks);
    if is_check_due(half, now) {
        half.checked = now.ticks;
        look_after_reply(key, half, packet, now);
    }
    Ok(())
}

/// Progress of a confirmed flow, or of a handshake, by a backend's segment.
#[inline(always)]
pub(crate) fn reply<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    segment: &Segment,
    now: Now,
) {
    if half.has(flag::REPLICA) && !segment.has(tcp::SYN | tcp::RST) {
        resume_reply(half, segment);
    }
    if segment.is_control() || half.has(flag::RST) {
        control(key, half, segment, now);
    } else if half.is_confirmed() {
        half.advance(segment, now.ticks);
        if is_check_due(half, now) {
            half.checked = now.ticks;
            look_after_way(half);
        }
    }
}

/// A reply that this node's kernel sends itself, the first since a peer told of its flow: it knows the way
/// to the client, whatever the half says of it.
#[inline(always)]
pub(crate) fn resume_local<A>(half: &mut FlowHalf<A>, segment: &Segment) {
    if half.has(flag::REPLICA) && !segment.has(tcp::SYN | tcp::RST) {
        half.resume(segment);
    }
}

/// SYN-ACK, FIN and RST, the first segment after a RST, and all segments of `dsr`.
// Not inlined, like all that a segment in mid-flow has no use for: the stack frame of the program
// and that of `open` share 512 bytes.
#[inline(never)]
fn control<A: Family>(key: &FlowKey<A>, half: &mut FlowHalf<A>, segment: &Segment, now: Now) {
    if segment.has(tcp::SYN) {
        // In an established flow it is a duplicate, or forged.
        if !half.has(flag::CONFIRMED | flag::ORIGINAL) && segment.has(tcp::ACK) {
            if !half.has(flag::SYN) {
                maps::count_connect(half.backend, half.fin_end);
                half.fin_end = 0;
            }
            half.set(flag::SYN);
            half.seq_end = segment.end();
            half.ack = segment.ack;
            half.last_seen = now.ticks;
            // If it is another flow's by now, it only looks at its other half more often.
            if let Some(original) = A::half_near(&half.translation.peer_key()) {
                original.note_answer();
            }
        }
        return;
    }
    if half.is_alone() {
        alone(half, segment, now);
        return;
    }
    let Some(peer) = peer_of(key, half) else {
        return;
    };
    let before = half.flags & flag::CLOSING;
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
    if half.is_confirmed() && half.flags & flag::CLOSING != before {
        if half.is_original() {
            maps::tell(half, peer);
        } else {
            maps::tell(peer, half);
        }
    }
}

/// The other half of a flow; `None`: there is none, or another flow was given its place.
#[inline(always)]
fn peer_of<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>) -> Option<&'static mut FlowHalf<A>> {
    A::half(&half.translation.peer_key()).filter(|peer| peer.translation.answers(key))
}

/// A client's segment of a flow of `dsr`, which has one half.
#[inline(always)]
fn alone<A: Family>(half: &mut FlowHalf<A>, segment: &Segment, now: Now) {
    let before = half.flags & flag::CLOSING;
    let promoted = !half.is_confirmed() && continues(half, segment);
    if segment.has(tcp::FIN | tcp::RST) {
        half.close_alone(segment, now.ticks);
    } else {
        half.clear(flag::RST);
        half.advance(segment, now.ticks);
    }
    if half.is_confirmed() && half.flags & flag::CLOSING != before {
        maps::tell(half, half);
    }
    if segment.has(tcp::FIN | tcp::RST) {
        return;
    }
    half.checked = now.ticks;
    if promoted {
        // A SYN acknowledges nothing, so that there was nothing to go forward from.
        half.ack = segment.ack;
        half.set(flag::CONFIRMED);
        maps::count_connection(half.backend);
        maps::tell(half, half);
    }
}

/// Removes a flow: original, then reply, so that nobody adopts a half that is about to go.
#[inline(never)]
pub(crate) fn remove<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>) {
    let reply_key = half.translation.peer_key();
    let alone = half.is_alone();
    A::remove_half(key);
    // The port may be another flow's by now.
    if !alone && A::half(&reply_key).is_some_and(|reply| reply.translation.answers(key)) {
        A::remove_half(&reply_key);
    }
}

/// Removes the flow that a reply half belongs to, if its original half still says so.
#[inline(always)]
pub(crate) fn remove_by_reply<A: Family>(reply_key: &FlowKey<A>, reply: &FlowHalf<A>) {
    let key = reply.translation.peer_key();
    if A::half(&key).is_some_and(|original| original.translation.answers(reply_key)) {
        A::remove_half(&key);
    }
    A::remove_half(reply_key);
}
