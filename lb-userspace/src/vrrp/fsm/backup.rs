//! Backup (RFC 9568 6.4.2): watching the Active one, and when to replace it. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::super::Advert;
use super::{
    Action, Actions, Alarm, Instance, Nanos, PRIORITY_DRAIN, PRIORITY_GIVE_UP, Peer, Reason,
    Settings, State, active_down_interval, silence,
};

/// How long Backup waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For Active_Down_Interval.
    Down,
    /// For Skew_Time: the peer gave up.
    Skew { peer: IpAddr },
}

/// An Active one that ranks below this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lower {
    peer: IpAddr,
    priority: u8,
    /// What it advertises: it is as patient as its own.
    interval: Duration,
    first: Nanos,
    last: Nanos,
}

impl Instance {
    pub(super) fn hear_in_backup(
        &mut self,
        advert: &Advert,
        source: IpAddr,
        at: Nanos,
        is_foreign: bool,
        todo: &mut Actions,
    ) {
        let (theirs, ours) = (advert.priority, self.priority());
        if is_foreign {
            // The VRID is taken: no fight over it.
            self.rearm(at, todo);
        } else if theirs == PRIORITY_GIVE_UP && self.follows_another(source, at) {
            // The Active one is alive: it is not that one that gave up.
        } else if theirs == PRIORITY_GIVE_UP {
            self.rearm(at, todo);
            self.wait = Wait::Skew { peer: source };
        } else if theirs >= ours || !self.settings.preempt {
            if theirs == ours && ours != PRIORITY_DRAIN {
                let alarm = Alarm::EqualPriority { peer: source, priority: theirs };
                todo.push(Action::Alarm(alarm));
            }
            self.follow(advert, source, at);
            self.rearm(at, todo);
        } else {
            self.endure(advert, source, at);
        }
    }

    /// The sender is the Active one.
    pub(super) fn follow(&mut self, advert: &Advert, source: IpAddr, at: Nanos) {
        self.peer = Some(Peer { address: source, priority: advert.priority, heard: at });
        self.active_interval = advert.interval;
    }

    /// Whether the Active one is somebody else than `source`, and was heard just before.
    fn follows_another(&self, source: IpAddr, at: Nanos) -> bool {
        let fresh = silence(self.active_interval, self.settings.down_timer_adverts);
        let is_other = |peer: Peer| peer.address != source && at.since(peer.heard) < fresh;
        self.wait == Wait::Down && self.lower.is_none() && self.peer.is_some_and(is_other)
    }

    /// The timer starts again, from when the packet arrived.
    fn rearm(&mut self, at: Nanos, todo: &mut Actions) {
        self.base = self.base.max(at);
        self.wait = Wait::Down;
        self.lower = None;
        self.unwish(todo);
    }

    /// The timer goes on: when it ends, the lower one is relieved.
    fn endure(&mut self, advert: &Advert, peer: IpAddr, at: Nanos) {
        let known = self.lower.filter(|lower| at <= self.silent_at(lower));
        let first = known.map_or(at, |lower| lower.first);
        let Advert { priority, interval, .. } = *advert;
        self.lower = Some(Lower { peer, priority, interval, first, last: at });
    }

    /// When a lower one that says no more is dead.
    fn silent_at(&self, lower: &Lower) -> Nanos {
        let Settings { version, down_timer_adverts, .. } = self.settings;
        let priority = self.priority();
        let gap = active_down_interval(version, priority, lower.interval, down_timer_adverts);
        lower.last.after(gap)
    }

    /// When this node becomes Active if it hears no more.
    pub(super) fn promotion_due(&self) -> Nanos {
        let gap = self.down_interval();
        let silent = self.base.after(match self.wait {
            Wait::Down => gap,
            Wait::Skew { .. } => self.skew(),
        });
        // The delay spares an Active one that is alive; one that falls silent is no reason to wait.
        let spared = self.lower.map_or(silent, |lower| {
            lower.first.after(self.settings.preempt_delay).min(self.silent_at(&lower))
        });
        // A link that passes nothing yet looks like silence.
        let gate = if self.is_receiving {
            silent
        } else {
            self.since.after(gap).after(self.settings.receive_gate)
        };
        silent.max(spared).max(gate).max(self.startup_until)
    }

    /// Some frame arrived: from here on silence means something.
    pub(super) fn receiving(&mut self, now: Nanos) {
        if !std::mem::replace(&mut self.is_receiving, true) && self.state == State::Backup {
            self.base = self.base.max(now);
        }
    }

    pub(super) fn believe_timer(&mut self, now: Nanos, todo: &mut Actions) {
        if self.wishes || now < self.promotion_due() {
            return;
        }
        if self.settings.grouped {
            self.wishes = true;
            todo.push(Action::Wish);
        } else {
            self.promote(self.why_promoted(now), now, todo);
        }
    }

    pub(super) fn promote_with_group(&mut self, now: Nanos, todo: &mut Actions) {
        if self.state == State::Backup {
            let reason = if self.wishes { self.why_promoted(now) } else { Reason::Group };
            self.promote(reason, now, todo);
        }
    }

    fn why_promoted(&self, now: Nanos) -> Reason {
        match (self.wait, self.lower, self.peer) {
            (Wait::Skew { peer }, _, _) => Reason::PeerGaveUp { peer },
            (Wait::Down, Some(lower), _) if now < self.silent_at(&lower) => {
                Reason::Preempting { peer: lower.peer, priority: lower.priority }
            }
            (Wait::Down, Some(lower), _) => {
                Reason::PeerSilent { peer: lower.peer, silent: now.since(lower.last) }
            }
            (Wait::Down, None, Some(peer)) if peer.heard >= self.since => {
                Reason::PeerSilent { peer: peer.address, silent: now.since(peer.heard) }
            }
            (Wait::Down, None, _) => Reason::NobodyHeard { waited: now.since(self.since) },
        }
    }

    pub(super) fn unwish(&mut self, todo: &mut Actions) {
        if std::mem::take(&mut self.wishes) {
            todo.push(Action::Unwish);
        }
    }

    /// What the timer needs on the way into Backup: a full Active_Down_Interval from `from`.
    pub(super) fn back_up(&mut self, from: Nanos) {
        self.base = from;
        self.wait = Wait::Down;
        self.lower = None;
        self.drain_until = None;
    }
}
