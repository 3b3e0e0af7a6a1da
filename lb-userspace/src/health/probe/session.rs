//! The TLS session with one backend, resumed for a short while. I/O: it reads the clock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use tokio::time::Instant;

/// A resumed session shows no certificate, so this is how late a bad one may be seen. At the default
/// interval, every probe of a backend that is well verifies.
pub(super) const RESUME_FOR: Duration = Duration::from_millis(900);

/// The configuration of one backend's connections, and the session that the next may resume.
#[derive(Default)]
pub(super) struct Session {
    made: Mutex<Option<Made>>,
}

struct Made {
    /// That of all backends with the same files.
    base: Arc<ClientConfig>,
    own: Arc<ClientConfig>,
    store: Arc<Store>,
}

impl Session {
    /// `base` with this backend's store; another `base` starts without a session.
    pub(super) fn config(&self, base: Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut made = self.lock();
        match &*made {
            Some(made) if Arc::ptr_eq(&made.base, &base) => Arc::clone(&made.own),
            Some(_) | None => {
                let store = Arc::new(Store::new());
                let mut own = (*base).clone();
                own.resumption = Resumption::store(Arc::clone(&store) as Arc<_>);
                let own = Arc::new(own);
                *made = Some(Made { base, own: Arc::clone(&own), store });
                own
            }
        }
    }

    /// A handshake has ended.
    pub(super) fn shaken(&self, kind: Option<HandshakeKind>) {
        let is_full = kind != Some(HandshakeKind::Resumed);
        if let Some(made) = &*self.lock()
            && is_full
        {
            *made.store.verified() = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives out sessions only as long as the certificate was seen a short while ago.
struct Store {
    sessions: ClientSessionMemoryCache,
    verified: Mutex<Option<Instant>>,
}

impl Store {
    fn new() -> Self {
        Self { sessions: ClientSessionMemoryCache::new(1), verified: Mutex::new(None) }
    }

    fn verified(&self) -> MutexGuard<'_, Option<Instant>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        self.verified().is_some_and(|at| at.elapsed() < RESUME_FOR)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(server_name).filter(|_| self.is_fresh())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        self.sessions.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.sessions.take_tls13_ticket(server_name).filter(|_| self.is_fresh())
    }
}
