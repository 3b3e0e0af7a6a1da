//! How long the main loop does something in one go.

use std::time::SystemTime;

use tokio::time::Instant;

use super::events::{Loop, report};
use crate::metrics::{Live, Task};

/// Something that the loop does. Tells how long it took when it is dropped.
pub(super) struct Busy {
    live: Live,
    task: Task,
    pub(super) start: Instant,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.live.was_busy(self.task, self.start.elapsed());
    }
}

impl Loop<'_> {
    pub(super) fn after_probe(&mut self) {
        let _busy = self.busy(Task::Reconcile);
        report("after a probe", self.controller.reconcile());
        self.give_up();
        self.publish();
    }

    pub(super) async fn refresh(&mut self) {
        let _busy = self.busy(Task::Refresh);
        report("after a change of the network", self.controller.refresh().await);
        self.publish();
    }

    pub(super) async fn resync(&mut self) {
        let _busy = self.busy(Task::Resync);
        report("at the resync", self.controller.resync().await);
    }

    /// Measures until it is dropped.
    pub(super) fn busy(&self, task: Task) -> Busy {
        Busy { live: self.live.clone(), task, start: Instant::now() }
    }
}

/// Since the epoch.
#[expect(clippy::disallowed_methods, reason = "a driver: stamps what metrics say")]
pub(super) fn wall_seconds() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}
