//! What became of a packet: one verdict, one counter, one XDP action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use lb_common::counters::Counter;
use lb_common::flow::Direction;

use crate::maps;

/// The end of a packet's way through the program. In eight bytes, so that functions return it in a
/// register.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Pass(PassReason),
    /// Translated; out of the interface it came in by, or another.
    Forward {
        direction: Direction,
        egress: u32,
    },
    /// Turned into a RST, sent out of `egress`.
    Reset {
        reason: ResetReason,
        egress: u32,
    },
    Drop(DropReason),
}

const _: () = assert!(size_of::<Verdict>() == 8);

#[derive(Clone, Copy)]
pub(crate) enum PassReason {
    NotIpv4,
    NotVip,
    NotTcp,
    NotService,
}

#[derive(Clone, Copy)]
pub(crate) enum ResetReason {
    NoBackend,
    NoFlow,
    Unconfirmed,
    TableFull,
    BackendDown,
}

#[derive(Clone, Copy)]
pub(crate) enum DropReason {
    Malformed,
    Fragment,
    TtlExpired,
    BadFlags,
    RstWithoutFlow,
    StaleReply,
    SnatExhausted,
    FlowInsert,
    NoNextHop,
    LeaseExpired,
    Inconsistent,
}

impl Verdict {
    #[inline(always)]
    fn counter(self, ingress: u32) -> Counter {
        match self {
            Self::Pass(PassReason::NotIpv4) => Counter::PassNotIpv4,
            Self::Pass(PassReason::NotVip) => Counter::PassNotVip,
            Self::Pass(PassReason::NotTcp) => Counter::PassNotTcp,
            Self::Pass(PassReason::NotService) => Counter::PassNotService,
            Self::Forward { direction, egress } => match (direction, ingress == egress) {
                (Direction::Original, true) => Counter::ForwardRequest,
                (Direction::Original, false) => Counter::RedirectRequest,
                (Direction::Reply, true) => Counter::ForwardReply,
                (Direction::Reply, false) => Counter::RedirectReply,
            },
            Self::Reset { reason, .. } => match reason {
                ResetReason::NoBackend => Counter::ResetNoBackend,
                ResetReason::NoFlow => Counter::ResetNoFlow,
                ResetReason::Unconfirmed => Counter::ResetUnconfirmed,
                ResetReason::TableFull => Counter::ResetTableFull,
                ResetReason::BackendDown => Counter::ResetBackendDown,
            },
            Self::Drop(reason) => match reason {
                DropReason::Malformed => Counter::DropMalformed,
                DropReason::Fragment => Counter::DropFragment,
                DropReason::TtlExpired => Counter::DropTtlExpired,
                DropReason::BadFlags => Counter::DropBadFlags,
                DropReason::RstWithoutFlow => Counter::DropRstWithoutFlow,
                DropReason::StaleReply => Counter::DropStaleReply,
                DropReason::SnatExhausted => Counter::DropSnatExhausted,
                DropReason::FlowInsert => Counter::DropFlowInsert,
                DropReason::NoNextHop => Counter::DropNoNextHop,
                DropReason::LeaseExpired => Counter::DropLeaseExpired,
                DropReason::Inconsistent => Counter::DropInconsistent,
            },
        }
    }

    /// Counts the verdict on a frame that came in by `ingress` and returns its action.
    #[inline(always)]
    pub(crate) fn action(self, ingress: u32) -> u32 {
        let (verdict, action) = match self {
            Self::Pass(_) => (self, XDP_PASS),
            Self::Drop(_) => (self, XDP_DROP),
            Self::Forward { egress, .. } | Self::Reset { egress, .. } => {
                if ingress == egress {
                    (self, XDP_TX)
                } else {
                    match maps::redirect(egress) {
                        Ok(action) => (self, action),
                        Err(()) => (Self::Drop(DropReason::NoNextHop), XDP_DROP),
                    }
                }
            }
        };
        maps::count(verdict.counter(ingress));
        action
    }
}
