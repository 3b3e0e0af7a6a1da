//! One probe of one backend, over a connection of its own. Called by `driver`. I/O.
//!
//! Whatever a server does, a probe ends with a [`Finding`] within its timeout (plus [`CLOSE_GRACE`] for
//! closing the connection properly), and reads no more than a bounded number of bytes. What it asks for
//! beside the path (`tiers`) is within the same timeout.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::{Finding, Reason, Stage};
use crate::config::{HealthCheck, Probe};

mod answer;
mod http;
mod https;
pub(crate) mod insecure;
mod session;
mod tcp;
mod tiers;
mod tls_cache;

pub use tls_cache::TlsCache;

/// How long a finished probe may take to tell the server goodbye.
pub const CLOSE_GRACE: Duration = Duration::from_millis(100);

/// Probes `endpoint` as `check` says, from `source` if given: the kernel could choose a VIP. The table
/// that holds TLS configurations is shared between probes.
pub async fn probe(
    endpoint: SocketAddr,
    check: &HealthCheck,
    source: Option<IpAddr>,
    tls: &TlsCache,
) -> Finding {
    let budget = Budget::new(check);
    let target = Target { endpoint, source, budget };
    // In boxes, so that a probe by TCP has no need of the room that several in TLS take.
    match &check.probe {
        Probe::Tcp => tcp::probe(target).await.unwrap_or_else(|reason| reason).into(),
        Probe::Http { request } => {
            let ask = |path| http::ask(target, request, path);
            Box::pin(tiers::probe(request, budget, ask)).await
        }
        Probe::Https { request, tls: trust } => match https::prepare(target, trust, tls).await {
            Ok(secured) => {
                let ask = |path| https::ask(target, &secured, request, path);
                Box::pin(tiers::probe(request, budget, ask)).await
            }
            Err(reason) => reason.into(),
        },
    }
}

/// Where a probe's connections go, and from where.
#[derive(Clone, Copy)]
struct Target {
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    budget: Budget,
}

/// Instants must not overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// What remains of a probe's time.
#[derive(Clone, Copy)]
struct Budget {
    started: Instant,
    deadline: Instant,
    /// For each connection.
    connect: Duration,
}

impl Budget {
    fn new(check: &HealthCheck) -> Self {
        let started = Instant::now();
        let deadline = started + check.timeout.min(MAX_TIMEOUT);
        Self { started, deadline, connect: check.connect_timeout.min(MAX_TIMEOUT) }
    }

    /// When half of it is gone.
    fn half(self) -> Instant {
        self.started + (self.deadline - self.started) / 2
    }

    /// What a connection that is made now may take of it.
    fn to_connect(self) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + self.connect), ..self }
    }

    /// Runs one stage, or says that the time was up in it.
    async fn spend<T>(
        self,
        stage: Stage,
        work: impl Future<Output = Result<T, Reason>>,
    ) -> Result<T, Reason> {
        timeout_at(self.deadline, work).await.unwrap_or(Err(Reason::Timeout(stage)))
    }

    /// Runs the closing of a connection, whose result is of no interest.
    async fn close<T>(self, work: impl Future<Output = T>) {
        let deadline = self.deadline.min(Instant::now() + CLOSE_GRACE);
        _ = timeout_at(deadline, work).await;
    }
}

/// A connection, in clear or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What an error on an established connection says.
#[expect(clippy::wildcard_enum_match_arm, reason = "however it broke, the answer did not come")]
fn classify(error: &io::Error) -> Reason {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return https::classify(error);
    }
    match error.kind() {
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Reason::Unreachable(error.kind()),
        io::ErrorKind::TimedOut => Reason::Timeout(Stage::Response),
        _ => Reason::Closed,
    }
}

#[cfg(test)]
mod tests;
