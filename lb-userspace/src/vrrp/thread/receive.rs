//! From the sockets' messages to events of the machines. Called by the VRRP thread. I/O.

use std::net::IpAddr;

use super::super::event::Alarm;
use super::super::packet::{self, MAX_LEN};
use super::super::socket::Received;
use super::super::{Advert, Discard, Event, Nanos, clock};
use super::{MESSAGES_AT_ONCE, Notice, PUBLISH_INTERVAL, Thread};

/// What a message is read into, and one is built in.
pub(super) struct Buffers {
    pub(super) received: [u8; 65_536],
    pub(super) sent: [u8; MAX_LEN],
}

impl Buffers {
    pub(super) fn boxed() -> Box<Self> {
        Box::new(Self { received: [0; 65_536], sent: [0; MAX_LEN] })
    }
}

impl Thread {
    /// Reads what the sockets hold. `false`: there may be more.
    pub(super) fn receive(&mut self) -> bool {
        let mut everything = true;
        for index in 0..self.members.len() {
            everything &= self.receive_for(index);
        }
        everything
    }

    fn receive_for(&mut self, index: usize) -> bool {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(socket) = self.members.get_mut(index).and_then(|m| m.socket.as_mut()) else {
                return true;
            };
            match socket.receive(&mut self.buffers.received) {
                Ok(Some(received)) => self.message(index, &received),
                Ok(None) => return true,
                // The interface may be gone, which the next report says.
                Err(_) => return true,
            }
        }
        false
    }

    fn message(&mut self, index: usize, received: &Received) {
        let now = clock::now();
        let at = received.at.min(now);
        let source = received.envelope.source;
        let bytes = self.buffers.received.get(received.message.clone()).unwrap_or_default();
        let Some(member) = self.members.get(index) else { return };
        if let Some((_, vrid)) = packet::peek(bytes)
            && vrid != member.settings.vrid
        {
            self.of_another(index, vrid, source, now);
            return;
        }
        let settings = &member.settings;
        let parsed = packet::parse(bytes, &received.envelope, settings.version);
        let admitted = parsed.and_then(|advert| {
            settings.admits(&advert, &received.envelope)?;
            Ok(advert)
        });
        self.publish_by(Nanos(now.0 + PUBLISH_INTERVAL));
        self.handle(index, Event::Receiving, now);
        match admitted {
            Ok(advert) => self.admitted(index, &advert, source, at, now),
            Err(discard) => self.dropped(index, discard, source, now),
        }
    }

    /// An advertisement that the configuration takes; the machine may not, as it is now.
    fn admitted(&mut self, index: usize, advert: &Advert, source: IpAddr, at: Nanos, now: Nanos) {
        let Some(member) = self.members.get_mut(index) else { return };
        match member.machine.takes(source) {
            Ok(()) => {
                member.view.heard(advert, source, at);
                self.handle(index, Event::Received { advert, source, at }, now);
            }
            Err(Discard::NotRunning) => {
                // Who else is there is worth to know.
                member.view.heard(advert, source, at);
                member.view.dropped(Discard::NotRunning);
            }
            Err(discard) => self.dropped(index, discard, source, now),
        }
    }

    fn dropped(&mut self, index: usize, discard: Discard, source: IpAddr, now: Nanos) {
        self.tell_of_dropped(index, discard, source, now);
        // Whatever the state: keepalived says little where it drops what we say.
        if is_misconfigured(discard) {
            self.raise(index, Alarm::RefusedActive { peer: source, discard }, now);
        }
        self.handle(index, Event::Discarded { discard, source }, now);
    }

    fn tell_of_dropped(&mut self, index: usize, discard: Discard, source: IpAddr, now: Nanos) {
        let Some(member) = self.members.get_mut(index) else { return };
        member.view.dropped(discard);
        let told = &mut member.told[discard.index()];
        if told.is_none_or(|told| now.since(told).as_secs() >= 1) {
            *told = Some(now);
            let instance = std::sync::Arc::clone(&member.name);
            self.notice(Notice::Dropped { instance, discard, source });
        }
    }

    /// A message of another VRID, which every instance of the interface hears: the first one counts it,
    /// if it is nobody's.
    fn of_another(&mut self, index: usize, vrid: u8, source: IpAddr, now: Nanos) {
        let Some(member) = self.members.get(index) else { return };
        let mut neighbours = self.members.iter().filter(|other| {
            (&other.interface, other.settings.family) == (&member.interface, member.settings.family)
        });
        let is_first = neighbours.next().is_some_and(|first| first.name == member.name);
        let is_known = self.members.iter().any(|other| {
            (&other.interface, other.settings.family, other.settings.vrid)
                == (&member.interface, member.settings.family, vrid)
        });
        self.handle(index, Event::Receiving, now);
        if is_first && !is_known {
            self.tell_of_dropped(index, Discard::Vrid(vrid), source, now);
        }
    }
}

/// A peer that would be one if both were configured alike.
const fn is_misconfigured(discard: Discard) -> bool {
    match discard {
        Discard::Version(_)
        | Discard::Interval(_)
        | Discard::AuthType(_)
        | Discard::AuthFailure
        | Discard::Cast => true,
        Discard::Ttl(_)
        | Discard::Length
        | Discard::Type(_)
        | Discard::Checksum
        | Discard::Vrid(_)
        | Discard::AddressList
        | Discard::Stranger
        | Discard::OwnSource
        | Discard::NotRunning => false,
    }
}
