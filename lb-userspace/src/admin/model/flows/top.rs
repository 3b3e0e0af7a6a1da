//! Who has the most connections: what the API says of it, and how it is asked. Pure.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::FlowQuery;

/// Groups of an answer, unless the client says otherwise, and at most.
pub const DEFAULT_TOP: usize = 20;
pub const MAX_TOP: usize = 1000;

/// What flows are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The client's address, whatever its port.
    #[default]
    Client,
    Backend,
}

impl By {
    pub const ALL: [Self; 2] = [Self::Client, Self::Backend];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|by| by.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is nothing to group by; write client or backend"))
    }
}

/// Query of `GET /v1/flows/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopQuery {
    /// `client` (the default) or `backend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl TopQuery {
    /// The part that says which flows.
    pub fn query(&self) -> FlowQuery {
        FlowQuery {
            service: self.service.clone(),
            backend: self.backend.clone(),
            client: self.client.clone(),
            state: self.state.clone(),
            older_than: self.older_than.clone(),
            limit: self.limit,
        }
    }

    /// # Errors
    /// What would be right.
    pub fn by(&self) -> Result<By, String> {
        let by = self.by.as_deref().filter(|by| !by.is_empty());
        by.map_or_else(|| Ok(By::default()), str::parse)
    }
}

/// Answer to `GET /v1/flows/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTop {
    pub by: By,
    /// All that match.
    pub flows: u64,
    /// Those with the most flows first.
    pub groups: Vec<Group>,
    /// There are more groups than the limit.
    pub truncated: bool,
    /// Flows of groups that there was no room to count: those first seen once there were a quarter of a million.
    pub uncounted: u64,
}

/// Flows that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Null, if it is about a backend.
    pub client: Option<IpAddr>,
    /// Null, if it is about a client, or no longer configured.
    pub service: Option<String>,
    /// Likewise.
    pub backend: Option<String>,
    /// Of the backend; null, if it is about a client.
    pub address: Option<SocketAddr>,
    pub flows: u64,
    pub established: u64,
    /// Those that no reply has confirmed.
    pub half_open: u64,
    /// Since any of them was last seen.
    pub idle_ms: u64,
    /// Since the one that was not seen for the longest.
    pub longest_idle_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_by_client_unless_said_otherwise() {
        let by =
            |by: Option<&str>| TopQuery { by: by.map(str::to_owned), ..TopQuery::default() }.by();
        assert_eq!(by(None), Ok(By::Client));
        assert_eq!(by(Some("backend")), Ok(By::Backend));
        assert!(by(Some("bytes")).unwrap_err().contains("write client or backend"));
    }
}
