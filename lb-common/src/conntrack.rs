//! A flow's two halves and the TCP state they amount to. Pure.
//!
//! Each half is found by the five-tuple of its own direction's packets and holds what that direction
//! needs: its translation, its next hop, its progress. A packet in mid-flow reads and writes one half
//! only. Segments with SYN, FIN or RST are rare: they look at both.

use crate::addr::{Address, Ipv4Be, Ipv6Be};
use crate::backend::BackendId;
use crate::flow::FlowKey;
use crate::link::NextHop;
use crate::nat::{Kind, Translation};
use crate::time::Ticks;

mod atomic;
mod closing;
mod opening;
mod state;

pub use opening::{completes_handshake, confirms_guess, continues, refuses_syn};
pub use state::{PortHold, TcpState, Timeouts};

/// Bits of the TCP header's flags byte (RFC 9293 section 3.1).
pub mod tcp {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// Bits of [`FlowHalf::flags`].
pub mod flag {
    /// This direction sent a SYN.
    pub const SYN: u32 = 1 << 0;
    /// This direction sent a FIN; `fin_end` is valid.
    pub const FIN: u32 = 1 << 1;
    /// Its FIN was the flow's first.
    pub const FIN_FIRST: u32 = 1 << 2;
    /// This direction sent a RST and nothing since.
    pub const RST: u32 = 1 << 3;
    /// A handshake was completed, or a reply fitted a segment that had no state: the flow is established, and never
    /// evicted.
    pub const CONFIRMED: u32 = 1 << 4;
    /// Made by a segment without a handshake; unconfirmed, its replies are looked at closely.
    pub const MID_STREAM: u32 = 1 << 5;
    /// This is the half of the original direction.
    pub const ORIGINAL: u32 = 1 << 7;
    /// The other direction has [`FIN`].
    pub const PEER_FIN: u32 = 1 << 8;
    /// The other direction has [`RST`].
    pub const PEER_RST: u32 = 1 << 9;
    /// Of a reply half: the backend refused the SYN, and the client was not told.
    pub const REFUSED: u32 = 1 << 10;
    /// Known from a peer only: no segment of this direction has come by since, what it sent is behind.
    pub const REPLICA: u32 = 1 << 16;
    /// Any of these: the flow is closing or closed.
    pub const CLOSING: u32 = FIN | RST | PEER_FIN | PEER_RST;
}

/// What the state rules read of a TCP segment. Sequence numbers in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    /// Bytes of payload.
    pub payload: u32,
    /// [`tcp`] bits.
    pub flags: u8,
}

impl Segment {
    #[inline(always)]
    pub const fn has(&self, bits: u8) -> bool {
        self.flags & bits != 0
    }

    /// Opens a connection: SYN without ACK, RST or FIN.
    #[inline(always)]
    pub const fn is_syn(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// Takes part in opening or closing a connection.
    #[inline(always)]
    pub const fn is_control(&self) -> bool {
        self.has(tcp::SYN | tcp::FIN | tcp::RST)
    }

    /// Sequence number after this segment: SYN and FIN count one each (RFC 9293 section 3.4).
    #[inline(always)]
    pub const fn end(&self) -> u32 {
        self.seq
            .wrapping_add(self.payload)
            .wrapping_add((self.flags & tcp::SYN != 0) as u32)
            .wrapping_add((self.flags & tcp::FIN != 0) as u32)
    }
}

/// `a` comes after `b` in sequence space (RFC 9293 section 3.4).
#[inline(always)]
pub const fn seq_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// [`FlowHalf::fin_end`] of an original half whose SYN nobody has answered. 0 is of a predecessor's too: it may have been.
const UNANSWERED: u32 = 1;

/// One direction of a flow, as the table of flows holds it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHalf<A> {
    pub translation: Translation<A>,
    /// [`flag`] bits. Both directions write to both halves: [`Self::set`] and [`Self::clear`].
    pub flags: u32,
    /// End of what this direction sent.
    pub seq_end: u32,
    /// Its last acknowledgement: where a RST to it has to be.
    pub ack: u32,
    /// End of its FIN. Before that: of a reply half without a SYN-ACK when the SYN was sent, see [`crate::connect`]; of an
    /// original half whether its SYN was answered, see [`Self::note_syn`].
    pub fin_end: u32,
    pub backend: BackendId,
    /// Of the backend when the flow was made.
    pub epoch: u16,
    /// Index of the VIP whose lease this direction is under.
    pub vip: u16,
    pub service: u16,
    /// [`crate::nat::Kind`] as a number.
    pub kind: u8,
    /// How often the client had to be given another backend.
    pub attempts: u8,
    pub last_seen: Ticks,
    /// When the other half and the way to the client were last looked after, or there was a sign that
    /// they need not be.
    pub checked: Ticks,
    /// Reply: where the client's packets go. Original: where they came from.
    pub next_hop: NextHop,
    /// What a later layout adds.
    #[cfg(feature = "second-layout")]
    pub later: u64,
}

#[cfg(not(feature = "second-layout"))]
const _: () = assert!(size_of::<FlowHalf<Ipv4Be>>() == 64);
#[cfg(not(feature = "second-layout"))]
const _: () = assert!(size_of::<FlowHalf<Ipv6Be>>() == 88);
#[cfg(feature = "second-layout")]
const _: () = assert!(size_of::<FlowHalf<Ipv4Be>>() == 72);
#[cfg(feature = "second-layout")]
const _: () = assert!(size_of::<FlowHalf<Ipv6Be>>() == 96);

impl<A: Address> FlowHalf<A> {
    /// Becomes a half whose packets carry `key` and leave with `to`, all else zero.
    ///
    /// In place: a second one has no room on the datapath's stack.
    #[inline(always)]
    pub fn init(&mut self, kind: Kind, key: &FlowKey<A>, to: &FlowKey<A>) {
        self.translation = Translation::new(key, to);
        self.kind = kind as u8;
        self.attempts = 0;
        self.flags = 0;
        self.seq_end = 0;
        self.ack = 0;
        self.fin_end = 0;
        self.backend = 0;
        self.epoch = 0;
        self.vip = 0;
        self.service = 0;
        self.last_seen = Ticks::default();
        self.checked = Ticks::default();
        self.next_hop = NextHop::UNKNOWN;
        #[cfg(feature = "second-layout")]
        {
            self.later = 0;
        }
    }
}

impl<A> FlowHalf<A> {
    /// Its flow is.
    #[inline(always)]
    pub const fn is_confirmed(&self) -> bool {
        self.has(flag::CONFIRMED)
    }

    #[inline(always)]
    pub const fn has(&self, bits: u32) -> bool {
        self.flags & bits != 0
    }

    /// Sets bits, none of which another CPU can undo by setting others.
    #[inline(always)]
    pub fn set(&mut self, bits: u32) {
        atomic::or(&mut self.flags, bits);
    }

    /// Clears bits, likewise.
    #[inline(always)]
    pub fn clear(&mut self, bits: u32) {
        atomic::and(&mut self.flags, !bits);
    }

    #[inline(always)]
    pub const fn is_original(&self) -> bool {
        self.has(flag::ORIGINAL)
    }

    /// A client's half, not confirmed, that needs no other one for a segment without SYN, FIN or RST: nobody has answered its
    /// SYN, so that no segment can complete a handshake, or it was guessed, and it is for replies to confirm it.
    #[inline(always)]
    pub const fn needs_no_peer(&self) -> bool {
        const FLAGS: u32 = flag::ORIGINAL | flag::CONFIRMED | flag::REPLICA | flag::CLOSING;
        self.flags & FLAGS == flag::ORIGINAL
            && !self.is_alone()
            && (self.has(flag::MID_STREAM) || self.fin_end == UNANSWERED)
    }

    /// Of an original half that a SYN makes, and that is to have a reply half.
    #[inline(always)]
    pub const fn note_syn(&mut self) {
        self.fin_end = UNANSWERED;
    }

    /// Of an original half: its client's SYN has, or may have, a SYN-ACK. No flag, since changing one waits for the memory
    /// that holds it.
    #[inline(always)]
    pub const fn note_answer(&mut self) {
        if self.fin_end == UNANSWERED && !self.has(flag::FIN) {
            self.fin_end = 0;
        }
    }

    /// A flow of `dsr`: there is no other half.
    #[inline(always)]
    pub const fn is_alone(&self) -> bool {
        self.kind == Kind::Dsr as u8
    }

    /// Progress by a segment without SYN, FIN or RST.
    ///
    /// An acknowledgement goes forward only: a late segment must not take a later RST out of the
    /// client's window.
    #[inline(always)]
    pub fn advance(&mut self, segment: &Segment, now: Ticks) {
        if self.last_seen != now {
            self.last_seen = now;
        }
        if seq_after(segment.end(), self.seq_end) {
            self.seq_end = segment.end();
        }
        if segment.has(tcp::ACK) && seq_after(segment.ack, self.ack) {
            self.ack = segment.ack;
        }
    }

    /// A client whose segment this is hears its backend: it acknowledges what it had not before.
    #[inline(always)]
    pub const fn is_answered(&self, segment: &Segment) -> bool {
        segment.has(tcp::ACK) && seq_after(segment.ack, self.ack)
    }

    /// Its sender may have had no answer: what it sent before it sends again, as a keepalive does, or
    /// it repeats an acknowledgement.
    #[inline(always)]
    pub const fn repeats(&self, segment: &Segment) -> bool {
        segment.payload == 0 || seq_after(self.seq_end, segment.seq)
    }

    /// Progress starts anew with this direction's first segment since a peer told of the flow: what the
    /// peer knew may be gigabytes behind. Neither a SYN nor a RST says where a connection is.
    #[inline(always)]
    pub fn resume(&mut self, segment: &Segment) {
        self.seq_end = segment.seq;
        if segment.has(tcp::ACK) {
            self.ack = segment.ack;
        }
        self.clear(flag::REPLICA);
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::FlowHalf;
    use crate::addr::{Ipv4Be, Ipv6Be};

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for FlowHalf<Ipv4Be> {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for FlowHalf<Ipv6Be> {}
}

#[cfg(test)]
mod tests;
