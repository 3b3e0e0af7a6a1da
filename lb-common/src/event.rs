//! What the datapath tells of confirmed flows, for a peer to know them too. Pure.

use crate::addr::{Address, IpBe, PortBe};
use crate::conntrack::{FlowHalf, flag};

/// What one direction has sent and acknowledged: where a RST to it has to be, and where its FIN is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    pub seq_end: u32,
    pub ack: u32,
    /// Valid if it has sent a FIN.
    pub fin_end: u32,
    /// Bits of [`Self::FLAGS`].
    pub flags: u32,
}

impl Progress {
    /// Bits of [`flag`] that say what a direction has sent.
    pub const FLAGS: u32 = flag::SYN | flag::FIN | flag::FIN_FIRST | flag::RST;

    /// Of a half of a confirmed flow, whose SYN was sent though it may have been seen by a predecessor.
    #[inline(always)]
    pub const fn of<A>(half: &FlowHalf<A>) -> Self {
        Self {
            seq_end: half.seq_end,
            ack: half.ack,
            fin_end: half.fin_end,
            flags: half.flags & Self::FLAGS | flag::SYN,
        }
    }
}

/// A confirmed flow as it is after a change. Records of the ring of flow events.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent {
    pub client: IpBe,
    pub vip: IpBe,
    /// Where its requests come from, for the backend.
    pub source: IpBe,
    pub backend: IpBe,
    pub client_port: PortBe,
    pub vip_port: PortBe,
    pub source_port: PortBe,
    pub backend_port: PortBe,
    /// [`crate::nat::Kind`] as a number.
    pub kind: u32,
    pub _pad: u32,
    pub original: Progress,
    /// Zero in `dsr`.
    pub reply: Progress,
}

const _: () = assert!(size_of::<FlowEvent>() == 112);

impl FlowEvent {
    /// Becomes that of a flow of two halves, which know all ends of it.
    ///
    /// In place: it has no room on the datapath's stack.
    #[inline(always)]
    pub fn init<A: Address>(&mut self, original: &FlowHalf<A>, reply: &FlowHalf<A>) {
        let (there, back) = (&original.translation, &reply.translation);
        self.client = back.dst.ip();
        self.client_port = back.ports.dst();
        self.vip = back.src.ip();
        self.vip_port = back.ports.src();
        self.source = there.src.ip();
        self.source_port = there.ports.src();
        self.backend = there.dst.ip();
        self.backend_port = there.ports.dst();
        self.kind = original.kind as u32;
        self._pad = 0;
        self.original = Progress::of(original);
        self.reply = Progress::of(reply);
    }

    /// Likewise of a flow of `dsr`, whose packets keep their addresses on the way to `backend`.
    #[inline(always)]
    pub fn init_alone<A: Address>(&mut self, half: &FlowHalf<A>, backend: IpBe, port: PortBe) {
        let there = &half.translation;
        self.client = there.src.ip();
        self.client_port = there.ports.src();
        self.vip = there.dst.ip();
        self.vip_port = there.ports.dst();
        self.source = self.client;
        self.source_port = self.client_port;
        self.backend = backend;
        self.backend_port = port;
        self.kind = half.kind as u32;
        self._pad = 0;
        self.original = Progress::of(half);
        self.reply = Progress { seq_end: 0, ack: 0, fin_end: 0, flags: 0 };
    }
}

/// Whether a CPU tells, and what it could not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowReport {
    /// Not 0: somebody reads the ring.
    pub wanted: u64,
    /// Events that found no room.
    pub lost: u64,
}

/// Bytes of the ring: 34,000 records, half a second of 60,000 a second.
pub const FLOW_RING: u32 = 1 << 22;
/// Where nobody reads it.
pub const FLOW_RING_UNUSED: u32 = 4096;

#[cfg(feature = "user")]
mod pod {
    use super::{FlowEvent, FlowReport};

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for FlowEvent {}
    // SAFETY: two u64.
    unsafe impl aya::Pod for FlowReport {}
}
