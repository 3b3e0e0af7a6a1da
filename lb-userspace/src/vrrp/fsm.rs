//! The machine of one instance: RFC 9568 6.4 with keepalived's extensions. The VRRP thread feeds it. Pure.
//!
//! | | Backup | Active |
//! |---|---|---|
//! | timer | Active, unless the sync group has to agree | advertise |
//! | priority 0 | wait for Skew_Time only | advertise at once, announce again |
//! | higher | wait for Active_Down_Interval again | Backup |
//! | equal | as higher | Backup if the sender's address is higher, else as lower |
//! | lower | let the timer run; as higher with preempt off | advertise at once, announce again |
//! | other VIPs | as higher | ignore: another cluster's VIPs are not at stake |
//! | fault | Fault | priority 0 if possible, Fault |
//! | handover | | a long interval, for which peers wait for the successor |
//! | shutdown | Init | priority 0, Init |
//!
//! `Init` and `Fault` hear nothing. A node that drains is one of priority 1.

use std::net::IpAddr;
use std::time::Duration;

use super::event::{
    Action, Actions, Alarm, Drained, Event, FaultCause, Lease, Previous, Reason, Transition,
};
use super::packet::Discard;
use super::timers::{active_down_interval, silence, skew};
use super::{Nanos, PRIORITY_DRAIN, PRIORITY_GIVE_UP, PRIORITY_OWNER, Settings, State};

mod active;
mod backup;
mod operate;
#[cfg(test)]
mod tests;

use active::Conflict;
use backup::{Lower, Wait};

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Instance {
    settings: Settings,
    state: State,
    term: u64,
    own: Option<IpAddr>,
    /// A bit for each cause.
    faults: u8,
    adjustment: i16,
    /// When the last fault was over, and how many came soon after the one before.
    recovered: Option<Nanos>,
    flaps: u32,
    /// In Fault, without any: until when that is not believed yet.
    recover_at: Option<Nanos>,
    /// Between `Start` and `Shutdown`.
    is_started: bool,
    /// When it was started, or recovered from its last fault.
    since: Nanos,
    startup_until: Nanos,
    is_receiving: bool,
    is_draining: bool,
    /// The last peer heard that this node gives way to.
    peer: Option<Peer>,
    /// Whether any peer was ever heard.
    has_peers: bool,
    /// Active_Adver_Interval: the Active one's, else ours.
    active_interval: Duration,

    /// A peer that announced another interval than ours.
    odd: Option<OddInterval>,

    /// In Backup, what the timer counts from, and how long.
    base: Nanos,
    wait: Wait,
    /// In Backup, the Active one that ranks below.
    lower: Option<Lower>,
    /// In Backup, the time is up, and the sync group asked.
    wishes: bool,

    /// In Active, when the next advertisement is due.
    due: Nanos,
    sent: Nanos,
    conflict: Conflict,
    /// In Active, when a drain gives up waiting.
    drain_until: Option<Nanos>,
}

/// What an advertisement said about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    pub priority: u8,
    pub heard: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct OddInterval {
    peer: IpAddr,
    interval: Duration,
    first: Nanos,
}

impl Instance {
    /// An instance in `Init`, which knows of no link and no address yet.
    pub fn new(settings: &Settings, now: Nanos) -> Self {
        Self {
            settings: settings.clone(),
            state: State::Init,
            term: 0,
            own: None,
            faults: bit(FaultCause::Link) | bit(FaultCause::Address),
            adjustment: 0,
            recovered: None,
            flaps: 0,
            recover_at: None,
            is_started: false,
            since: now,
            startup_until: now,
            is_receiving: false,
            is_draining: false,
            peer: None,
            has_peers: false,
            active_interval: settings.advert_interval,
            odd: None,
            base: now,
            wait: Wait::Down,
            lower: None,
            wishes: false,
            due: now,
            sent: now,
            conflict: Conflict::default(),
            drain_until: None,
        }
    }

    pub const fn state(&self) -> State {
        self.state
    }

    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many times it has become Active.
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// The last peer heard that this node gave way to.
    pub const fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Whether the sync group is asked to let it become Active.
    pub const fn wishes(&self) -> bool {
        self.wishes
    }

    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// What keeps it from taking part.
    pub fn faults(&self) -> impl Iterator<Item = FaultCause> + '_ {
        FaultCause::ALL.into_iter().filter(|cause| self.faults & bit(*cause) != 0)
    }

    /// What it advertises: the configured priority and what tracking adds, from 1 to 254. An owner's is
    /// 255, whatever is tracked.
    pub fn priority(&self) -> u8 {
        if self.is_draining {
            return PRIORITY_DRAIN;
        }
        if self.settings.priority == PRIORITY_OWNER {
            return PRIORITY_OWNER;
        }
        let sum = i32::from(self.settings.priority) + i32::from(self.adjustment);
        u8::try_from(sum.clamp(1, 254)).unwrap_or(1)
    }

    /// When to call [`Self::handle`] with [`Event::Timer`]; none when nothing is awaited.
    pub fn deadline(&self) -> Option<Nanos> {
        match self.state {
            State::Init => None,
            State::Fault => self.recover_at,
            State::Backup => (!self.wishes).then(|| self.promotion_due()),
            State::Active => Some(self.drain_until.map_or(self.due, |until| until.min(self.due))),
        }
    }

    /// Feeds an event; `now` never goes back. Allocates nothing.
    pub fn handle(&mut self, event: Event<'_>, now: Nanos) -> Actions {
        let mut actions = Actions::new();
        let todo = &mut actions;
        match event {
            Event::Start { previous } => self.start(previous, now, todo),
            Event::Timer => match self.state {
                State::Backup => self.believe_timer(now, todo),
                State::Active => self.advertise_when_due(now, todo),
                State::Fault => self.recover_when_due(now, todo),
                State::Init => {}
            },
            Event::Received { advert, source, at } => {
                self.receive(advert, source, at.min(now), now, todo);
            }
            Event::Discarded { discard, source } => self.refused(discard, source, todo),
            Event::Receiving => self.receiving(now),
            Event::Link { up } => self.fault(FaultCause::Link, !up, now, todo),
            Event::Address { own } => {
                self.own = own;
                self.fault(FaultCause::Address, own.is_none(), now, todo);
            }
            Event::Tracked { adjustment } => self.adjustment = adjustment,
            Event::Fault { cause, present } => self.fault(cause, present, now, todo),
            Event::Promote => self.promote_with_group(now, todo),
            Event::StepDown => self.step_down(now, todo),
            Event::Reconfigure(settings) => self.reconfigure(settings, now, todo),
            Event::Drain => self.drain(now, todo),
            Event::Resume => self.resume(now, todo),
            Event::HandOver => self.hand_over(now, todo),
            Event::Shutdown => self.shutdown(now, todo),
        }
        actions
    }

    fn start(&mut self, previous: Option<Previous>, now: Nanos, todo: &mut Actions) {
        if self.is_started {
            return;
        }
        self.is_started = true;
        self.startup_until = now.after(self.settings.startup_delay);
        self.is_draining = false;
        self.term = self.term.max(previous.map_or(0, |previous| previous.term));
        let cause = self.faults().next();
        if let Some(cause) = cause {
            self.enter(State::Fault, Reason::Fault(cause), todo);
            return;
        }
        if previous.and_then(|previous| previous.until).is_some_and(|until| now < until) {
            // Nobody can have taken over yet: it is the same term.
            self.term = self.term.saturating_sub(1);
            self.promote(Reason::Adopted, now, todo);
            return;
        }
        self.listen(Reason::Started, now, todo);
    }

    /// Init or Fault to Backup; an owner goes on to Active (6.4.1).
    fn listen(&mut self, reason: Reason, now: Nanos, todo: &mut Actions) {
        self.since = now;
        self.active_interval = self.settings.advert_interval;
        self.back_up(now);
        if self.priority() == PRIORITY_OWNER && now >= self.startup_until && !self.settings.grouped
        {
            self.promote(Reason::Owner, now, todo);
        } else {
            self.enter(State::Backup, reason, todo);
        }
    }

    /// V17 and V18: whether an advertisement of `source` says anything now.
    pub fn takes(&self, source: IpAddr) -> Result<(), Discard> {
        match self.state {
            State::Init | State::Fault => Err(Discard::NotRunning),
            // A reflection, or a node with our address: neither says anything about a peer.
            State::Backup | State::Active if self.own == Some(source) => Err(Discard::OwnSource),
            State::Backup | State::Active => Ok(()),
        }
    }

    /// What the state makes of an advertisement that it takes.
    fn receive(
        &mut self,
        advert: &super::Advert,
        source: IpAddr,
        at: Nanos,
        now: Nanos,
        todo: &mut Actions,
    ) {
        if let Err(discard) = self.takes(source) {
            return self.refused(discard, source, todo);
        }
        self.has_peers = true;
        self.is_receiving = true;
        let is_foreign = self.compare_lists(advert, source, todo);
        if self.keeps_another_interval(advert.interval, source, at) {
            let theirs = advert.interval;
            todo.push(Action::Alarm(Alarm::Interval { peer: source, theirs }));
        }
        match (self.state, is_foreign) {
            (State::Backup, _) => self.hear_in_backup(advert, source, at, is_foreign, todo),
            (State::Active, false) => self.hear_in_active(advert, source, at, now, todo),
            (State::Active, true) | (State::Init | State::Fault, _) => {}
        }
    }

    /// V12 and B.14: whether none of the advertised VIPs is ours.
    fn compare_lists(&self, advert: &super::Advert, peer: IpAddr, todo: &mut Actions) -> bool {
        let ours = &self.settings.vips;
        let common = advert.addresses.iter().filter(|address| ours.contains(address)).count();
        if common == 0 && !ours.is_empty() {
            todo.push(Action::Alarm(Alarm::ForeignVrid { peer }));
            return true;
        }
        if common != ours.len() || common != advert.addresses.len() {
            todo.push(Action::Alarm(Alarm::AddressList { peer }));
        }
        false
    }

    /// V11: not one that hands over, which announces a long interval once.
    fn keeps_another_interval(&mut self, theirs: Duration, peer: IpAddr, at: Nanos) -> bool {
        let odd = self.odd.filter(|odd| at.since(odd.first) <= odd.interval * 2);
        if theirs == self.settings.advert_interval {
            self.odd = odd.filter(|odd| odd.peer != peer);
            return false;
        }
        match self.odd.filter(|odd| (odd.peer, odd.interval) == (peer, theirs)) {
            Some(known) => at.since(known.first) >= theirs / 2,
            None => {
                self.odd = odd.or(Some(OddInterval { peer, interval: theirs, first: at }));
                false
            }
        }
    }

    fn refused(&self, discard: Discard, peer: IpAddr, todo: &mut Actions) {
        match (self.state, discard) {
            (State::Backup | State::Active, Discard::OwnSource) => {
                todo.push(Action::Alarm(Alarm::DuplicateNode { peer }));
            }
            (State::Active, _) => {
                todo.push(Action::Alarm(Alarm::RefusedActive { peer, discard }));
            }
            (State::Init | State::Backup | State::Fault, _) => {}
        }
    }

    fn enter(&mut self, to: State, reason: Reason, todo: &mut Actions) {
        let from = std::mem::replace(&mut self.state, to);
        todo.push(Action::Notify(Transition { from, to, term: self.term, reason }));
    }

    /// How long no peer can have taken over after our advertisement.
    fn own_silence(&self) -> Duration {
        silence(self.settings.advert_interval, self.settings.down_timer_adverts)
    }

    fn skew(&self) -> Duration {
        skew(self.settings.version, self.priority(), self.active_interval)
    }

    fn down_interval(&self) -> Duration {
        let Settings { version, down_timer_adverts, .. } = self.settings;
        active_down_interval(version, self.priority(), self.active_interval, down_timer_adverts)
    }
}

const fn bit(cause: FaultCause) -> u8 {
    1 << match cause {
        FaultCause::Link => 0,
        FaultCause::Address => 1,
        FaultCause::Vips => 2,
        FaultCause::Tracked => 3,
        FaultCause::Group => 4,
    }
}
