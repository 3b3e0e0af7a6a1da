//! From half-open to established.

use lb_common::conntrack::{FlowHalf, Segment, completes_handshake, confirms_guess, flag, tcp};
use lb_common::flow::FlowKey;

use super::peer_of;
use crate::clock::Now;
use crate::family::Family;
use crate::maps;
use crate::verdict::ResetReason;

/// The client's first segment after the SYN-ACK: if it completes the handshake, the flow is promoted.
#[inline(never)]
pub(super) fn handshake<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    segment: &Segment,
    now: Now,
) -> Result<(), ResetReason> {
    let peer_key = half.translation.peer_key();
    let Some(peer) = A::half(&peer_key) else {
        // It gave way to another: what the client sends next is taken up in mid-stream.
        A::remove_half(key);
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
    promote(half, peer);
    Ok(())
}

/// Both halves at once, as good as: the reply half first, which whoever finds the original half confirmed asks no more.
#[inline(always)]
fn promote<A: Family>(original: &mut FlowHalf<A>, reply: &mut FlowHalf<A>) {
    reply.set(flag::CONFIRMED);
    original.set(flag::CONFIRMED);
    maps::count_connection(original.backend);
    maps::tell(original, reply);
}

/// A backend's segment of a flow that was guessed from a segment without state. `false`: the guess was wrong, and the
/// client is to be told. The half then ends where the client expects it to.
#[inline(never)]
pub(crate) fn confirm_guess<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    segment: &Segment,
    now: Now,
) -> bool {
    let original_key = half.translation.peer_key();
    let Some(original) = peer_of(key, half) else {
        return true;
    };
    if segment.has(tcp::RST) {
        half.close(original, segment, now.ticks);
        return true;
    }
    if !confirms_guess(original, segment) {
        half.seq_end = original.ack;
        A::remove_half(&original_key);
        A::remove_half(key);
        return false;
    }
    half.seq_end = segment.end();
    half.ack = segment.ack;
    half.last_seen = now.ticks;
    half.set(flag::CONFIRMED);
    if segment.has(tcp::FIN) {
        half.close(original, segment, now.ticks);
    }
    promote(original, half);
    true
}
