//! When to probe a backend and what follows from the findings. Called by `driver`. Pure.
//!
//! ```text
//!           401/403      `fall` worse findings in a row, the last one saying how many
//!   Up ◄──────────► Unverified ─────► Degraded ─────► Draining ─────► Down
//!      first finding                (without etcd)   (not ready)     (failed)
//!                ◄───────────────────────────────────────────────────
//!                       `rise` better findings in a row
//! ```
//! A fall goes straight to what the last finding says, a rise to the worst that the findings in the
//! row say. Only findings in a row count: one that agrees with the state, or speaks for the other
//! direction, forgets them. From `Unknown` the first finding decides, failures apart: of these it
//! takes as many as from `Up`. Trouble of our own (`Class::Local`) is no finding at all.
//!
//! The number that a failure needs is that of its own class, whatever the classes before it were: so
//! a row of failures of any mixture ends in `Down` after the largest `fall` at the latest.

use std::time::{Duration, Instant};

use super::damping::Damping;
use super::{Class, Health, Past, Verdict, slow_start};
use crate::config::Pace;

mod period;
mod table;

use period::{MAX_PERIOD, MIN_PERIOD};
pub(super) use period::{longest, retry};
use table::Opinion;

/// What the machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The deadline may have passed. Harmless when it has not.
    Deadline,
    /// There is reason to doubt the state: probe as soon as the fast interval allows.
    Doubt,
    /// The probe ended.
    Finished(Verdict),
}

/// What the driver does after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Start a probe. None is under way.
    pub probe: bool,
    /// What to tell of the probe that ended.
    pub tell: Tell,
    pub transition: Option<Transition>,
}

/// What a finding means for the reason of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tell {
    /// It speaks against the state, which stays: not yet.
    #[default]
    Nothing,
    /// It is the reason.
    Reason,
    /// It would be, but the backend flaps and is held for so long.
    Held(Duration),
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: Health,
    pub to: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next probe starts then.
    Waiting { until: Instant },
    /// `doubted`: since it started. It may have seen the backend before whatever raised the doubt.
    Probing { doubted: bool },
}

/// Whether anything spoke against the state since the last probe ended.
type Suspected = bool;

/// Findings in a row that speak for the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    better: bool,
    length: u32,
    since: Instant,
    /// The worst that those of a rise speak for.
    to: Health,
}

/// The state of one backend.
#[derive(Clone, Debug)]
pub struct Fsm {
    pace: Pace,
    health: Health,
    row: Option<Row>,
    /// The last finding was a refusal that did not decide yet, and whether clients were refused as well.
    refused: Option<Suspected>,
    suspected: Suspected,
    damping: Damping,
    held: bool,
    /// When it was first used again after it was not.
    back: Option<Instant>,
    /// It said that it was not ready before it went down.
    announced: bool,
    phase: Phase,
    /// Start of the last probe. Periods run from start to start, so that the duration of a probe that
    /// times out does not add to them.
    started: Instant,
    random: u64,
}

impl Fsm {
    /// A machine that probes at once. `initial` is `Unknown`, or the state that an earlier run found;
    /// `seed` should differ between backends: it spreads their probes.
    pub fn new(pace: Pace, initial: Health, seed: u64, now: Instant) -> Self {
        Self {
            pace,
            health: initial,
            row: None,
            refused: None,
            suspected: false,
            damping: Damping::default(),
            held: false,
            back: None,
            announced: initial == Health::Draining,
            phase: Phase::Waiting { until: now },
            started: now,
            random: seed,
        }
    }

    /// Goes on with what a predecessor found; to be called before anything else.
    #[must_use]
    pub fn resume(self, past: Past) -> Self {
        let Past { hold, returned, back, announced } = past;
        let announced = self.announced || (announced && self.health == Health::Down);
        Self { damping: Damping::resume(hold, returned), back, announced, ..self }
    }

    pub const fn health(&self) -> Health {
        self.health
    }

    /// Whether the backend is well, and kept from its return because it flaps.
    pub const fn is_held(&self) -> bool {
        self.held
    }

    /// What counts for what will be, and for a successor.
    pub fn past(&self, now: Instant) -> Past {
        let (hold, returned) = self.damping.remembered(self.pace.damping, now);
        let back = self.back.filter(|_| self.share(now) < 100);
        Past { hold, returned, back, announced: self.announced }
    }

    /// What the backend gets of its weight, in percent.
    pub fn share(&self, now: Instant) -> u8 {
        slow_start::share(self.back, self.pace.slow_start, now)
    }

    /// When to call [`Self::handle`] with [`Event::Deadline`]; none while a probe is under way.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Probing { .. } => None,
        }
    }

    /// Another check applies. The state stays and is probed at once; a probe under way must be
    /// abandoned, and the findings counted so far are forgotten: they were another check's.
    pub const fn reconfigure(&mut self, pace: Pace, now: Instant) {
        self.pace = pace;
        self.row = None;
        self.refused = None;
        self.suspected = false;
        self.phase = Phase::Waiting { until: now };
    }

    /// Feeds an event; `now` never goes back.
    pub fn handle(&mut self, event: Event, now: Instant) -> Actions {
        match (self.phase, event) {
            (Phase::Waiting { until }, Event::Deadline) => self.wait(until, now),
            (Phase::Waiting { until }, Event::Doubt) => {
                self.suspected = true;
                // Clients can raise doubts, so they must not set the rate of the probes.
                let soonest = self.started + self.pace.fast_interval.clamp(MIN_PERIOD, MAX_PERIOD);
                self.wait(until.min(soonest.max(now)), now)
            }
            // Of a probe that was abandoned.
            (Phase::Waiting { .. }, Event::Finished(_)) => Actions::default(),
            (Phase::Probing { .. }, Event::Deadline) => Actions::default(),
            (Phase::Probing { .. }, Event::Doubt) => {
                self.suspected = true;
                self.phase = Phase::Probing { doubted: true };
                Actions::default()
            }
            (Phase::Probing { doubted }, Event::Finished(verdict)) => {
                let (tell, transition) = self.judge(verdict, now);
                let refused = self.row.is_some() && verdict == Verdict::Failed(Class::Refused);
                let suspected = std::mem::take(&mut self.suspected);
                self.refused = refused.then_some(suspected);
                let period = self.period(doubted);
                let Actions { probe, .. } = self.wait(self.started + period, now);
                Actions { probe, tell, transition }
            }
        }
    }

    /// Waits for `until`, or starts the probe if that has passed.
    fn wait(&mut self, until: Instant, now: Instant) -> Actions {
        if now < until {
            self.phase = Phase::Waiting { until };
            return Actions::default();
        }
        self.started = now;
        self.phase = Phase::Probing { doubted: false };
        Actions { probe: true, ..Actions::default() }
    }

    /// What a finding changes.
    fn judge(&mut self, verdict: Verdict, now: Instant) -> (Tell, Option<Transition>) {
        match table::opinion(self.health, verdict, &self.pace) {
            // Nothing else is known of a backend that is unknown, or worth more than what was.
            Opinion::None if self.health.is_used() || self.health == Health::Unknown => {
                (Tell::Reason, None)
            }
            Opinion::None => (Tell::Nothing, None),
            Opinion::Same => {
                self.row = None;
                self.held = false;
                (Tell::Reason, None)
            }
            Opinion::AtOnce(to) => (Tell::Reason, Some(self.change(to, now))),
            Opinion::Worse { to, needed } => {
                self.held = false;
                if self.count(false, to, now).length >= needed {
                    return (Tell::Reason, Some(self.change(to, now)));
                }
                let is_news = self.health == Health::Unknown;
                (if is_news { Tell::Reason } else { Tell::Nothing }, None)
            }
            Opinion::Better { to } => self.rise(to, now),
        }
    }

    fn rise(&mut self, to: Health, now: Instant) -> (Tell, Option<Transition>) {
        let row = self.count(true, to, now);
        if row.length < self.pace.rise {
            return (Tell::Nothing, None);
        }
        let hold = self.damping.hold(self.pace.damping);
        if row.to.is_used() && now.saturating_duration_since(row.since) < hold {
            self.held = true;
            return (Tell::Held(hold), None);
        }
        (Tell::Reason, Some(self.change(row.to, now)))
    }

    /// Adds a finding to the row that it belongs to.
    fn count(&mut self, better: bool, to: Health, now: Instant) -> Row {
        let row = match self.row.filter(|row| row.better == better) {
            Some(row) => Row { length: row.length.saturating_add(1), to: row.to.max(to), ..row },
            None => Row { better, length: 1, since: now, to },
        };
        self.row = Some(row);
        row
    }

    fn change(&mut self, to: Health, now: Instant) -> Transition {
        let from = std::mem::replace(&mut self.health, to);
        self.row = None;
        self.held = false;
        if from.is_used() && to > from && !to.is_as_good_as(from) {
            self.damping.lost(self.pace.damping, now);
        } else if from != Health::Unknown && to.is_used() && !to.is_as_good_as(from) {
            self.damping.returned(now);
        }
        if to.is_used() && matches!(from, Health::Draining | Health::Down) {
            self.back = Some(now);
        }
        self.announced = to == Health::Draining || (self.announced && to == Health::Down);
        Transition { from, to }
    }
}

#[cfg(test)]
mod tests;
