//! What the main loop and `status` are told.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Instant;

use super::super::super::view::View;
use super::super::{NOTICES, Notice};
use super::{Engine, now};

impl Engine {
    pub(super) fn look_synced(&mut self, address: SocketAddr) {
        let Some(live) = self.peers.get_mut(&address).and_then(|peer| peer.live.as_mut()) else {
            return;
        };
        let view = live.session.view(now());
        if view.is_synced != std::mem::replace(&mut live.was_synced, view.is_synced)
            && view.is_synced
        {
            self.tell(Notice::Synced { peer: address, flows: view.held });
        }
    }

    pub(super) fn look_warm(&mut self) {
        let now = now();
        let stand: Vec<_> = self.peers.values().map(|peer| peer.stands(now)).collect();
        self.warmth.look(stand, now);
        let is_warm = self.warmth.is_warm();
        if is_warm != std::mem::replace(&mut self.was_warm, is_warm) {
            self.tell(Notice::Warm(is_warm));
        }
        let sessions = self.peers.values().filter_map(|peer| peer.live.as_ref());
        let told = sessions.flat_map(|live| live.session.peer_serves()).copied().collect();
        if told != self.told {
            self.told.clone_from(&told);
            self.tell(Notice::Told(told));
        }
    }

    /// What matters more finds room behind it.
    pub(super) fn tell_clients(&mut self) {
        if self.notices.capacity() > NOTICES / 2
            && let Some(clients) = self.clients.take()
        {
            self.tell(Notice::Clients(clients));
        }
    }

    pub(super) fn publish(&self, now: Instant) {
        let view = View {
            listen: Some(self.config.listen),
            error: self.listen_error.clone(),
            is_warm: self.warmth.is_warm(),
            peers: self.peers.values().map(|peer| peer.view(now)).collect(),
            refused: self.refusals.counts().clone(),
            not_kept: self.store.refused(),
            lost: self.lost,
        };
        *self.views.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    pub(super) fn tell(&self, notice: Notice) {
        // Rather lost than waited for.
        let _ = self.notices.try_send(notice);
    }

    pub(super) fn trouble(&self, text: String) {
        self.tell(Notice::Trouble(text));
    }
}
