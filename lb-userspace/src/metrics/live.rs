//! What the main loop, which has the clock, measures of itself. Pure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// What the main loop does in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Compare what is desired with what is installed, after a probe.
    Reconcile,
    /// Look at the kernel's network again.
    Refresh,
    /// Compare with the maps themselves.
    Resync,
    /// Look at a slice of the flows.
    Sweep,
    /// Each second, what `status` says.
    Publish,
    /// Carry out a command, reloads included.
    Command,
}

impl Task {
    pub const ALL: [Self; 6] =
        [Self::Reconcile, Self::Refresh, Self::Resync, Self::Sweep, Self::Publish, Self::Command];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reconcile => "reconcile",
            Self::Refresh => "refresh",
            Self::Resync => "resync",
            Self::Sweep => "sweep",
            Self::Publish => "publish",
            Self::Command => "command",
        }
    }
}

/// Shared between the main loop and who reads metrics; neither waits for the other for longer than a copy.
#[derive(Clone, Debug)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    busy: [Histogram; Task::ALL.len()],
    reload_duration: Histogram,
    successes: Counter,
    failures: Counter,
    times: Mutex<Times>,
}

/// Seconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// When `status` was last published.
    pub read: f64,
    /// The last reload was refused.
    pub is_refused: bool,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(Inner {
            // 100 µs to 1.6 s.
            busy: std::array::from_fn(|_| Histogram::new(exponential_buckets(1e-4, 4.0, 8))),
            // 1 ms to 16 s.
            reload_duration: Histogram::new(exponential_buckets(1e-3, 4.0, 8)),
            successes: Counter::default(),
            failures: Counter::default(),
            times: Mutex::default(),
        }))
    }
}

impl Live {
    pub fn was_busy(&self, task: Task, duration: Duration) {
        self.busy(task).observe(duration.as_secs_f64());
    }

    pub fn busy(&self, task: Task) -> &Histogram {
        &self.0.busy[task as usize]
    }

    pub fn published(&self, at: f64) {
        self.change(|times| times.read = at);
    }

    pub fn reloaded(&self, is_applied: bool, duration: Duration) {
        self.0.reload_duration.observe(duration.as_secs_f64());
        if is_applied { &self.0.successes } else { &self.0.failures }.inc();
        self.change(|times| times.is_refused = !is_applied);
    }

    pub fn reload_duration(&self) -> &Histogram {
        &self.0.reload_duration
    }

    /// Reloads that were applied, and refused.
    pub fn reloads(&self) -> (u64, u64) {
        (self.0.successes.get(), self.0.failures.get())
    }

    pub fn times(&self) -> Times {
        *self.0.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.0.times.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
