//! One probe of one backend, over a connection of its own. Called by `driver`. I/O.
//!
//! Whatever a server does, a probe ends with a [`Reason`] within its timeout (plus [`CLOSE_GRACE`] for
//! closing the connection properly), and reads no more than a bounded number of bytes.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::{Reason, Stage};
use crate::config::{HealthCheck, Probe};

mod http;
mod https;
pub(crate) mod insecure;
mod tcp;
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
) -> Reason {
    let budget = Budget { deadline: Instant::now() + check.timeout.min(MAX_TIMEOUT) };
    let result = match &check.probe {
        Probe::Tcp => tcp::probe(endpoint, source, budget).await,
        Probe::Http { path } => http::probe(endpoint, source, path, budget).await,
        Probe::Https { path, server_name, verify } => {
            let target = https::Target { path, server_name, verify };
            https::probe(endpoint, source, target, tls, budget).await
        }
    };
    result.unwrap_or_else(|reason| reason)
}

/// Instants must not overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// What remains of a probe's time.
#[derive(Clone, Copy)]
struct Budget {
    deadline: Instant,
}

impl Budget {
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
