//! Whether this node knows enough of its peers' flows to take their VIPs from them. Pure.
//!
//! Who starts, or could not be told for a while, is cold: to take a VIP from a node that is well would break the
//! connections that it does not know. Who is warm stays so: nobody takes over from a node that is dead more warily.

use std::time::{Duration, Instant};

/// How long a peer that may be there is waited for. Dialling takes a second at most, twice.
pub const REACH: Duration = Duration::from_millis(2500);
/// How long everything may take that a peer has to send.
pub const FILL: Duration = Duration::from_secs(10);

/// A peer as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// There is no connection. `tried`: no controller runs there.
    Away {
        tried: bool,
    },
    Connected {
        since: Instant,
        is_synced: bool,
    },
}

/// Since when this node is cold, if it is.
#[derive(Clone, Copy, Debug)]
pub struct Warmth(Option<Instant>);

impl Warmth {
    pub const fn cold(now: Instant) -> Self {
        Self(Some(now))
    }

    pub const fn is_warm(&self) -> bool {
        self.0.is_none()
    }

    /// What it knows may be stale.
    pub fn cool(&mut self, now: Instant) {
        self.0 = Some(now);
    }

    /// Looks at its peers. `true`: it has just become warm.
    pub fn look(&mut self, peers: impl IntoIterator<Item = Peer>, now: Instant) -> bool {
        let Some(cold) = self.0 else { return false };
        let is_done = |peer: Peer| match peer {
            Peer::Away { tried } => tried || now >= cold + REACH,
            Peer::Connected { since, is_synced } => is_synced || now >= since.max(cold) + FILL,
        };
        let is_warm = peers.into_iter().all(is_done);
        if is_warm {
            self.0 = None;
        }
        is_warm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test: any moment to start from")]
    fn a_peer_is_waited_for_within_bounds() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let away = Peer::Away { tried: false };
        let connected = |is_synced| Peer::Connected { since: ms(1000), is_synced };
        for (peers, from, expected) in [
            (vec![], 0, true),
            (vec![away], 2499, false),
            (vec![away], 2500, true),
            (vec![Peer::Away { tried: true }], 10, true),
            (vec![connected(true)], 1000, true),
            (vec![connected(false)], 10_999, false),
            (vec![connected(false)], 11_000, true),
            (vec![connected(true), away], 1000, false),
        ] {
            let mut warmth = Warmth::cold(start);
            assert_eq!(warmth.look(peers.clone(), ms(from)), expected, "{peers:?}");
            assert_eq!(warmth.is_warm(), expected);
            // It is said once, and holds.
            assert!(!expected || !warmth.look([connected(false)], ms(from)) && warmth.is_warm());
        }
    }
}
