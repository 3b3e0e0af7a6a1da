//! What is told from this node: faults, drain, shutdown, other settings. Pure.

use std::time::Duration;

use super::{
    Action, Actions, Drained, FaultCause, Instance, Nanos, Reason, Settings, State,
    active_down_interval, bit,
};

/// Beyond the longest Active_Down_Interval of a peer, how long a drain waits for one to take over.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);

/// A fault this many holds after the last one's end is one of its own.
const FLAP_WITHIN: u32 = 10;
const MOST_DOUBLINGS: u32 = 2;

impl Instance {
    pub(super) fn fault(
        &mut self,
        cause: FaultCause,
        present: bool,
        now: Nanos,
        todo: &mut Actions,
    ) {
        let had = self.faults != 0;
        if present {
            self.faults |= bit(cause);
        } else {
            self.faults &= !bit(cause);
        }
        if cause == FaultCause::Link && present {
            self.is_receiving = false;
        }
        match (self.is_started, had, self.faults != 0) {
            (true, false, true) if self.recover_at.take().is_some() => self.flaps += 1,
            (true, false, true) => {
                let is_soon = |last| now.since(last) < self.settings.recovery_hold * FLAP_WITHIN;
                self.flaps = if self.recovered.is_some_and(is_soon) { self.flaps + 1 } else { 0 };
                self.unwish(todo);
                if self.state == State::Active {
                    // Without link or address nothing can be sent.
                    let can_send = !matches!(cause, FaultCause::Link | FaultCause::Address);
                    self.release(can_send, now, todo);
                }
                self.enter(State::Fault, Reason::Fault(cause), todo);
            }
            (true, true, false) => {
                self.recover_at = Some(now.after(self.recovery_hold()));
                self.recover_when_due(now, todo);
            }
            (true, true, true) | (true, false, false) | (false, _, _) => {}
        }
    }

    /// None the first time, then doubled each time.
    fn recovery_hold(&self) -> Duration {
        match self.flaps.checked_sub(1) {
            None => Duration::ZERO,
            Some(more) => self.settings.recovery_hold * 2_u32.pow(more.min(MOST_DOUBLINGS)),
        }
    }

    pub(super) fn recover_when_due(&mut self, now: Nanos, todo: &mut Actions) {
        if self.recover_at.is_some_and(|at| at <= now) {
            self.recover_at = None;
            self.recovered = Some(now);
            self.listen(Reason::Recovered, now, todo);
        }
    }

    pub(super) fn drain(&mut self, now: Nanos, todo: &mut Actions) {
        if self.is_draining {
            return;
        }
        self.is_draining = true;
        match self.state {
            State::Active => {
                // The longest a peer can wait, with priority 1.
                let Settings { version, advert_interval, down_timer_adverts, .. } = self.settings;
                let longest = active_down_interval(version, 1, advert_interval, down_timer_adverts);
                self.drain_until = Some(now.after(longest).after(DRAIN_MARGIN));
                self.advertise_now(now, todo);
            }
            State::Init | State::Backup | State::Fault => {
                todo.push(Action::Drained(Drained::NotActive));
            }
        }
    }

    pub(super) fn resume(&mut self, now: Nanos, todo: &mut Actions) {
        let was_draining = std::mem::take(&mut self.is_draining);
        self.drain_until = None;
        if was_draining && self.state == State::Active {
            self.advertise_now(now, todo);
        }
    }

    /// Peers learn the interval, and take over so much later; a successor that never comes is replaced
    /// then. They learn the configured one again from the successor's first advertisement.
    pub(super) fn hand_over(&mut self, now: Nanos, todo: &mut Actions) {
        if self.state != State::Active || self.is_draining {
            return;
        }
        let interval = self.settings.handover_interval();
        let priority = self.priority();
        self.sent = now;
        self.due = now.after(interval);
        todo.push(Action::SendLastAdvert { priority, interval });
        todo.push(Action::RenewLease(self.lease(now, interval)));
    }

    pub(super) fn shutdown(&mut self, now: Nanos, todo: &mut Actions) {
        if !std::mem::take(&mut self.is_started) {
            return;
        }
        self.unwish(todo);
        self.recover_at = None;
        if self.state == State::Active {
            self.release(true, now, todo);
        }
        self.enter(State::Init, Reason::Shutdown, todo);
    }

    pub(super) fn reconfigure(&mut self, settings: &Settings, now: Nanos, todo: &mut Actions) {
        let old = std::mem::replace(&mut self.settings, settings.clone());
        if old.advert_interval == self.active_interval {
            self.active_interval = settings.advert_interval;
        }
        if !settings.grouped {
            self.unwish(todo);
        }
        if self.state == State::Active && old != *settings {
            // The peers learn the interval from it, and VIPs that are new need a lease.
            self.advertise_now(now, todo);
            if old.vips != settings.vips {
                todo.extend([Action::HoldVips, Action::StartAnnouncing]);
            }
        }
    }
}
