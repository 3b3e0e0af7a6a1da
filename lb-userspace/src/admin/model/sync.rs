//! What `status` says of the nodes that share flows with this one. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::rfc3339;
use crate::sync::view::{PeerView, View};

/// The sharing of flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Absent for a moment after the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Why nobody can connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// This node knows its peers' flows, as far as they can be known; until then it takes no VIP from a peer.
    pub warm: bool,
    pub peers: Vec<SyncPeer>,
    /// Connections that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Flows of peers that were not kept, by reason.
    pub not_kept: BTreeMap<String, u64>,
    /// Changes that were lost between datapath and controller, and found again by comparing.
    pub lost_changes: u64,
}

/// A node that shares its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPeer {
    /// `ADDRESS:PORT`, where it listens.
    pub address: String,
    /// As it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `connecting`, `syncing` or `synced`.
    pub state: String,
    /// When it last connected, or was lost.
    pub since: String,
    /// Why there is no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Changes and flows sent over this connection, and carried out here.
    pub sent: u64,
    pub received: u64,
    /// The peer's flows that are here, and ours that are there, by the last comparison.
    pub held: u64,
    pub held_by_peer: u64,
    /// How long a change takes to be carried out there.
    pub lag_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_digest: Option<LastDigest>,
    /// How often everything was compared because changes were not sent.
    pub resyncs: u64,
    /// Changes that were not carried out, because this node serves their VIP too.
    pub ignored: u64,
    /// Flows that only this node had.
    pub discarded: u64,
}

/// The last comparison with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDigest {
    pub ago_ms: u64,
    /// Of 1,024 buckets, those that were not equal.
    pub differing: u64,
}

impl Sync {
    /// What is known, at `now` and `wall` at once.
    pub fn new(view: &View, now: Instant, wall: SystemTime) -> Self {
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        Self {
            listen: view.listen,
            error: view.error.clone(),
            warm: view.is_warm,
            peers: view.peers.iter().map(|peer| SyncPeer::new(peer, now, wall)).collect(),
            refused: named(&view.refused),
            not_kept: named(&view.not_kept),
            lost_changes: view.lost,
        }
    }
}

impl SyncPeer {
    fn new(peer: &PeerView, now: Instant, wall: SystemTime) -> Self {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let session = peer.session.unwrap_or_default();
        Self {
            address: peer.address.to_string(),
            name: peer.name.clone(),
            state: peer.state().to_owned(),
            since: rfc3339(wall.checked_sub(ago(peer.since)).unwrap_or(wall)),
            error: peer.error.clone(),
            sent: session.sent,
            received: session.received,
            held: session.held,
            held_by_peer: session.held_by_peer,
            lag_ms: milliseconds(session.lag),
            last_digest: session.compared.map(|(at, differing)| LastDigest {
                ago_ms: milliseconds(ago(at)),
                differing: differing as u64,
            }),
            resyncs: session.resyncs,
            ignored: session.ignored,
            discarded: session.discarded,
        }
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
