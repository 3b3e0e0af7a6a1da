//! Metrics for Prometheus, of what the controller has published and measures of itself. Asked by `admin`'s route; the main loop is never asked. I/O.
//!
//! A rendering is kept for a while, so that it does not matter who scrapes how often: see [`Metrics::text`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lb_common::backend::BackendId;
use lb_common::connect::ConnectTimes;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::admin::StatusReader;
use crate::admin::model::Status;
use crate::datapath::maps::Connects;
use crate::health::Latencies;

pub mod families;
pub mod live;
pub mod render;
mod write;

pub use live::{Live, Task};
pub use render::Form;

use render::{Readings, render};

/// A rendering serves for so long.
const KEPT: Duration = Duration::from_millis(250);

/// And for so many times of what it took, if that is longer: scrapes take a twentieth of a core at most.
const SHARE: u32 = 20;

/// What is told to Prometheus.
#[derive(Clone)]
pub struct Metrics {
    status: StatusReader,
    live: Live,
    latencies: Latencies,
    /// Of the datapath, if there is one.
    connects: Option<Connects>,
    /// By [`Form`].
    kept: Arc<[Mutex<Option<Rendering>>; Form::ALL.len()]>,
}

#[derive(Clone, Debug)]
struct Rendering {
    text: Bytes,
    until: Instant,
}

impl Metrics {
    pub fn new(status: StatusReader, live: Live, latencies: Latencies) -> Self {
        Self { status, live, latencies, connects: None, kept: Arc::default() }
    }

    /// The same, with what the datapath measures.
    #[must_use]
    pub fn with_connects(mut self, connects: Connects) -> Self {
        self.connects = Some(connects);
        self
    }

    /// All metrics, as of at most 250 ms ago, or of 20 times of what it took to write them, if that is more.
    ///
    /// Written by a thread that may block, one at a time; whoever asks meanwhile waits for that one.
    pub async fn text(&self, form: Form) -> Bytes {
        let mut kept = self.kept[form as usize].lock().await;
        let start = Instant::now();
        if let Some(Rendering { text, until }) = &*kept
            && start < *until
        {
            return text.clone();
        }
        let reader = self.clone();
        // It fails when the controller ends; nothing is refused by who reads it.
        let text = spawn_blocking(move || render(reader.read(), form)).await.unwrap_or_default();
        let text = Bytes::from(text);
        let now = Instant::now();
        let until = now + KEPT.max((now - start) * SHARE);
        *kept = Some(Rendering { text: text.clone(), until });
        text
    }

    fn read(&self) -> Readings {
        let status = self.status.borrow().clone();
        let connects = self.connects(&status);
        Readings { status, live: self.live.clone(), latencies: self.latencies.all(), connects }
    }

    /// Of the backends that there are metrics of.
    fn connects(&self, status: &Status) -> BTreeMap<BackendId, ConnectTimes> {
        let Some(connects) = &self.connects else { return BTreeMap::new() };
        let backends = status.services.iter().flat_map(|service| &service.backends);
        let of = |id: BackendId| match connects.of(id) {
            Ok(times) => times.map(|times| (id, times)),
            Err(error) => {
                log::error!("metrics: {error:#}");
                None
            }
        };
        let ids = backends.take(render::MAX_BACKENDS).map(|backend| backend.id);
        ids.filter(|id| *id != 0).filter_map(of).collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
