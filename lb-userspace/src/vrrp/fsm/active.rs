//! Active (RFC 9568 6.4.3): advertising, and to whom to give way. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::super::Advert;
use super::super::timers::next_advert;
use super::{
    Action, Actions, Alarm, Drained, Instance, Lease, Nanos, PRIORITY_GIVE_UP, PRIORITY_OWNER,
    Reason, State, silence, skew,
};

/// An answer to a lower Active, or to priority 0, is not sent sooner after our last advertisement than
/// this part of the interval: a flood of such packets must not make another.
const ANSWER_PART: u32 = 8;

/// Lower peers that advertise while this node does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conflict {
    /// Until then the one that was relieved may say its last word.
    expected_until: Nanos,
    last: Option<Nanos>,
    announced: Option<Nanos>,
}

impl Instance {
    /// Backup to Active: advertisement first, so that the old one leaves; then VIPs, then announcements.
    pub(super) fn promote(&mut self, reason: Reason, now: Nanos, todo: &mut Actions) {
        let interval = self.settings.advert_interval;
        self.term += 1;
        self.wishes = false;
        self.lower = None;
        self.conflict = Conflict { announced: Some(now), ..Conflict::default() };
        if matches!(reason, Reason::Preempting { .. }) {
            self.conflict.expected_until = now.after(interval);
        }
        self.due = now.after(interval);
        self.advertise(now, todo);
        todo.extend([Action::HoldVips, Action::StartAnnouncing]);
        self.enter(State::Active, reason, todo);
    }

    pub(super) fn advertise_when_due(&mut self, now: Nanos, todo: &mut Actions) {
        if self.drain_until.is_some_and(|until| until <= now) {
            self.expire_drain(now, todo);
            return;
        }
        if now < self.due {
            return;
        }
        let late = self.lateness(now);
        self.due = next_advert(self.due, self.settings.advert_interval, now);
        self.advertise(now, todo);
        if let Some(by) = late {
            // Nobody is heard, but a peer may have been Active meanwhile.
            todo.extend([Action::Alarm(Alarm::Late { by }), Action::StartAnnouncing]);
        }
    }

    pub(super) fn hear_in_active(
        &mut self,
        advert: &Advert,
        source: IpAddr,
        at: Nanos,
        now: Nanos,
        todo: &mut Actions,
    ) {
        let (theirs, ours) = (advert.priority, self.priority());
        if theirs == PRIORITY_OWNER && ours == PRIORITY_OWNER {
            todo.push(Action::Alarm(Alarm::TwoOwners { peer: source }));
        }
        // Unsigned, in network order, by the addresses on the wire.
        let ranks_above =
            theirs > ours || (theirs == ours && self.own.is_none_or(|own| source > own));
        if theirs == PRIORITY_GIVE_UP {
            // It was Active too, and the link may believe it: its sync group gave way elsewhere.
            self.answer(now, todo);
            self.announce_again(now, todo);
        } else if ranks_above {
            if self.settings.last_advert {
                todo.push(Action::SendAdvert { priority: ours });
            }
            self.give_way(
                advert,
                source,
                at,
                Reason::Higher { peer: source, priority: theirs },
                now,
                todo,
            );
        } else if let Some(late) = self.lateness(now)
            && (!self.settings.preempt || self.settings.yields_when_stalled)
        {
            // It took over while we were stalled, rightly, and a second switch would help nobody.
            self.give_way(advert, source, at, Reason::Stalled { peer: source, late }, now, todo);
        } else {
            self.insist(theirs, source, now, todo);
        }
    }

    fn give_way(
        &mut self,
        advert: &Advert,
        peer: IpAddr,
        at: Nanos,
        reason: Reason,
        now: Nanos,
        todo: &mut Actions,
    ) {
        self.withdraw(now, todo);
        self.back_up(at);
        self.follow(advert, peer, at);
        self.enter(State::Backup, reason, todo);
        if self.is_draining {
            todo.push(Action::Drained(Drained::TakenOver { peer }));
        }
    }

    /// A peer that ranks below advertises too: it has to hear us, and the link has to know again
    /// where the VIPs are.
    fn insist(&mut self, priority: u8, peer: IpAddr, now: Nanos, todo: &mut Actions) {
        if now >= self.conflict.expected_until {
            todo.push(Action::Alarm(Alarm::TwoActives { peer, priority }));
            if self.conflict.last.is_none_or(|last| now.since(last) > self.own_silence()) {
                todo.push(Action::Reaffirmed { term: self.term, peer });
            }
            self.conflict.last = Some(now);
        }
        self.answer(now, todo);
        self.announce_again(now, todo);
    }

    /// Once in an interval.
    fn announce_again(&mut self, now: Nanos, todo: &mut Actions) {
        let interval = self.settings.advert_interval;
        if self.conflict.announced.is_none_or(|last| now.since(last) >= interval) {
            self.conflict.announced = Some(now);
            todo.push(Action::StartAnnouncing);
        }
    }

    /// At once, or as soon after our last advertisement as it may be.
    fn answer(&mut self, now: Nanos, todo: &mut Actions) {
        let soonest = self.sent.after(self.settings.advert_interval / ANSWER_PART);
        if now >= soonest {
            self.advertise_now(now, todo);
        } else {
            self.due = self.due.min(soonest);
        }
    }

    fn expire_drain(&mut self, now: Nanos, todo: &mut Actions) {
        self.drain_until = None;
        if self.has_peers {
            self.release(true, now, todo);
            self.back_up(now);
            self.enter(State::Backup, Reason::DrainExpired, todo);
            todo.push(Action::Drained(Drained::GaveUp));
        } else {
            todo.push(Action::Drained(Drained::NobodyThere));
        }
    }

    /// Another member of the sync group is no longer Active.
    pub(super) fn step_down(&mut self, now: Nanos, todo: &mut Actions) {
        if self.state == State::Active {
            self.release(true, now, todo);
            self.back_up(now);
            self.enter(State::Backup, Reason::Group, todo);
        }
    }

    /// Gives the VIPs up, with priority 0 if it can be sent.
    pub(super) fn release(&mut self, can_send: bool, now: Nanos, todo: &mut Actions) {
        if can_send {
            todo.push(Action::SendAdvert { priority: PRIORITY_GIVE_UP });
        }
        if self.drain_until.take().is_some() {
            todo.push(Action::Drained(Drained::GaveUp));
        }
        self.withdraw(now, todo);
    }

    fn withdraw(&self, now: Nanos, todo: &mut Actions) {
        let forward_until = now.after(self.settings.linger);
        todo.extend([
            Action::StopAnnouncing,
            Action::EndLease { forward_until },
            Action::ReleaseVips,
        ]);
    }

    /// Out of turn; the schedule starts again from here.
    pub(super) fn advertise_now(&mut self, now: Nanos, todo: &mut Actions) {
        self.due = now.after(self.settings.advert_interval);
        self.advertise(now, todo);
    }

    fn advertise(&mut self, now: Nanos, todo: &mut Actions) {
        self.sent = now;
        todo.push(Action::SendAdvert { priority: self.priority() });
        todo.push(Action::RenewLease(self.lease(now, self.settings.advert_interval)));
    }

    /// How long no peer takes over that an advertisement with this interval reached.
    pub(super) fn lease(&self, now: Nanos, interval: Duration) -> Lease {
        let answer_until = now.after(silence(interval, self.settings.down_timer_adverts));
        Lease { answer_until, forward_until: answer_until.after(self.settings.linger) }
    }

    /// How long ago the last advertisement was, if a peer may have taken over since: the one
    /// with the highest priority does first.
    fn lateness(&self, now: Nanos) -> Option<Duration> {
        let interval = self.settings.advert_interval;
        let soonest = self.own_silence() + skew(self.settings.version, 254, interval);
        Some(now.since(self.sent)).filter(|late| *late > soonest)
    }
}
