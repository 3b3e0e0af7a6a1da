//! The administrative API: HTTP over a Unix socket, and over TCP if that is wanted. I/O.
//!
//! ```text
//! cli ── client ──► socket ── server ── api ──┬─ Command (mpsc) ──► daemon, control
//!            └─────── model ───────┘    ▲     └◄ Status (watch) ◄── control
//! browser, scraper ──────► listener ─────┘
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

pub mod api;
pub mod client;
mod connection;
pub mod listener;
pub mod model;
mod page;
pub mod query;
mod routes;
mod server;
mod socket;

pub use server::serve;
pub use socket::{Listener, bind};

use model::{BackendChange, Peer, Reload, Reloaded, Status};
use query::Query;

/// What a client asks of the controller. Who gave up waiting has dropped the receiver of `reply`.
#[derive(Debug)]
pub enum Command {
    /// Read the configuration again; the answer is what changed, or what is wrong with it.
    Reload { wish: Reload, by: Option<Peer>, reply: oneshot::Sender<Result<Reloaded, String>> },
    /// End. With `handover` the datapath goes on.
    Stop { handover: bool },
    /// Give the VIPs up without a gap; with `resume` take part again.
    Drain { resume: bool, reply: oneshot::Sender<Result<(), String>> },
    /// Change what is not `None`; refused with the reason if there is no such backend. The answer says
    /// why the change will be forgotten at the next start, if it will.
    SetBackend {
        service: String,
        backend: String,
        change: BackendChange,
        by: Option<Peer>,
        reply: oneshot::Sender<Result<Option<String>, String>>,
    },
    /// What changes no decision.
    Query(Query),
    /// The address that this node's own connections to some other come from; `None`: any.
    SourceFor { address: IpAddr, reply: oneshot::Sender<Option<IpAddr>> },
}

/// Where [`Command`]s go. Bounded: what finds it full waits, then fails.
pub type Commands = mpsc::Sender<Command>;

/// The latest status; reading it disturbs nobody.
pub type StatusReader = watch::Receiver<Arc<Status>>;

#[cfg(test)]
mod tests;
