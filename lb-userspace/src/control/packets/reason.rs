//! Verdicts in words, for one packet. Pure.

use lb_common::counters::Counter;

/// Why a packet met its verdict.
pub const fn reason(counter: Counter) -> &'static str {
    match counter {
        Counter::PassNotIp => "it is no IP packet",
        Counter::PassNotVip => "it is not to a VIP",
        Counter::PassNotTcp => "to a VIP, but no TCP",
        Counter::PassNotService => "no service has this port of the VIP",
        Counter::PassForeign => "from a backend, of no flow: its own traffic",
        Counter::PassOtherHost => "sent to its backend already: a switch flooded it",
        Counter::ForwardRequest => "to the flow's backend",
        Counter::RedirectRequest => "to the flow's backend, by another interface",
        Counter::ForwardReply => "to the flow's client",
        Counter::RedirectReply => "to the flow's client, by another interface",
        Counter::ForwardLocalRequest => "to the flow's backend, by this node's kernel",
        Counter::ForwardLocalReply => "to the flow's client, by this node's kernel",
        Counter::ForwardLocalIcmpError => "an error about the flow, to its backend on this node",
        Counter::ForwardIcmpError => "an error about the flow, to its other end",
        Counter::RedirectIcmpError => {
            "an error about the flow, to its other end, by another interface"
        }
        Counter::ResetNoBackend => "the service has no backend",
        Counter::ResetNoFlow => "it would end a flow that there is none of",
        Counter::ResetUnconfirmed => "the backend does not know this connection",
        Counter::ResetTableFull => "the table of flows is full",
        Counter::ResetBackendDown => "the flow's backend was given up",
        Counter::AnswerTimeExceeded => "its hop count ends here: time exceeded",
        Counter::DropMalformed => "its headers contradict each other or are cut off",
        Counter::DropFragment => "a fragment of TCP",
        Counter::DropTtlExpired => "its hop count ends here",
        Counter::DropBadFlags => "flags that no TCP sends",
        Counter::DropRstWithoutFlow => "a RST of no flow",
        Counter::DropStaleReply => "a backend's reply to a flow that is no more",
        Counter::DropRefusedSyn => "the backend refuses; another is tried at the client's next SYN",
        Counter::DropIcmpWithoutFlow => "an error about a flow that is no more",
        Counter::DropNotAllowed => "its source is in no range of `allow`",
        Counter::DropRateLimited => "its source opens too many connections",
        Counter::DropSnatExhausted => "no port is free towards the backend",
        Counter::DropFlowInsert => "the flow could not be stored",
        Counter::DropNoNextHop => "nobody knows the way",
        Counter::DropLeaseExpired => "the VIP is not this node's",
        Counter::DropInconsistent => "a map has a gap: a defect",
        Counter::DropNotAccepted => "no service has this port, and the VIP accepts nothing else",
    }
}
