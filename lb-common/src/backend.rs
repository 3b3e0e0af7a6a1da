//! The value of the backend map: where an identifier's packets go. Pure.

use crate::addr::{Endpoint, Ipv4Be, NextHop};

/// Index into the backend map. Not reused while a flow refers to it. 0 is never a backend.
pub type BackendId = u32;

/// One backend of one service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend<A> {
    pub endpoint: Endpoint<A>,
    /// Filled by the controller from routes and neighbours; unknown: the datapath asks the FIB.
    pub next_hop: NextHop,
    /// Counts how often this backend was given up with its flows; a flow of another epoch is reset.
    pub epoch: u32,
    pub service: u32,
    /// [`State`] as a number, kept for the controller's successor.
    pub state: u8,
    pub _pad: [u8; 3],
}

const _: () = assert!(size_of::<Backend<Ipv4Be>>() == 40);

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
            _ => return None,
        })
    }
}

/// Traffic of one backend, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    pub request_packets: u64,
    pub request_bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
    /// Flows made.
    pub flows: u64,
    /// Flows confirmed by a reply.
    pub connections: u64,
}

impl core::ops::AddAssign<&Self> for BackendCounters {
    fn add_assign(&mut self, other: &Self) {
        self.request_packets += other.request_packets;
        self.request_bytes += other.request_bytes;
        self.reply_packets += other.reply_packets;
        self.reply_bytes += other.reply_bytes;
        self.flows += other.flows;
        self.connections += other.connections;
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{Backend, BackendCounters};
    use crate::addr::Ipv4Be;

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for Backend<Ipv4Be> {}
    // SAFETY: six u64.
    unsafe impl aya::Pod for BackendCounters {}
}
