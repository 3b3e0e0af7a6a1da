//! What became of a packet: one verdict, one counter, one XDP action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use lb_common::counters::Counter;
use lb_common::link::LinkId;

use crate::maps;

/// The end of a packet's way through the program. In eight bytes, so that functions return it in a
/// register.
#[repr(align(8))]
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Pass(PassReason),
    /// Translated, addressed, and counted with its backend's traffic; for a backend on this node the kernel takes it on.
    Forward {
        action: u32,
    },
    /// An ICMP error, translated and addressed.
    IcmpError(Egress),
    /// Likewise, for a backend on this node.
    LocalIcmpError,
    /// Turned into a RST.
    Reset {
        reason: ResetReason,
        egress: Egress,
    },
    /// Turned into an ICMP error to its sender.
    TimeExceeded,
    Drop(DropReason),
}

const _: () = assert!(size_of::<Verdict>() == 8);

/// What is to be done next with a packet. In eight bytes, likewise.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Done(Verdict),
    /// It is of a known flow, and changes more than that flow's progress, or one that is not established yet.
    Track,
    /// It is of no flow, or of one that gave way to it.
    Open {
        attempt: u8,
    },
    /// It is no segment; where the ICMP header starts.
    IcmpMessage {
        offset: u16,
    },
    /// Its sender is to be told that there is no such connection.
    AnswerReset(ResetReason),
    /// Its hop count ends here.
    AnswerTimeExceeded,
}

const _: () = assert!(size_of::<Step>() == 8);

impl From<Verdict> for Step {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self::Done(verdict)
    }
}

/// Where a frame leaves.
#[derive(Clone, Copy)]
pub(crate) struct Egress {
    pub(crate) link: LinkId,
    /// It is the interface that the frame came in by.
    pub(crate) same: bool,
}

impl Egress {
    pub(crate) const BACK: Self = Self { link: 0, same: true };
}

#[derive(Clone, Copy)]
pub(crate) enum PassReason {
    NotIp,
    NotVip,
    NotTcp,
    NotService,
    Foreign,
    OtherHost,
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
    RefusedSyn,
    IcmpWithoutFlow,
    NotAllowed,
    RateLimited,
    SnatExhausted,
    FlowInsert,
    NoNextHop,
    LeaseExpired,
    NotAccepted,
    Inconsistent,
}

impl Verdict {
    /// `None`: it is counted already.
    #[inline(always)]
    fn counter(self) -> Option<Counter> {
        Some(match self {
            Self::Forward { .. } => return None,
            Self::Pass(PassReason::NotIp) => Counter::PassNotIp,
            Self::Pass(PassReason::NotVip) => Counter::PassNotVip,
            Self::Pass(PassReason::NotTcp) => Counter::PassNotTcp,
            Self::Pass(PassReason::NotService) => Counter::PassNotService,
            Self::Pass(PassReason::Foreign) => Counter::PassForeign,
            Self::Pass(PassReason::OtherHost) => Counter::PassOtherHost,
            Self::LocalIcmpError => Counter::ForwardLocalIcmpError,
            Self::IcmpError(Egress { same: true, .. }) => Counter::ForwardIcmpError,
            Self::IcmpError(Egress { same: false, .. }) => Counter::RedirectIcmpError,
            Self::Reset { reason, .. } => match reason {
                ResetReason::NoBackend => Counter::ResetNoBackend,
                ResetReason::NoFlow => Counter::ResetNoFlow,
                ResetReason::Unconfirmed => Counter::ResetUnconfirmed,
                ResetReason::TableFull => Counter::ResetTableFull,
                ResetReason::BackendDown => Counter::ResetBackendDown,
            },
            Self::TimeExceeded => Counter::AnswerTimeExceeded,
            Self::Drop(reason) => reason.counter(),
        })
    }

    /// Counts the verdict and returns its action.
    ///
    /// Each arm counts for itself: what comes by most needs two comparisons then, and nothing is put together again.
    #[inline(always)]
    pub(crate) fn action(self) -> u32 {
        match self {
            Self::Forward { action } => action,
            Self::IcmpError(egress) | Self::Reset { egress, .. } => self.leave(egress),
            Self::Pass(_) | Self::LocalIcmpError => self.end(XDP_PASS),
            Self::Drop(_) => self.end(XDP_DROP),
            Self::TimeExceeded => self.end(XDP_TX),
        }
    }

    #[inline(always)]
    fn leave(self, egress: Egress) -> u32 {
        if egress.same {
            return self.end(XDP_TX);
        }
        match maps::redirect(egress.link) {
            Ok(action) => self.end(action),
            Err(()) => Self::Drop(DropReason::NoNextHop).end(XDP_DROP),
        }
    }

    #[inline(always)]
    fn end(self, action: u32) -> u32 {
        if let Some(counter) = self.counter() {
            maps::count(counter);
        }
        action
    }
}

impl DropReason {
    #[inline(always)]
    pub(crate) fn counter(self) -> Counter {
        match self {
            Self::Malformed => Counter::DropMalformed,
            Self::Fragment => Counter::DropFragment,
            Self::TtlExpired => Counter::DropTtlExpired,
            Self::BadFlags => Counter::DropBadFlags,
            Self::RstWithoutFlow => Counter::DropRstWithoutFlow,
            Self::StaleReply => Counter::DropStaleReply,
            Self::RefusedSyn => Counter::DropRefusedSyn,
            Self::IcmpWithoutFlow => Counter::DropIcmpWithoutFlow,
            Self::NotAllowed => Counter::DropNotAllowed,
            Self::RateLimited => Counter::DropRateLimited,
            Self::SnatExhausted => Counter::DropSnatExhausted,
            Self::FlowInsert => Counter::DropFlowInsert,
            Self::NoNextHop => Counter::DropNoNextHop,
            Self::LeaseExpired => Counter::DropLeaseExpired,
            Self::NotAccepted => Counter::DropNotAccepted,
            Self::Inconsistent => Counter::DropInconsistent,
        }
    }
}
