//! What each finding says about each state. Pure.

use super::super::{Class, Health, Verdict};
use crate::config::{Fall, Pace};

/// What a finding says about a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// It says nothing about the backend.
    None,
    /// It agrees.
    Same,
    /// It is another state, without counting.
    AtOnce(Health),
    /// It is a worse one, if so many in a row say so.
    Worse { to: Health, needed: u32 },
    /// It is a better one, if enough in a row say so.
    Better { to: Health },
}

/// Every pair of a state and a finding.
pub(super) const fn opinion(health: Health, verdict: Verdict, pace: &Pace) -> Opinion {
    use Health::{Degraded, Down, Draining, Unknown, Unverified, Up};
    match (health, verdict) {
        (_, Verdict::Failed(Class::Local)) => Opinion::None,

        (Unknown, Verdict::Ready) => Opinion::AtOnce(Up),
        (Unknown, Verdict::Unverified) => Opinion::AtOnce(Unverified),
        (Unknown, Verdict::Degraded) => Opinion::AtOnce(Degraded),
        (Unknown, Verdict::NotReady) => Opinion::AtOnce(Draining),

        (Up, Verdict::Ready)
        | (Unverified, Verdict::Unverified)
        | (Degraded, Verdict::Degraded)
        | (Draining, Verdict::NotReady)
        | (Down, Verdict::Failed(_)) => Opinion::Same,

        (Up, Verdict::Unverified) => Opinion::AtOnce(Unverified),
        (Unverified, Verdict::Ready) => Opinion::AtOnce(Up),

        (Up | Unverified, Verdict::Degraded) => {
            Opinion::Worse { to: Degraded, needed: pace.fall.status }
        }
        (Up | Unverified | Degraded, Verdict::NotReady) => {
            Opinion::Worse { to: Draining, needed: pace.fall.status }
        }
        (Unknown | Up | Unverified | Degraded | Draining, Verdict::Failed(class)) => {
            Opinion::Worse { to: Down, needed: needed(&pace.fall, class) }
        }

        (Degraded | Draining | Down, Verdict::Ready) => Opinion::Better { to: Up },
        (Degraded | Draining | Down, Verdict::Unverified) => Opinion::Better { to: Unverified },
        (Draining | Down, Verdict::Degraded) => Opinion::Better { to: Degraded },
        (Down, Verdict::NotReady) => Opinion::Better { to: Draining },
    }
}

const fn needed(fall: &Fall, class: Class) -> u32 {
    match class {
        Class::Refused => fall.refused,
        Class::Timeout => fall.timeout,
        Class::Status => fall.status,
        Class::Certificate => fall.certificate,
        Class::Protocol => fall.protocol,
        // Never counted.
        Class::Local => u32::MAX,
    }
}
