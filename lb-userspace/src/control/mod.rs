//! What the maps should hold, and the writes that get them there.
//!
//! ```text
//! config ──┐
//! health ──┼─► desired ──► plan ──► MapOps ──► maps
//! admin  ──┘                ▲                   │
//!                           └─── Installed ◄────┘
//! ```
//!
//! `standing` says what probes make of a service's backends together, `desired` which of them take new flows, `maglev` how flows spread over them, `plan` which
//! writes are missing and in which order they are safe. These are pure: they may be tried with
//! any input. Whoever writes maps replays each operation on its copy of [`plan::Installed`].

pub mod calendar;
pub mod desired;
pub mod doubt;
pub mod driver;
pub mod elections;
pub mod flows;
pub mod give_up;
pub mod idle_reset;
pub mod links;
pub mod local_clients;
pub mod maglev;
pub mod paced;
pub mod packets;
pub mod plan;
pub mod reload;
pub mod reset_frame;
pub mod standing;
pub mod status;
pub mod trace;
pub mod unheard;
