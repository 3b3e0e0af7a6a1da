//! What is known of peers, for `status`. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::fsm;

/// Everything that `status` shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub listen: Option<SocketAddr>,
    /// Why nobody can connect, if nobody can.
    pub error: Option<String>,
    pub is_warm: bool,
    pub peers: Vec<PeerView>,
    /// Connections that were refused, and flows of peers that were not kept, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    pub not_kept: BTreeMap<&'static str, u64>,
    /// Events of flows that were lost on the way from the datapath.
    pub lost: u64,
}

/// A peer.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub address: SocketAddr,
    /// As it calls itself.
    pub name: Option<String>,
    pub since: Instant,
    /// `None`: there is no connection.
    pub session: Option<fsm::View>,
    /// Why there is none.
    pub error: Option<String>,
}

impl PeerView {
    pub const fn state(&self) -> &'static str {
        match self.session {
            None => "connecting",
            Some(fsm::View { is_synced: false, .. }) => "syncing",
            Some(fsm::View { is_synced: true, .. }) => "synced",
        }
    }
}
