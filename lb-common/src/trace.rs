//! What the program that looks at the datapath's packets is told, and what it tells. Pure.
//!
//! It is in front of the XDP program, which it calls, only while somebody follows packets. A packet that
//! passes the filter is one [`Record`], the bytes that came in and the bytes that left.

use crate::addr::{IpBe, Ipv4Be, Ipv6Be, PortBe};
use crate::backend::BackendId;
use crate::conntrack::FlowHalf;
use crate::counters::{COUNTERS, Counter};
use crate::flow::FlowKey;
use crate::rate::RateLimit;

/// Name of the program.
pub const PROGRAM: &str = "fairlead_trace";
/// Name of its constant [`Filter`].
pub const FILTER: &str = "FILTER";

/// Bytes of a frame that are kept at most: a jumbo frame of 9,000 with its header, and room.
pub const MAX_SNAP: usize = 9216;
/// Bytes of the ring: 1,300 frames of 1,500 bytes in and out, 9,000 of headers.
pub const RING: u32 = 1 << 22;
/// Backends that one filter has: a name stands for one of either family in several services.
pub const MAX_BACKENDS: usize = 16;

/// A backend as a packet or its flow shows it. Identifier 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendAt {
    pub address: IpBe,
    pub id: BackendId,
    pub port: PortBe,
    pub _pad: u16,
}

const _: () = assert!(size_of::<BackendAt>() == 24);

/// Which packets are told of. Zero excludes none, but for `counters`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Nanoseconds of CLOCK_MONOTONIC: from then on nothing is told.
    pub until: u64,
    pub client: IpBe,
    pub client_mask: IpBe,
    pub vip: IpBe,
    /// Only the first ones count, until one without identifier.
    pub backends: [BackendAt; MAX_BACKENDS],
    /// A bit for each [`Counter`] whose packets are told of.
    pub counters: u64,
    /// A bit for each one whose packets leave: of the others what came in is all that there is.
    pub leaving: u64,
    pub limit: RateLimit,
    pub client_port: PortBe,
    pub vip_port: PortBe,
    /// Bytes of a frame that are told, at most [`MAX_SNAP`].
    pub snap: u32,
    /// [`side`] bits.
    pub sides: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Filter>() == 8 + 48 + 24 * MAX_BACKENDS + 16 + 8 + 16);
const _: () = assert!(COUNTERS <= 64);

/// From whom packets are.
pub mod side {
    /// Clients, and everybody whose packets belong to no flow.
    pub const REQUEST: u32 = 1 << 0;
    /// Backends, of known flows.
    pub const REPLY: u32 = 1 << 1;
    pub const BOTH: u32 = REQUEST | REPLY;
}

impl Filter {
    /// Tells of everything that is balanced.
    pub const ALL: Self = Self {
        until: u64::MAX,
        client: IpBe::UNSPECIFIED,
        client_mask: IpBe::UNSPECIFIED,
        vip: IpBe::UNSPECIFIED,
        backends: [BackendAt {
            address: IpBe::UNSPECIFIED,
            id: 0,
            port: PortBe::from_word(0),
            _pad: 0,
        }; MAX_BACKENDS],
        counters: u64::MAX
            ^ Self::bit(Counter::PassNotIp)
            ^ Self::bit(Counter::PassNotVip)
            ^ Self::bit(Counter::PassForeign),
        leaving: u64::MAX,
        limit: RateLimit::NONE,
        client_port: PortBe::from_word(0),
        vip_port: PortBe::from_word(0),
        snap: 256,
        sides: side::BOTH,
        _pad: 0,
    };

    /// Of [`Self::counters`].
    #[inline(always)]
    pub const fn bit(counter: Counter) -> u64 {
        1 << counter as u32
    }
}

/// What is known of a packet. In the ring, followed by the captured bytes: those of the frame that came
/// in, then those of the frame that left.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record {
    /// Nanoseconds of CLOCK_MONOTONIC: before the program, and behind it.
    pub entered: u64,
    pub left: u64,
    /// The kernel's number of the interface that it came in by.
    pub ifindex: u32,
    pub cpu: u32,
    /// Index of its [`Counter`].
    pub counter: u32,
    /// [`found`] bits.
    pub found: u32,
    /// Of the whole frame; before Linux 5.18, of its first buffer.
    pub length_in: u32,
    pub length_out: u32,
    pub captured_in: u32,
    pub captured_out: u32,
    pub flow: Flow,
}

/// Bits of [`Record::found`].
pub mod found {
    /// The addresses are of IPv6.
    pub const IPV6: u32 = 1 << 0;
    /// The packet is of a flow: [`super::Halves::original`] is valid.
    pub const FLOW: u32 = 1 << 1;
    /// So is [`super::Halves::reply`].
    pub const REPLY: u32 = 1 << 2;
    /// The flow was there before the packet.
    pub const BEFORE: u32 = 1 << 3;
    /// The packet is from the flow's backend, or about what that sent.
    pub const FROM_BACKEND: u32 = 1 << 4;
}

/// A flow as it is behind the program.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Halves<A> {
    /// Of the original half; without a flow, the packet's own.
    pub key: FlowKey<A>,
    pub original: FlowHalf<A>,
    pub reply: FlowHalf<A>,
}

/// By [`found::IPV6`].
#[repr(C)]
#[derive(Clone, Copy)]
pub union Flow {
    pub v4: Halves<Ipv4Be>,
    pub v6: Halves<Ipv6Be>,
}

impl Record {
    #[inline(always)]
    pub const fn has(&self, bits: u32) -> bool {
        self.found & bits != 0
    }

    /// `None`: the packet is of IPv6.
    pub const fn v4(&self) -> Option<&Halves<Ipv4Be>> {
        // SAFETY: integers only, of which all values are valid.
        if self.has(found::IPV6) { None } else { Some(unsafe { &self.flow.v4 }) }
    }

    /// `None`: the packet is of IPv4.
    pub const fn v6(&self) -> Option<&Halves<Ipv6Be>> {
        // SAFETY: likewise.
        if self.has(found::IPV6) { Some(unsafe { &self.flow.v6 }) } else { None }
    }
}

/// What was seen, and why less was told. One for all CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// When the next record is due, as [`RateLimit::next`] says it.
    pub due: u64,
    /// Packets that the filter let through.
    pub matched: u64,
    /// Of those: above the rate.
    pub suppressed: u64,
    /// Of those: the ring was full.
    pub lost: u64,
}

#[cfg(feature = "user")]
mod pod {
    use super::{Filter, Record, Tally};

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for Filter {}
    // SAFETY: integers only; what a flow of IPv4 leaves of the union was written by an earlier record, or
    // by the kernel as zeros.
    unsafe impl aya::Pod for Record {}
    // SAFETY: integers only.
    unsafe impl aya::Pod for Tally {}
}
