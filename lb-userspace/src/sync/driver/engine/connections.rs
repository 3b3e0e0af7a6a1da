//! Connections to peers: who listens and who dials, how they begin and end. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::super::connection::{self, Connection, Input};
use super::super::super::fsm::{Event, Session};
use super::super::super::packet::{Bye, Hello, OLDEST, VERSION};
use super::super::super::refusal::Refusal;
use super::super::Notice;
use super::super::listener::{Answered, Listener, Terms};
use super::super::peer::{Live, Peer};
use super::{Engine, now};

/// An address that is not there yet is tried again after so long.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn own_hello(&self) -> Hello {
        Hello {
            oldest: OLDEST,
            newest: VERSION,
            instance: self.instance,
            capabilities: 0,
            listen: self.config.listen,
            name: self.name.clone(),
        }
    }

    pub(super) async fn listen(&mut self, now: Instant) {
        if self.listener.is_some() || now < self.listen_at {
            return;
        }
        self.listen_at = now + LISTEN_AGAIN;
        let Some(keys) = self.keys.clone() else { return };
        let (peers, own) = (self.config.peers.clone(), self.own_hello());
        let terms = Arc::new(Terms { peers, keys, own });
        match Listener::start(terms, self.answered.0.clone()).await {
            Ok(listener) => {
                self.listener = Some(listener);
                self.listen_error = None;
            }
            Err(error) => {
                let error = format!("cannot listen on {}: {error}", self.config.listen);
                if self.listen_error.as_ref() != Some(&error) {
                    self.trouble(error.clone());
                }
                self.listen_error = Some(error);
            }
        }
    }

    /// Of two nodes the one with the lower address dials.
    pub(super) fn dial(&mut self, now: Instant) {
        let Some(keys) = self.keys.clone() else { return };
        let own = self.own_hello();
        let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
        for address in addresses.into_iter().filter(|address| self.config.listen < *address) {
            let Some(peer) = self.peers.get_mut(&address) else { continue };
            if peer.live.is_some() || now < peer.dial_at {
                continue;
            }
            if peer.dialing.as_ref().is_some_and(|task| !task.is_finished()) {
                continue;
            }
            // The peer may know the other key only.
            let key = keys.nth(peer.attempts as usize);
            let (own, answered) = (own.clone(), self.answered.0.clone());
            peer.dialing = Some(tokio::spawn(async move {
                let outcome = connection::dial(address, key, &own).await.and_then(|found| {
                    if found.hello.listen == address { Ok(found) } else { Err(Refusal::Stranger) }
                });
                // The engine has ended.
                let _ = answered.send(Answered { from: address, outcome }).await;
            }));
            // Until the outcome is there.
            peer.dial_at = now + connection::CONNECT * 3;
        }
    }

    pub(super) fn answer(&mut self, Answered { from, outcome }: Answered) {
        let now = now();
        match outcome {
            Ok(connection) => self.join(connection, now),
            Err(refusal) => {
                self.refuse(from, &refusal);
                let is_away = refusal == Refusal::NoListener;
                if let Some(peer) = self.peers.get_mut(&from)
                    && peer.live.is_none()
                {
                    peer.tried += u32::from(is_away);
                    peer.lost(refusal.to_string(), now);
                }
            }
        }
    }

    pub(super) fn join(&mut self, connection: Connection, now: Instant) {
        let address = connection.hello.listen;
        if !self.keys.as_ref().is_some_and(|keys| keys.contains(&connection.key)) {
            return;
        }
        // One that was there before has ended, though nobody has noticed: this one has just proved itself.
        self.drop_live(address, Bye::Replaced);
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let (id, key) = (self.next_id, connection.key);
        self.next_id += 1;
        let name = connection.hello.name.clone();
        peer.name = Some(name.clone());
        peer.error = None;
        peer.since = now;
        peer.attempts = 0;
        let (outbox, reading) = connection.start(id, self.inbox.0.clone(), Arc::clone(&self.wrote));
        let (session, actions) = Session::new(&self.own, self.capacity, now);
        let mut live = Live {
            id,
            key,
            session,
            outbox,
            jobs: BTreeMap::new(),
            was_synced: false,
            discarded: Vec::new(),
            clients: BTreeSet::new(),
            _reading: reading,
        };
        let performed = live.perform(actions, &mut *self.store);
        peer.live = Some(live);
        self.tell(Notice::Joined { peer: address, name });
        self.after(address, performed);
    }

    pub(super) fn input(&mut self, id: u64, input: Input) {
        let is_its = |peer: &&Peer| peer.live.as_ref().is_some_and(|live| live.id == id);
        // Of a connection that was given up.
        let Some(address) = self.peers.values().find(is_its).map(|peer| peer.address) else {
            return;
        };
        match input {
            Input::Message(message) => self.feed(address, Event::Received(message)),
            Input::Ended(refusal) => self.lose(address, &refusal),
        }
    }

    /// A connection has ended.
    pub(super) fn lose(&mut self, address: SocketAddr, refusal: &Refusal) {
        if refusal.label().is_some() {
            self.refuse(address, refusal);
        }
        let Some(peer) = self.peers.get_mut(&address) else { return };
        if peer.live.is_none() {
            return;
        }
        let reason = refusal.to_string();
        peer.lost(reason.clone(), now());
        self.tell(Notice::Lost { peer: address, reason });
    }

    /// Ends a connection, of which the peer is told.
    pub(super) fn drop_live(&mut self, address: SocketAddr, bye: Bye) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let Some(live) = &peer.live else { return };
        live.goodbye(bye);
        let reason = "there is a newer connection, key or configuration".to_owned();
        peer.lost(reason.clone(), now());
        self.tell(Notice::Lost { peer: address, reason });
    }

    pub(super) fn refuse(&mut self, from: SocketAddr, refusal: &Refusal) {
        if self.refusals.note(refusal, now()) && refusal.label().is_some() {
            self.tell(Notice::Refused { from, reason: refusal.to_string() });
        }
    }
}
