//! What must hold at every step.

use std::net::IpAddr;
use std::time::Duration;

use super::super::event::Reason;
use super::super::timers::silence;
use super::super::{Advert, Instance, Nanos, PRIORITY_GIVE_UP, State};

/// The last advertisement that ranks above a node, and reached it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Above(Option<Heard>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Nanos,
    interval: Duration,
    priority: u8,
    source: IpAddr,
}

impl Above {
    /// An advertisement reached `instance`, whose address is `own`.
    pub(super) fn heard(
        &mut self,
        instance: &Instance,
        own: IpAddr,
        advert: &Advert,
        source: IpAddr,
        at: Nanos,
    ) {
        let (theirs, ours) = (advert.priority, instance.priority());
        match instance.state() {
            State::Init | State::Fault => {}
            State::Backup | State::Active if theirs == PRIORITY_GIVE_UP => self.0 = None,
            State::Backup | State::Active => {
                if theirs > ours || (theirs == ours && source > own) {
                    let heard = Heard { at, interval: advert.interval, priority: theirs, source };
                    self.0 = Some(heard);
                } else if theirs == ours || !instance.settings().preempt {
                    // It is followed, and so is its interval: another one is Active meanwhile.
                    let learn = |heard: Heard| {
                        let interval = heard.interval.min(advert.interval);
                        Heard { interval, ..heard }
                    };
                    self.0 = self.0.map(learn);
                }
            }
        }
    }

    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// The second of the rules.
    pub(super) fn check(&mut self, instance: &Instance, own: IpAddr, now: Nanos) {
        let Some(Heard { at, interval, priority, source }) = self.0 else { return };
        let ours = instance.priority();
        if ours > priority || (ours == priority && own > source) {
            // It ranks above no more.
            self.0 = None;
            return;
        }
        let is_fresh = now < at.after(silence(interval, 3));
        assert!(
            instance.state() != State::Active || !is_fresh,
            "{own} with {ours} is Active at {now:?}, but heard {source} with {priority} at {at:?}"
        );
    }
}

/// Whom a node takes over from, if from a node that fell silent.
pub(super) fn silent_peer(reason: Reason) -> Option<IpAddr> {
    match reason {
        Reason::PeerSilent { peer, .. } => Some(peer),
        Reason::Started
        | Reason::Adopted
        | Reason::Owner
        | Reason::NobodyHeard { .. }
        | Reason::PeerGaveUp { .. }
        | Reason::Preempting { .. }
        | Reason::Group
        | Reason::Higher { .. }
        | Reason::Stalled { .. }
        | Reason::DrainExpired
        | Reason::Fault(_)
        | Reason::Recovered
        | Reason::Shutdown => None,
    }
}
