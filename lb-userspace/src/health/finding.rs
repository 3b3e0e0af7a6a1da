//! What one probe found, and what that says about the backend: what `probe` answers and `fsm` counts. Pure.

use super::{Reason, Stage};

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// The same for people.
    pub reason: Reason,
}

/// What a probe says about its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// As expected: 200, or a TCP connection.
    Ready,
    /// 401 or 403: alive, its health unseen.
    Unverified,
    /// `/readyz` red, green without the etcd checks.
    Degraded,
    /// `/readyz` red while `/livez` is green: no new connections, old ones untouched.
    NotReady,
    /// None of these.
    Failed(Class),
}

/// Why a probe failed: each class has its own `fall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Refused, reset while connecting, or unreachable.
    Refused,
    /// Time was up at whatever stage.
    Timeout,
    /// Another HTTP status than expected, and not live either (500 from `/livez`), or 429/503.
    Status,
    /// The certificate does not verify (expired, wrong name, unknown issuer).
    Certificate,
    /// TLS or HTTP went wrong otherwise: closed early, not HTTP, alert.
    Protocol,
    /// Our own trouble (no file descriptors, CA file unreadable): says nothing about the backend.
    Local,
}

/// The finding of a probe that expected 200.
impl From<Reason> for Finding {
    fn from(reason: Reason) -> Self {
        let verdict = match &reason {
            Reason::Connected | Reason::Status(200) => Verdict::Ready,
            Reason::Status(401 | 403) => Verdict::Unverified,
            Reason::Status(_) => Verdict::Failed(Class::Status),
            Reason::WithoutEtcd(_) => Verdict::Degraded,
            Reason::NotReady(_) => Verdict::NotReady,
            Reason::Refused | Reason::Unreachable(_) => Verdict::Failed(Class::Refused),
            Reason::Timeout(Stage::Prepare) => Verdict::Failed(Class::Local),
            Reason::Timeout(Stage::Connect | Stage::Handshake | Stage::Response) => {
                Verdict::Failed(Class::Timeout)
            }
            Reason::Certificate(_) => Verdict::Failed(Class::Certificate),
            Reason::Tls(_) | Reason::Closed | Reason::BadResponse => {
                Verdict::Failed(Class::Protocol)
            }
            // No probe finds the others.
            Reason::Local(_) | Reason::NotProbed | Reason::Adopted | Reason::Held(_) => {
                Verdict::Failed(Class::Local)
            }
        };
        Self { verdict, reason }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn every_reason_has_its_verdict() {
        let text = String::new;
        let cases = [
            (Reason::Connected, Verdict::Ready),
            (Reason::Status(200), Verdict::Ready),
            (Reason::Status(401), Verdict::Unverified),
            (Reason::Status(403), Verdict::Unverified),
            (Reason::Status(204), Verdict::Failed(Class::Status)),
            (Reason::Status(429), Verdict::Failed(Class::Status)),
            (Reason::Status(500), Verdict::Failed(Class::Status)),
            (Reason::WithoutEtcd(Box::new(Reason::Status(500))), Verdict::Degraded),
            (Reason::NotReady(Box::new(Reason::Status(500))), Verdict::NotReady),
            (Reason::Refused, Verdict::Failed(Class::Refused)),
            (Reason::Unreachable(ErrorKind::HostUnreachable), Verdict::Failed(Class::Refused)),
            (Reason::Timeout(Stage::Prepare), Verdict::Failed(Class::Local)),
            (Reason::Timeout(Stage::Connect), Verdict::Failed(Class::Timeout)),
            (Reason::Timeout(Stage::Handshake), Verdict::Failed(Class::Timeout)),
            (Reason::Timeout(Stage::Response), Verdict::Failed(Class::Timeout)),
            (Reason::Certificate(text()), Verdict::Failed(Class::Certificate)),
            (Reason::Tls(text()), Verdict::Failed(Class::Protocol)),
            (Reason::Closed, Verdict::Failed(Class::Protocol)),
            (Reason::BadResponse, Verdict::Failed(Class::Protocol)),
            (Reason::Local(text()), Verdict::Failed(Class::Local)),
        ];
        for (reason, verdict) in cases {
            assert_eq!(Finding::from(reason.clone()).verdict, verdict, "{reason:?}");
        }
    }
}
