//! Flows that the controller removes, for a peer or the flow log to hear of: a bounded queue between whoever removes and
//! whoever tells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::flow_log::Why;
use crate::sync::record::FlowId;

/// Flows that wait: more than a slice of the sweep has, many times.
const MOST: usize = 65_536;

/// The queue. Nothing is queued before somebody listens.
#[derive(Clone, Debug, Default)]
pub struct Removals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wanted: AtomicBool,
    lost: AtomicU64,
    queue: Mutex<Vec<(FlowId, Why)>>,
}

impl Removals {
    pub(super) fn listen(&self) {
        self.0.wanted.store(true, Ordering::Relaxed);
    }

    pub fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, why: Why, flow: impl FnOnce() -> FlowId) {
        if !self.is_wanted() {
            return;
        }
        let mut queue = self.queue();
        if queue.len() < MOST {
            queue.push((flow(), why));
        } else {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all that waits.
    pub(super) fn take(&self) -> Vec<(FlowId, Why)> {
        std::mem::take(&mut *self.queue())
    }

    /// How many found no room, since this was last asked.
    pub(super) fn take_lost(&self) -> u64 {
        self.0.lost.swap(0, Ordering::Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Vec<(FlowId, Why)>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
