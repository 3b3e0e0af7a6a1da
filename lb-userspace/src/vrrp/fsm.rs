//! The machine of one instance: RFC 9568 6.4 with keepalived's extensions. The VRRP thread feeds it. Pure.

use std::net::IpAddr;

use super::event::{Action, Actions, Event, Lease, Reason, Transition};
use super::timers::{active_down_interval, next_advert, silence, skew};
use super::{Nanos, PRIORITY_GIVE_UP, Settings, State};

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Instance {
    settings: Settings,
    state: State,
    term: u64,
    own: Option<IpAddr>,
    link: bool,
    due: Option<Nanos>,
}

impl Instance {
    /// An instance in `Init`, which knows of no link and no address yet.
    pub fn new(settings: &Settings, _now: Nanos) -> Self {
        Self {
            settings: settings.clone(),
            state: State::Init,
            term: 0,
            own: None,
            link: false,
            due: None,
        }
    }

    pub const fn state(&self) -> State {
        self.state
    }

    /// When to call [`Self::handle`] with [`Event::Timer`]; none in `Init` and `Fault`.
    pub const fn deadline(&self) -> Option<Nanos> {
        self.due
    }

    /// Feeds an event; `now` never goes back.
    pub fn handle(&mut self, event: Event<'_>, now: Nanos) -> Actions {
        let mut actions = Actions::new();
        match event {
            Event::Link { up } => self.link = up,
            Event::Address { own } => self.own = own,
            Event::Start { .. } => {
                self.due = Some(now.after(self.down_interval()));
                self.enter(State::Backup, Reason::Started, &mut actions);
            }
            Event::Timer if self.due.is_some_and(|due| due <= now) => self.fire(now, &mut actions),
            Event::Received { advert, source, at } => {
                let (theirs, ours) = (advert.priority, self.settings.priority);
                let wins =
                    theirs > ours || (theirs == ours && self.own.is_some_and(|own| own < source));
                let gap = if theirs == PRIORITY_GIVE_UP {
                    skew(self.settings.version, ours, advert.interval)
                } else {
                    self.down_interval()
                };
                match self.state {
                    State::Backup if theirs == PRIORITY_GIVE_UP || theirs >= ours => {
                        self.due = Some(at.after(gap));
                    }
                    State::Active if wins => {
                        self.due = Some(at.after(gap));
                        self.leave(now, &mut actions);
                        let reason = Reason::Higher { peer: source, priority: theirs };
                        self.enter(State::Backup, reason, &mut actions);
                    }
                    State::Active | State::Backup | State::Init | State::Fault => {}
                }
            }
            Event::Shutdown => {
                if self.state == State::Active {
                    actions.push(Action::SendAdvert { priority: PRIORITY_GIVE_UP });
                    self.leave(now, &mut actions);
                }
                self.due = None;
                self.enter(State::Init, Reason::Shutdown, &mut actions);
            }
            Event::Reconfigure(settings) => self.settings = settings.clone(),
            Event::Timer
            | Event::Discarded { .. }
            | Event::Receiving
            | Event::Tracked { .. }
            | Event::Fault { .. }
            | Event::Promote
            | Event::StepDown
            | Event::Drain
            | Event::Resume => {}
        }
        actions
    }

    fn fire(&mut self, now: Nanos, actions: &mut Actions) {
        let due = self.due.unwrap_or(now);
        let interval = self.settings.advert_interval;
        self.due = Some(next_advert(due, interval, now));
        let answer_until = now.after(silence(interval, self.settings.down_timer_adverts));
        let forward_until = answer_until.after(self.settings.linger);
        actions.push(Action::SendAdvert { priority: self.settings.priority });
        actions.push(Action::RenewLease(Lease { answer_until, forward_until }));
        if self.state != State::Active {
            self.term += 1;
            actions.push(Action::HoldVips);
            actions.push(Action::StartAnnouncing);
            let waited = self.down_interval();
            self.enter(State::Active, Reason::NobodyHeard { waited }, actions);
        }
    }

    fn leave(&self, now: Nanos, actions: &mut Actions) {
        actions.push(Action::StopAnnouncing);
        actions.push(Action::EndLease { forward_until: now.after(self.settings.linger) });
        actions.push(Action::ReleaseVips);
    }

    fn enter(&mut self, to: State, reason: Reason, actions: &mut Actions) {
        let from = std::mem::replace(&mut self.state, to);
        actions.push(Action::Notify(Transition { from, to, term: self.term, reason }));
    }

    fn down_interval(&self) -> std::time::Duration {
        let Settings { version, priority, advert_interval, down_timer_adverts, .. } = self.settings;
        active_down_interval(version, priority, advert_interval, down_timer_adverts)
    }
}
