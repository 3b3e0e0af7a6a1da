//! Every verdict on a packet, and the counter it has. Pure.

use crate::backend::Way;
use crate::flow::Direction;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        /// One of a CPU's counters. A packet is counted once.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $name,)+
        }

        impl Counter {
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Name in `status` and in metrics: `verdict_reason`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

counters! {
    /// Not IP, or behind more than two tags.
    PassNotIp = "pass_not_ip",
    /// To an address that is no VIP.
    PassNotVip = "pass_not_vip",
    /// To a VIP, by another protocol than TCP.
    PassNotTcp = "pass_not_tcp",
    /// To a VIP's port that no service has.
    PassNotService = "pass_not_service",
    /// From a backend of a `dnat` service, of no flow.
    PassForeign = "pass_foreign",
    /// From a client to a backend, out of the interface it came in by.
    ForwardRequest = "forward_request",
    /// From a backend to a client, likewise.
    ForwardReply = "forward_reply",
    /// From a client to a backend, out of another interface.
    RedirectRequest = "redirect_request",
    /// From a backend to a client, likewise.
    RedirectReply = "redirect_reply",
    /// An ICMP error, to the end of the flow that it is about.
    ForwardIcmpError = "forward_icmp_error",
    /// Likewise, out of another interface.
    RedirectIcmpError = "redirect_icmp_error",
    /// Answered with RST: the service has no backend.
    ResetNoBackend = "reset_no_backend",
    /// A FIN that belongs to no flow.
    ResetNoFlow = "reset_no_flow",
    /// A reply that does not fit the client whose segment made the flow.
    ResetUnconfirmed = "reset_unconfirmed",
    /// There is no room for a new flow, and none that would give way.
    ResetTableFull = "reset_table_full",
    /// The flow's backend was given up.
    ResetBackendDown = "reset_backend_down",
    /// The hop count ends here, and the sender is told.
    AnswerTimeExceeded = "answer_time_exceeded",
    /// To a VIP, too short for its headers or with lengths that contradict each other.
    DropMalformed = "drop_malformed",
    /// A fragment of TCP to a VIP.
    DropFragment = "drop_fragment",
    /// The hop count ends here, and nobody is told.
    DropTtlExpired = "drop_ttl_expired",
    /// Flags that no TCP sends: SYN with FIN or RST, none at all, a SYN-ACK to a service.
    DropBadFlags = "drop_bad_flags",
    /// A RST that belongs to no flow.
    DropRstWithoutFlow = "drop_rst_without_flow",
    /// From a backend to a SNAT port that no flow has.
    DropStaleReply = "drop_stale_reply",
    /// An ICMP error about a segment that is balanced, of no flow.
    DropIcmpWithoutFlow = "drop_icmp_without_flow",
    /// From a source that the service does not allow.
    DropNotAllowed = "drop_not_allowed",
    /// More new connections of one source than the service allows.
    DropRateLimited = "drop_rate_limited",
    /// No SNAT port is free towards the backend.
    DropSnatExhausted = "drop_snat_exhausted",
    /// A flow could not be stored.
    DropFlowInsert = "drop_flow_insert",
    /// Neither the controller nor the kernel knows the way to the backend or client.
    DropNoNextHop = "drop_no_next_hop",
    /// The VIP is no longer this node's.
    DropLeaseExpired = "drop_lease_expired",
    /// A map that the controller fills has a gap: a defect.
    DropInconsistent = "drop_inconsistent",
    /// Of `dsr`, and sent to its backend already: switches flood, and an interface may listen to all.
    PassOtherHost = "pass_other_host",
    /// A backend's refusal of a SYN that another backend may answer when the client sends it again.
    DropRefusedSyn = "drop_refused_syn",
    /// To a VIP with `accept: false`, of no service.
    DropNotAccepted = "drop_not_accepted",
    /// From a client to a backend on this node, by way of its kernel.
    ForwardLocalRequest = "forward_local_request",
    /// From a backend on this node to a client, likewise.
    ForwardLocalReply = "forward_local_reply",
    /// An ICMP error, to a backend on this node.
    ForwardLocalIcmpError = "forward_local_icmp_error",
}

#[expect(clippy::cast_possible_truncation, reason = "there are few")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// Those of segments that are forwarded, which are kept by backend: see [`BackendTraffic`].
    ///
    /// [`BackendTraffic`]: crate::backend::BackendTraffic
    #[inline(always)]
    pub const fn of_forwarded(direction: Direction, way: Way) -> Self {
        match (direction, way) {
            (Direction::Original, Way::Back) => Self::ForwardRequest,
            (Direction::Original, Way::Across) => Self::RedirectRequest,
            (Direction::Original, Way::Local) => Self::ForwardLocalRequest,
            (Direction::Reply, Way::Back) => Self::ForwardReply,
            (Direction::Reply, Way::Across) => Self::RedirectReply,
            (Direction::Reply, Way::Local) => Self::ForwardLocalReply,
        }
    }
}

/// Elements of the counter map that a CPU has: whole cache lines of its own.
pub const OF_CPU: u32 = COUNTERS.next_multiple_of(8);

/// Where a CPU's counter is in the counter map. That is an array of all CPUs' counters and no per-CPU map: what the
/// program reads to find an element of the latter is a cache line more for each packet. Behind the last CPU's are the
/// controller's, which hold what was counted of backends that are gone.
#[inline(always)]
pub const fn place(cpu: u32, counter: u32) -> u32 {
    cpu * OF_CPU + counter
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_follow_the_verdict() {
        let names: BTreeSet<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            let (verdict, _) = counter.name().split_once('_').unwrap();
            assert!(["pass", "forward", "redirect", "reset", "answer", "drop"].contains(&verdict));
        }
    }
}
