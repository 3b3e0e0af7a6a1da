//! The value of the backend map: where an identifier's packets go. Pure.

use crate::addr::Endpoint;
use crate::link::NextHop;

/// Index into the backend map. Not reused while a flow refers to it. 0 is never a backend.
pub type BackendId = u32;

/// One backend of one service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    pub endpoint: Endpoint,
    /// Filled by the controller from routes and neighbours; unknown: the datapath asks the FIB.
    pub next_hop: NextHop,
    /// Counts how often this backend was given up with its flows; a flow of another epoch is reset.
    pub epoch: u16,
    /// [`State`] as a number, kept for the controller's successor.
    pub state: u8,
    /// What probes alone said, as a [`State`]; 0: not recorded. Kept for the same.
    pub health: u8,
    pub service: u32,
    /// [`flag`] bits.
    pub flags: u32,
}

const _: () = assert!(size_of::<Backend>() == 48);

/// Bits of [`Backend::flags`].
pub mod flag {
    /// It listens on this node: requests are handed to its kernel, and replies are met where they leave.
    pub const LOCAL: u32 = 1 << 0;
}

impl Backend {
    /// On this node.
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        self.flags & flag::LOCAL != 0
    }
}

/// What the controller last thought of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The slot is free.
    #[default]
    Free = 0,
    Unknown = 1,
    Up = 2,
    Draining = 3,
    Down = 4,
    Disabled = 5,
    /// Gone from the configuration, kept for its flows.
    Removed = 6,
    /// Ready but for what it shares with the others; for when nobody is better.
    Degraded = 7,
}

impl State {
    /// `None`: written by a version that knew more states.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Free,
            1 => Self::Unknown,
            2 => Self::Up,
            3 => Self::Draining,
            4 => Self::Down,
            5 => Self::Disabled,
            6 => Self::Removed,
            7 => Self::Degraded,
            _ => return None,
        })
    }
}

/// How a segment of a flow leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Way {
    /// By the interface that it came in by.
    Back = 0,
    /// By another one.
    Across = 1,
    /// By way of this node's kernel.
    Local = 2,
}

/// What was forwarded in one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    pub bytes: u64,
    /// By [`Way`].
    pub packets: [u64; 3],
}

/// Traffic of one backend, on one CPU: a cache line, and all that a segment in mid-flow is counted in. So the counters of
/// these verdicts are kept by backend, and their sums are what is shown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendTraffic {
    pub requests: Forwarded,
    pub replies: Forwarded,
}

const _: () = assert!(size_of::<BackendTraffic>() == 64, "a cache line");

/// What else happens with one backend, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendEvents {
    /// Flows made.
    pub flows: u64,
    /// Flows confirmed by a reply, or by the client alone in `dsr`.
    pub connections: u64,
    /// SYNs that a client had to send again.
    pub unanswered: u64,
    /// SYNs answered with RST.
    pub refused: u64,
}

/// Where a CPU's counters of a backend are in the maps, which have those of `backends` for each CPU. `None`: there is no
/// such backend.
#[inline(always)]
pub const fn place(cpu: u32, id: BackendId, backends: u32) -> Option<u32> {
    if id < backends { Some(cpu * backends + id) } else { None }
}

impl core::ops::AddAssign<&Self> for Forwarded {
    fn add_assign(&mut self, other: &Self) {
        self.bytes += other.bytes;
        for (sum, more) in self.packets.iter_mut().zip(other.packets) {
            *sum += more;
        }
    }
}

impl core::ops::AddAssign<&Self> for BackendTraffic {
    fn add_assign(&mut self, other: &Self) {
        self.requests += &other.requests;
        self.replies += &other.replies;
    }
}

impl core::ops::AddAssign<&Self> for BackendEvents {
    fn add_assign(&mut self, other: &Self) {
        self.flows += other.flows;
        self.connections += other.connections;
        self.unanswered += other.unanswered;
        self.refused += other.refused;
    }
}

/// What the datapath tells the controller of a backend. Records of the signal ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub backend: BackendId,
    /// [`SignalKind`] as a number.
    pub kind: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SignalKind {
    /// A client had to send its SYN again.
    Unanswered = 1,
    /// A SYN was answered with RST.
    Refused = 2,
}

impl SignalKind {
    /// `None`: of a version that knew more kinds.
    pub const fn from_u32(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Unanswered,
            2 => Self::Refused,
            _ => return None,
        })
    }
}

/// Bytes of the signal ring: 256 records, of which the controller needs one to know.
pub const SIGNAL_RING: u32 = 4096;

#[cfg(feature = "user")]
mod pod {
    use super::{Backend, BackendEvents, BackendTraffic, Signal};

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for Backend {}
    // SAFETY: eight u64.
    unsafe impl aya::Pod for BackendTraffic {}
    // SAFETY: four u64.
    unsafe impl aya::Pod for BackendEvents {}
    // SAFETY: two u32.
    unsafe impl aya::Pod for Signal {}
}
