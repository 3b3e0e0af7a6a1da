//! Which segments confirm a flow, or refuse it. Pure.

use super::{FlowHalf, Segment, flag, tcp};

/// How far from the end of what the client sent a first reply may acknowledge, and how far from what
/// the client acknowledged it may start.
const CONFIRM_WINDOW: u32 = 1 << 18;

/// The client's third segment of a handshake acknowledges what the backend's SYN-ACK sent
/// (RFC 9293 section 3.5).
#[inline(always)]
pub const fn completes_handshake<A>(reply: &FlowHalf<A>, segment: &Segment) -> bool {
    reply.flags & (flag::SYN | flag::RST) == flag::SYN
        && segment.flags & tcp::ACK != 0
        // One CPU may forward data behind the SYN-ACK before another sees this segment.
        && reply.seq_end.wrapping_sub(segment.ack) <= CONFIRM_WINDOW
}

/// The backend refuses the client's SYN, in words that the client would believe: they acknowledge all of
/// it and nothing else (RFC 9293 section 3.10.7.3).
#[inline(always)]
pub const fn refuses_syn<A>(
    original: &FlowHalf<A>,
    reply: &FlowHalf<A>,
    segment: &Segment,
) -> bool {
    const ENDS: u8 = tcp::SYN | tcp::ACK | tcp::FIN | tcp::RST;
    segment.flags & ENDS == tcp::RST | tcp::ACK
        && segment.ack == original.seq_end
        && original.flags & (flag::SYN | flag::CONFIRMED | flag::CLOSING) == flag::SYN
        && reply.flags & (flag::SYN | flag::CLOSING) == 0
}

/// A reply fits the window of the client whose mid-stream segment made the flow: the guess at its
/// backend and port was right.
///
/// It may acknowledge more than was seen here: what a client sends first after a take-over is the first
/// segment of those that had no answer, and the others arrived by the way of the predecessor.
#[inline(always)]
pub const fn confirms_guess<A>(original: &FlowHalf<A>, segment: &Segment) -> bool {
    segment.flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK
        && is_near(segment.ack, original.seq_end)
        && is_near(segment.seq, original.ack)
}

/// Less than a window apart.
#[inline(always)]
const fn is_near(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).wrapping_add(CONFIRM_WINDOW) <= 2 * CONFIRM_WINDOW
}

/// In `dsr`, where replies are not seen, a client's segment in order confirms the one that made the
/// flow: after a SYN, the acknowledgement of SYN + 1.
#[inline(always)]
pub const fn continues<A>(original: &FlowHalf<A>, segment: &Segment) -> bool {
    segment.flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK && segment.seq == original.seq_end
}
