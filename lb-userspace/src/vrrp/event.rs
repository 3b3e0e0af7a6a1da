//! What an instance is told, and what it wants done. Pure.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;
use lb_common::link::Mac;

use super::packet::{Advert, Discard};
use super::{Nanos, Settings, State};

/// What an instance is told.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Take part; `previous` is what an earlier run of the controller left. Link and address
    /// should have been told first: until then they are faults.
    Start { previous: Option<Previous> },
    /// The deadline may have passed. Harmless when it has not. Everything that the sockets hold must
    /// have been told before, so that a late call does not mistake queued advertisements for silence.
    Timer,
    /// An advertisement of a peer that [`Settings::admits`] took, which arrived at `at` (the
    /// kernel's receive time stamp, not later than `now`).
    Received { advert: &'a Advert, source: IpAddr, at: Nanos },
    /// A packet for this instance was dropped.
    Discarded { discard: Discard, source: IpAddr },
    /// Any frame at all arrived on the interface since its link came up: it truly receives.
    Receiving,
    /// The interface has a carrier, or lost it.
    Link { up: bool },
    /// The address that advertisements are sent from; none: the interface has none that is no VIP.
    Address { own: Option<IpAddr> },
    /// What tracking adds to the configured priority.
    Tracked { adjustment: i16 },
    /// Something that forbids to take part came, or went.
    Fault { cause: FaultCause, present: bool },
    /// The sync group agreed that all its members become Active now.
    Promote,
    /// Another member of the sync group is no longer Active, or heard of an Active peer.
    StepDown,
    /// Other settings apply; the VRID and the family stay.
    Reconfigure(&'a Settings),
    /// Be relieved without a gap: advertise priority 1 until somebody takes over, or nobody did.
    Drain,
    /// Take back [`Event::Drain`].
    Resume,
    /// Tell peers to leave the VIPs to a successor for a while. Nothing is to be told afterwards.
    HandOver,
    /// Stop at once; an Active instance says so with priority 0.
    Shutdown,
}

/// What an earlier run of the controller was when it wrote its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its term, which the next one follows.
    pub term: u64,
    /// Until when no peer takes over, if it was Active and did not give up: its lease's `answer_until`.
    pub until: Option<Nanos>,
}

/// What an instance wants done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advertisement, to each peer if unicast.
    SendAdvert { priority: u8 },
    /// Send the last advertisement before a handover, which announces this interval.
    SendLastAdvert { priority: u8, interval: Duration },
    /// Extend the lease of every VIP; not if the advertisement before it could not be sent to anybody,
    /// or the last one not to everybody.
    RenewLease(Lease),
    /// End the lease: answer nothing any more, forward established flows until then.
    EndLease { forward_until: Nanos },
    /// Own every VIP, whatever is there already.
    HoldVips,
    /// Remove every VIP.
    ReleaseVips,
    /// Announce every VIP: a burst, then now and then.
    StartAnnouncing,
    /// Forget announcements that are pending.
    StopAnnouncing,
    /// The Active_Down_Interval is over, but the sync group has to agree: see [`Event::Promote`].
    Wish,
    /// The Active peer is back, or a fault is: the wish is void.
    Unwish,
    /// The state changed.
    Notify(Transition),
    /// A peer that ranks below is Active too and has to give way: the term goes on. Once a conflict.
    Reaffirmed { term: u64, peer: IpAddr },
    /// The drain is over.
    Drained(Drained),
    /// Something is wrong on the link. Raised at each occurrence: the reporter limits the rate.
    Alarm(Alarm),
}

/// More than any event calls for; `Instance::handle` never allocates.
pub const MAX_ACTIONS: usize = 12;

/// The list of actions that one event calls for.
pub type Actions = ArrayVec<Action, MAX_ACTIONS>;

/// How long this node may act for its VIPs without another advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// No peer takes over sooner.
    pub answer_until: Nanos,
    /// `answer_until` and the linger.
    pub forward_until: Nanos,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: State,
    pub to: State,
    /// How many times the instance has become Active, this time included.
    pub term: u64,
    pub reason: Reason,
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Started,
    /// An earlier run of the controller was Active until just before.
    Adopted,
    /// Priority 255.
    Owner,
    /// No peer was heard for so long since the start.
    NobodyHeard {
        waited: Duration,
    },
    /// The Active peer fell silent.
    PeerSilent {
        peer: IpAddr,
        silent: Duration,
    },
    /// The Active peer gave up: priority 0.
    PeerGaveUp {
        peer: IpAddr,
    },
    /// The Active peer's priority is lower than ours.
    Preempting {
        peer: IpAddr,
        priority: u8,
    },
    /// The sync group's other members became Active.
    Group,
    /// A peer with a higher priority, or with the same and a higher address, advertised.
    Higher {
        peer: IpAddr,
        priority: u8,
    },
    /// A peer took over while this node was stalled, and preempt is off, or the peer's flows are to be learnt
    /// first.
    Stalled {
        peer: IpAddr,
        late: Duration,
    },
    /// Nobody took over while draining.
    DrainExpired,
    Fault(FaultCause),
    /// The last fault is gone.
    Recovered,
    Shutdown,
}

/// Why an instance cannot take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultCause {
    /// No carrier.
    Link,
    /// The interface has no address to send from.
    Address,
    /// Somebody keeps removing the VIPs.
    Vips,
    /// Something tracked without a weight failed.
    Tracked,
    /// Another member of the sync group has a fault.
    Group,
}

impl FaultCause {
    pub const ALL: [Self; 5] = [Self::Link, Self::Address, Self::Vips, Self::Tracked, Self::Group];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link down",
            Self::Address => "no address to send from",
            Self::Vips => "the VIPs keep vanishing",
            Self::Tracked => "something tracked failed",
            Self::Group => "fault in the sync group",
        }
    }
}

impl fmt::Display for FaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The peer is Active.
    TakenOver { peer: IpAddr },
    /// Nobody took over in time, although a peer was heard before: given up with priority 0.
    GaveUp,
    /// No peer was ever heard, so the VIPs stay here.
    NobodyThere,
    /// There was nothing to give up.
    NotActive,
}

/// What is wrong on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A peer that ranks below advertises while this node does.
    TwoActives { peer: IpAddr, priority: u8 },
    /// A peer advertises what this node drops, while this node is Active.
    RefusedActive { peer: IpAddr, discard: Discard },
    /// Same priority, same address.
    DuplicateNode { peer: IpAddr },
    /// Two nodes with the same priority take over together (RFC 9568 8.3.2).
    EqualPriority { peer: IpAddr, priority: u8 },
    /// The VRID is in use for other VIPs: another cluster's.
    ForeignVrid { peer: IpAddr },
    /// The VIPs differ in part.
    AddressList { peer: IpAddr },
    /// The peer's interval, which is followed, is not the configured one.
    Interval { peer: IpAddr, theirs: Duration },
    /// Another owner (priority 255) of the VIPs.
    TwoOwners { peer: IpAddr },
    /// Another host says to have a VIP that this node holds.
    Claimed { vip: IpAddr, by: Mac },
    /// An advertisement went out so much later than the one before that peers may have taken over.
    Late { by: Duration },
}
