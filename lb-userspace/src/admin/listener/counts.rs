//! What the listener has served, and what it has turned away. Pure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// Why something was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It asked for another host: a name that was made to lead here, mostly.
    Host,
    /// A page of another site asked.
    Origin,
    /// The token is needed, and was not there or was wrong.
    Token,
    /// It is for the socket alone.
    Local,
    /// It took too long.
    Slow,
    /// It was too large.
    Large,
    /// It is not HTTP.
    Malformed,
    /// There were too many connections, of all or of one address.
    Connections,
    /// There were too many who follow, or the controller was busy.
    Busy,
    /// No TLS came about.
    Tls,
}

impl Refused {
    const ALL: [Self; 10] = [
        Self::Host,
        Self::Origin,
        Self::Token,
        Self::Local,
        Self::Slow,
        Self::Large,
        Self::Malformed,
        Self::Connections,
        Self::Busy,
        Self::Tls,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Token => "token",
            Self::Local => "local",
            Self::Slow => "slow",
            Self::Large => "large",
            Self::Malformed => "malformed",
            Self::Connections => "connections",
            Self::Busy => "busy",
            Self::Tls => "tls",
        }
    }

    /// Of an answer that no more is known of.
    pub(super) fn by_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::REQUEST_TIMEOUT => Some(Self::Slow),
            StatusCode::PAYLOAD_TOO_LARGE => Some(Self::Large),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Busy),
            _ => None,
        }
    }
}

/// Shared by all connections.
#[derive(Debug, Default)]
pub(super) struct Counts {
    refused: [AtomicU64; Refused::ALL.len()],
    requests: AtomicU64,
}

impl Counts {
    pub(super) fn refuse(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Every reason, those of which there was nothing too.
    pub(super) fn refused(&self) -> BTreeMap<String, u64> {
        let count = |why: Refused| self.refused[why as usize].load(Ordering::Relaxed);
        Refused::ALL.map(|why| (why.as_str().to_owned(), count(why))).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let counts = Counts::default();
        for (index, why) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            counts.refuse(why);
        }
        let refused = counts.refused();
        assert_eq!(refused.len(), Refused::ALL.len());
        assert!(refused.values().all(|count| *count == 1), "{refused:?}");
    }
}
