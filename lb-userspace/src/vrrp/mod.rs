//! Who owns the VIPs: VRRP (RFC 9568, and RFC 3768 for version 2).
//!
//! ```text
//!                       +---------------+
//!            +--------->|               |<-------------+
//!            |          |  Initialize   |              |
//!            |   +------|               |----------+   |
//!            |   |      +---------------+          |   |
//!            |   |                                 |   |
//!            |   V                                 V   |
//!    +---------------+                       +---------------+
//!    |               |---------------------->|               |
//!    |    Backup     |                       |    Active     |
//!    |               |<----------------------|               |
//!    +---------------+                       +---------------+
//!            ^            +-------------+            |
//!            +----------->|    Fault    |<-----------+
//!                         +-------------+
//! ```
//! The figure of RFC 9568 6.4; "Active" is "Master" in older texts. `Fault` is keepalived's: the link or
//! the address is gone, so the instance is mute until it is back.
//!
//! ```text
//!  socket ─ bytes ─► packet ─ Advert ─► settings ─ Event ─► fsm ─ Actions ─► socket, addresses, lease
//!                    (parse)            (admits)             ▲  └─ Transition ─► group, hooks, status
//!  tracked facts ──► tracking ─ adjustment ──────────────────┘
//! ```
//! All of these but the thread with its socket, addresses and lease are pure.

pub mod addresses;
pub mod announce;
pub mod announcing;
pub mod channel;
pub mod claim;
pub mod clock;
pub mod event;
#[cfg(test)]
mod frugal;
pub mod fsm;
pub mod group;
pub mod lease;
pub mod packet;
pub mod poller;
pub mod realtime;
pub mod settings;
#[cfg(test)]
mod sim;
pub mod socket;
pub mod thread;
pub mod timers;
pub mod tracking;
pub mod view;

use std::fmt;

pub use event::{Action, Actions, Alarm, Event, FaultCause, Previous, Reason, Transition};
pub use fsm::Instance;
pub use packet::{Advert, Discard, Envelope};
pub use settings::Settings;
pub use timers::Nanos;

/// What an instance is (RFC 9568 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Not started, or stopped.
    Init,
    /// Watches the Active one.
    Backup,
    /// Holds the VIPs.
    Active,
    /// Cannot take part: see [`FaultCause`].
    Fault,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Init, Self::Backup, Self::Active, Self::Fault];

    /// Its name in `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Active => "active",
            Self::Fault => "fault",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol's version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Version {
    /// RFC 3768: IPv4 (and keepalived's IPv6), whole seconds, optional password.
    #[serde(rename = "2")]
    V2,
    /// RFC 9568: both families, centiseconds.
    #[default]
    #[serde(rename = "3")]
    V3,
}

impl Version {
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// The priority that says: take over at once, I give up.
pub const PRIORITY_GIVE_UP: u8 = 0;

/// The priority of the node whose own addresses the VIPs are; never changed by tracking.
pub const PRIORITY_OWNER: u8 = 255;

/// What a node advertises that wants to be relieved without a gap.
pub const PRIORITY_DRAIN: u8 = 1;
