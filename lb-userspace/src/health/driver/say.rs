//! What the log says of a backend. I/O.

use super::super::fsm::Transition;
use super::super::{Class, Health, Reason, Verdict};
use super::Task;

impl Task {
    pub(super) fn announce(&self, Transition { from, to }: Transition, reason: &Reason) {
        match to {
            Health::Up | Health::Unverified => log::info!("{}: {from} -> {to}: {reason}", self.key),
            Health::Degraded | Health::Draining | Health::Down | Health::Unknown => {
                log::warn!("{}: {from} -> {to}: {reason}", self.key);
            }
        }
    }

    /// Says what a probe found when that is news.
    pub(super) fn explain(&mut self, verdict: Verdict, reason: &Reason) {
        match verdict {
            Verdict::Unverified if !self.warned => {
                self.warned = true;
                log::warn!(
                    "{}: {reason}: the server lives, but hides its health from anonymous requests; \
                     it is used all the same. Allow them for the health path (--anonymous-auth, or \
                     the binding system:public-info-viewer), or give the probe credentials",
                    self.key
                );
            }
            Verdict::Failed(Class::Local | Class::Certificate) => {
                log::warn!("{}: {reason}", self.key);
            }
            Verdict::Ready
            | Verdict::Unverified
            | Verdict::Degraded
            | Verdict::NotReady
            | Verdict::Failed(Class::Refused | Class::Timeout | Class::Status | Class::Protocol) => {
                log::debug!("{}: {reason}", self.key)
            }
        }
    }
}
