//! What `status` says of the TCP listener. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Serves page, metrics and API by TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: bool,
    /// There is a token, with which backends can be changed.
    pub token: bool,
    /// Why nobody can connect; absent: somebody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Those that are open.
    pub connections: u64,
    pub requests: u64,
    /// What was turned away, by reason.
    pub refused: BTreeMap<String, u64>,
}
