//! Which other nodes share this one's flows. Pure.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// More nodes than that share no VIPs.
pub const MAX_PEERS: usize = 7;

/// What nodes share their flows by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sync {
    /// An address of this node, never a VIP; peers know the node by it.
    pub listen: SocketAddr,
    /// Where the other nodes listen: never none, of the family of `listen`, each address once.
    pub peers: Vec<SocketAddr>,
    /// What they prove themselves with.
    pub key_file: PathBuf,
}
