//! The API by TCP, for browsers and scrapers: off by default, for reading only without a token, on a thread of its own,
//! so that whoever asks delays neither the main loop nor probes nor VRRP. I/O; `guard`, `counts` and `places` are pure.
//!
//! ```text
//! browser, scraper ─► serve (places, TLS, time) ─► routes (guard, token) ─► api
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

use super::api::Api;
use super::model;
use crate::config::Admin;

mod counts;
mod guard;
mod places;
mod routes;
mod serve;
mod tls;
mod token;

use counts::Counts;
use guard::Guard;
use places::Places;
use routes::Gate;
use serve::Server;
use token::TokenFile;

/// Less than the usual share of a busy CPU: of what this thread does nothing is urgent.
const NICE: libc::c_int = 5;

/// What the thread shares with who asks about it.
#[derive(Debug, Default)]
struct Shared {
    places: Places,
    error: Mutex<Option<String>>,
    /// Where it listens, once it does.
    bound: OnceLock<SocketAddr>,
}

impl Shared {
    /// Whether that is news.
    fn set_error(&self, error: Option<String>) -> bool {
        let mut known = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != error;
        *known = error;
        is_news
    }
}

/// The running listener; it ends when this is dropped.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    tls: bool,
    token: bool,
    counts: Arc<Counts>,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread, if there is to be a listener. That an address cannot be bound is told by the handle.
///
/// # Errors
/// No thread can be started.
pub fn start(config: &Admin, api: &Api) -> Result<Option<Handle>> {
    let Some(address) = config.listen else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .context("starting the runtime of admin.listen")?;
    let (counts, shared) = (Arc::new(Counts::default()), Arc::new(Shared::default()));
    let gate = Arc::new(Gate {
        guard: Guard::new(address, &config.allowed_hosts),
        token: config.token_file.as_deref().map(TokenFile::new),
        counts: Arc::clone(&counts),
    });
    let server = Server {
        router: routes::router(&gate, api.by_tcp()),
        tls: config.tls.as_ref().map(tls::watch),
        counts: Arc::clone(&counts),
        shared: Arc::clone(&shared),
    };
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            give_way();
            runtime.block_on(serve::run(address, server, stopped));
            // A thread that reads a hung disk is not waited for.
            runtime.shutdown_background();
        })
        .context("starting the thread of admin.listen")?;
    let (tls, token) = (config.tls.is_some(), config.token_file.is_some());
    Ok(Some(Handle { address, tls, token, counts, shared, stop, thread }))
}

/// Has the kernel prefer others.
fn give_way() {
    // SAFETY: no memory is involved; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result < 0 {
        log::debug!("admin.listen: {}", std::io::Error::last_os_error());
    }
}

impl Handle {
    /// For `status`.
    pub fn view(&self) -> model::Listener {
        let error = self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        model::Listener {
            address: self.address,
            tls: self.tls,
            token: self.token,
            error,
            connections: self.shared.places.taken() as u64,
            requests: self.counts.requests(),
            refused: self.counts.refused(),
        }
    }

    /// Where it listens, once it does.
    #[cfg(test)]
    pub(super) fn bound(&self) -> Option<SocketAddr> {
        self.shared.bound.get().copied()
    }

    /// Ends when open connections have their answers, or two seconds later.
    pub async fn stop(self) {
        // It may have ended.
        let _ = self.stop.send(());
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            log::error!("the thread of admin.listen panicked");
        }
    }
}
