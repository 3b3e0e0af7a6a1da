//! The administrative API: HTTP over a Unix socket. I/O.
//!
//! ```text
//! cli ── client ──► socket ── server ── api ──┬─ Command (mpsc) ──► daemon, control
//!            └─────── model ───────┘          └◄ Status (watch) ◄── control
//! ```

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

pub mod api;
pub mod client;
pub mod model;
pub mod query;
mod routes;
mod server;
mod socket;

pub use server::serve;
pub use socket::{Listener, bind};

use model::{Admin, Status};
use query::Query;

/// What a client asks of the controller. Who gave up waiting has dropped the receiver of `reply`.
#[derive(Debug)]
pub enum Command {
    /// Read the configuration again; the answer is what changed, or what is wrong with it.
    Reload { reply: oneshot::Sender<Result<Vec<String>, String>> },
    /// End. With `handover` the datapath goes on.
    Stop { handover: bool },
    /// Change what is not `None`; refused with the reason if there is no such backend.
    SetBackend {
        service: String,
        backend: String,
        admin: Option<Admin>,
        weight: Option<u16>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// What changes no decision.
    Query(Query),
}

/// Where [`Command`]s go. Bounded: what finds it full waits, then fails.
pub type Commands = mpsc::Sender<Command>;

/// The latest status; reading it disturbs nobody.
pub type StatusReader = watch::Receiver<Arc<Status>>;

#[cfg(test)]
mod tests;
