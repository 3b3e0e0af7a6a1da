//! TCP state of a flow (names of RFC 9293 section 3.3.2) and how long it may be idle. Pure.

use super::{FlowHalf, flag, seq_after};
use crate::time::Ticks;

/// As seen between the endpoints, of the side that closed first where the sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcpState {
    /// The client's SYN was forwarded, or a segment without state.
    SynSent,
    /// The backend's SYN-ACK was forwarded.
    SynReceived,
    Established,
    /// One side sent its FIN.
    FinWait1,
    /// That FIN was acknowledged: half closed.
    FinWait2,
    /// Both sent FINs, the first is not acknowledged.
    Closing,
    /// Both sent FINs, the second is not acknowledged.
    LastAck,
    /// Both FINs are acknowledged.
    TimeWait,
    /// A RST was sent.
    Closed,
}

/// Idle times after which a flow is forgotten. [`Ticks`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub established: u32,
    pub half_open: u32,
    /// Both sides are closing, or the backend closed first: as long as it holds TIME_WAIT.
    pub closing: u32,
    /// One side is closing: a request whose answer takes its time, but not a day.
    pub half_closed: u32,
    /// Of a flow that the client closed, or a RST: its backend has forgotten it, only late segments
    /// are on the way.
    pub closed: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            established: Ticks::in_ns(24 * 3600 * SECOND),
            half_open: Ticks::in_ns(30 * SECOND),
            closing: Ticks::in_ns(60 * SECOND),
            half_closed: Ticks::in_ns(3600 * SECOND),
            closed: Ticks::in_ns(2 * SECOND),
        }
    }
}

impl TcpState {
    pub const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
        Self::Closed,
    ];

    /// The state that two halves amount to.
    #[inline(always)]
    pub const fn of<A>(original: &FlowHalf<A>, reply: &FlowHalf<A>) -> Self {
        let both = original.flags | reply.flags;
        if both & flag::RST != 0 {
            return Self::Closed;
        }
        if both & flag::FIN == 0 {
            return if original.flags & flag::CONFIRMED != 0 {
                Self::Established
            } else if reply.flags & flag::SYN != 0 {
                Self::SynReceived
            } else {
                Self::SynSent
            };
        }
        if original.flags & (flag::FIN | flag::REPLICA) == flag::FIN
            && reply.flags & (flag::FIN | flag::REPLICA) == flag::REPLICA
        {
            // The backend may answer the client past this node, as in `of_original`.
            return Self::Closing;
        }
        let original_acked = fin_acked(original, reply);
        let reply_acked = fin_acked(reply, original);
        if original.flags & reply.flags & flag::FIN == 0 {
            return if original_acked || reply_acked { Self::FinWait2 } else { Self::FinWait1 };
        }
        if original_acked && reply_acked {
            return Self::TimeWait;
        }
        let first_acked =
            if reply.flags & flag::FIN_FIRST != 0 { reply_acked } else { original_acked };
        if first_acked { Self::LastAck } else { Self::Closing }
    }

    /// The state of a flow of which only the client is seen.
    #[inline(always)]
    pub const fn of_original<A>(original: &FlowHalf<A>) -> Self {
        if original.flags & flag::RST != 0 {
            Self::Closed
        } else if original.flags & flag::FIN != 0 {
            Self::Closing
        } else if original.flags & flag::CONFIRMED != 0 {
            Self::Established
        } else {
            Self::SynSent
        }
    }

    /// No endpoint minds if the addresses and ports are used for another connection.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed)
    }

    /// A SYN of the client may start a new flow in place of this one.
    #[inline(always)]
    pub const fn gives_way_to_syn(self) -> bool {
        matches!(self, Self::Closing | Self::LastAck | Self::TimeWait | Self::Closed)
    }

    /// How long a flow may be idle, in [`Ticks`].
    ///
    /// TIME_WAIT is held for as long as the endpoint that sent the first FIN holds it, if that is the
    /// backend: a new SYN from its port would meet the old connection.
    #[inline(always)]
    pub const fn timeout(self, backend_closed_first: bool, timeouts: &Timeouts) -> u32 {
        match self {
            Self::SynSent | Self::SynReceived => timeouts.half_open,
            Self::Established => timeouts.established,
            Self::FinWait1 | Self::FinWait2 => {
                if timeouts.established < timeouts.half_closed {
                    timeouts.established
                } else {
                    timeouts.half_closed
                }
            }
            Self::Closing | Self::LastAck => timeouts.closing,
            Self::TimeWait => {
                if backend_closed_first {
                    timeouts.closing
                } else {
                    timeouts.closed
                }
            }
            Self::Closed => timeouts.closed,
        }
    }
}

const fn fin_acked<A>(sender: &FlowHalf<A>, receiver: &FlowHalf<A>) -> bool {
    sender.flags & flag::FIN != 0 && !seq_after(sender.fin_end, receiver.ack)
}

impl<A> FlowHalf<A> {
    /// The flow of which `self` is the original half and `reply` the other has been idle for longer
    /// than its state allows.
    #[inline(always)]
    pub const fn is_expired(&self, reply: &Self, timeouts: &Timeouts, now: Ticks) -> bool {
        let idle = now.since(self.last_seen.max(reply.last_seen));
        let state = TcpState::of(self, reply);
        idle >= state.timeout(reply.flags & flag::FIN_FIRST != 0, timeouts)
    }

    /// Likewise of a flow of `dsr`, which `self` is all of.
    #[inline(always)]
    pub const fn is_expired_alone(&self, timeouts: &Timeouts, now: Ticks) -> bool {
        now.since(self.last_seen) >= TcpState::of_original(self).timeout(true, timeouts)
    }
}

/// Whether the SNAT port of a flow may be given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortHold {
    Free,
    /// Only if there is no other.
    TimeWait,
    Live,
}

impl<A> FlowHalf<A> {
    /// By the reply half alone: it knows that the other side closed, not whether it had the last
    /// acknowledgement, for which two seconds of silence do as well.
    ///
    /// Another port of the same client is another client: since Linux 6.18 its timestamps begin elsewhere, and a
    /// backend in TIME_WAIT refuses half of its SYNs at first (RFC 7323 section 5).
    #[inline(always)]
    pub const fn port_hold(&self, timeouts: &Timeouts, now: Ticks) -> PortHold {
        const BOTH: u32 = flag::FIN | flag::PEER_FIN;
        let reset = self.flags & (flag::RST | flag::PEER_RST) != 0;
        if !reset && self.flags & BOTH != BOTH {
            return PortHold::Live;
        }
        let hold = if !reset && self.flags & flag::FIN_FIRST != 0 {
            timeouts.closing
        } else {
            timeouts.closed
        };
        if now.since(self.last_seen) >= hold { PortHold::Free } else { PortHold::TimeWait }
    }
}
