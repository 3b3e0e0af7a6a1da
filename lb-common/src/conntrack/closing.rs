//! What a FIN or a RST does to a flow. Pure.

use super::{FlowHalf, Segment, flag, tcp};
use crate::time::Ticks;

/// How far from the end of what was seen a FIN may be: a full window of reordered segments.
pub(super) const FIN_WINDOW: u32 = 1 << 20;

impl<A> FlowHalf<A> {
    /// Progress by a segment with FIN or RST. `peer` is the other half.
    ///
    /// Only what fits the flow counts: a FIN near the end of what was sent, a RST exactly where the
    /// receiver expects it (RFC 5961 section 3.2) or at the sender's end. What does not fit is still
    /// forwarded, for the endpoint to judge.
    #[inline(always)]
    pub fn close(&mut self, peer: &mut Self, segment: &Segment, now: Ticks) {
        self.last_seen = now;
        if segment.has(tcp::RST) {
            let expected = segment.seq == peer.ack || self.ends_near(segment);
            if expected || !self.has(flag::CONFIRMED) {
                self.set(flag::RST);
                peer.set(flag::PEER_RST);
            }
            return;
        }
        if self.distance(segment) > FIN_WINDOW {
            return;
        }
        if !self.has(flag::FIN) {
            self.fin_end = segment.end();
            let first = if peer.has(flag::FIN) { 0 } else { flag::FIN_FIRST };
            self.set(flag::FIN | first);
            peer.set(flag::PEER_FIN);
        }
        self.advance(segment, now);
    }

    /// As [`Self::close`], where the other direction is not seen. A RST fits at the end of what was
    /// sent; a FIN as above.
    #[inline(always)]
    pub fn close_alone(&mut self, segment: &Segment, now: Ticks) {
        self.last_seen = now;
        if segment.has(tcp::RST) {
            if self.ends_near(segment) {
                self.set(flag::RST);
            }
            return;
        }
        if self.distance(segment) <= FIN_WINDOW {
            self.fin_end = segment.end();
            self.set(flag::FIN);
            self.advance(segment, now);
        }
    }

    /// A RST fits at the end of what was sent; of a flow that a peer told of, near it.
    #[inline(always)]
    const fn ends_near(&self, segment: &Segment) -> bool {
        let allowed = if self.has(flag::REPLICA) { FIN_WINDOW } else { 0 };
        self.distance(segment) <= allowed
    }

    /// From the end of what was seen to a segment, either way.
    #[inline(always)]
    const fn distance(&self, segment: &Segment) -> u32 {
        (segment.seq.wrapping_sub(self.seq_end) as i32).unsigned_abs()
    }

    /// The sender of a RST goes on sending: it was not its RST.
    #[inline(always)]
    pub fn revive(&mut self, peer: &mut Self) {
        self.clear(flag::RST);
        peer.clear(flag::PEER_RST);
    }
}
