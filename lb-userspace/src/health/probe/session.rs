//! The TLS session with one backend, resumed for a short while. I/O: it reads the clock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
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
                let store = Arc::new(Store::default());
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
            made.store.kept().verified = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections of one probe; servers may send more tickets.
const MAX_TICKETS: usize = 3;

/// Gives out sessions only as long as the certificate was seen a short while ago. There may be many
/// backends, so it keeps no more than one probe has a use for.
#[derive(Default)]
struct Store(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    verified: Option<Instant>,
    hint: Option<NamedGroup>,
    tls12: Option<(ServerName<'static>, Tls12ClientSessionValue)>,
    /// The newest last.
    tickets: Vec<(ServerName<'static>, Tls13ClientSessionValue)>,
}

impl Store {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept, without sessions that must not be resumed any more.
    fn fresh(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept();
        if kept.verified.is_none_or(|at| at.elapsed() >= RESUME_FOR) {
            kept.tls12 = None;
            kept.tickets = Vec::new();
        }
        kept
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().hint = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().hint
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some((server_name, value));
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let kept = self.fresh();
        kept.tls12.as_ref().filter(|(name, _)| name == server_name).map(|(_, value)| value.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        let mut kept = self.kept();
        if kept.tickets.len() >= MAX_TICKETS {
            kept.tickets.remove(0);
        }
        kept.tickets.push((server_name, value));
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.fresh();
        let newest = kept.tickets.iter().rposition(|(name, _)| name == server_name)?;
        Some(kept.tickets.remove(newest).1)
    }
}
