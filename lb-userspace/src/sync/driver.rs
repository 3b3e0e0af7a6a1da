//! The thread that speaks with peers: listens, dials, feeds a session for each of them, and looks at the flows of
//! this node for them, slice by slice, by descriptors of its own. Neither the main loop nor VRRP waits for it. I/O.
//!
//! ```text
//!  controller ── Command ─────►┌────────┐◄─── changes ──── datapath
//!  controller ◄── Notice ──────│ Engine │──── apply ─────► datapath
//!  status ◄────── View ────────└─┬────▲─┘
//!                        Outbox  ▼    │  Input
//!                            connections ◄═══► peers
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use super::fsm::Vips;
use super::record::FlowId;
use super::store::Store;
use super::view::View;
use crate::config::Sync;
use engine::Engine;

mod clients;
mod engine;
mod listener;
mod peer;
#[cfg(test)]
mod tests;

/// How often the datapath is asked what changed: half of what a change may take to leave, with the batch's.
pub const READ: Duration = Duration::from_millis(10);

/// What the controller wants.
#[derive(Debug)]
pub enum Command {
    /// Other peers, another address, another key file.
    Configure(Box<Sync>),
    /// This node serves these VIPs.
    Serving(Vips),
    /// It could not be told of flows for a while, or may not have been.
    Cool,
    Stop,
}

/// What the controller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Joined {
        peer: SocketAddr,
        name: String,
    },
    Lost {
        peer: SocketAddr,
        reason: String,
    },
    /// Everything of a peer's is here.
    Synced {
        peer: SocketAddr,
        flows: u64,
    },
    /// Once a second and cause at most.
    Refused {
        from: SocketAddr,
        reason: String,
    },
    /// Whether this node knows its peers' flows.
    Warm(bool),
    /// The VIPs of whose flows peers tell.
    Told(BTreeSet<IpAddr>),
    /// Flows that only this node has, though a peer serves their VIP.
    Discarded(Vec<FlowId>),
    /// Clients of flows that peers serve: the way to them is to be known. What is lost is found within a second.
    Clients(BTreeSet<IpAddr>),
    /// For the log.
    Trouble(String),
}

/// The controller's end of the thread.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    views: Arc<Mutex<View>>,
    thread: JoinHandle<()>,
}

/// Notices that may wait: changes of state are rare, refusals are limited.
const NOTICES: usize = 256;

/// Starts the thread in the current network namespace.
pub fn spawn(
    config: Sync,
    capacity: usize,
    store: Box<dyn Store>,
) -> Result<(Handle, mpsc::Receiver<Notice>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime for sync")?;
    let (commands, command_receiver) = mpsc::unbounded_channel();
    let (notices, notice_receiver) = mpsc::channel(NOTICES);
    let views = Arc::new(Mutex::new(View::default()));
    let published = Arc::clone(&views);
    let thread = std::thread::Builder::new()
        .name("sync".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let engine = Engine::new(config, capacity, store, notices, published);
                engine.run(command_receiver).await;
            });
        })
        .context("starting the thread for sync")?;
    Ok((Handle { commands, views, thread }, notice_receiver))
}

impl Handle {
    pub fn command(&self, command: Command) {
        // Of a thread that ended: it was said then.
        let _ = self.commands.send(command);
    }

    pub fn view(&self) -> View {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says goodbye to the peers, and ends.
    pub async fn stop(self) {
        self.command(Command::Stop);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            log::error!("the thread for sync panicked");
        }
    }
}
