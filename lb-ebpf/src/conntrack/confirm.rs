//! From half-open to established.

use lb_common::conntrack::{FlowHalf, Segment, completes_handshake, confirms_guess, flag, tcp};
use lb_common::flow::FlowKey;

use super::reborrow;
use crate::clock::Now;
use crate::family::Family;
use crate::maps::{self, FlowMap, Found};
use crate::verdict::ResetReason;

/// The client's first segment after its SYN: if it completes the handshake, the flow is promoted.
#[inline(never)]
pub(super) fn handshake<A: Family>(
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
        maps::count_removed();
        return Err(ResetReason::TableFull);
    }
    original.set(flag::PROMOTED);
    reply.set(flag::PROMOTED);
    maps::count_connection(original.backend);
    maps::tell(original, reply);
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
    segment: &Segment,
    now: Now,
) -> Result<(), ResetReason> {
    let half = reborrow(found);
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
        maps::count_removed();
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
