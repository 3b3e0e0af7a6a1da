//! What operators have said of backends, who they were, and when. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Admin;

/// Whoever is at the other end of the admin socket, or of a connection by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Absent by TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Who logged in, before any sudo or su; absent where the kernel does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Who showed the token by TCP comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.uid, self.login_uid, self.address) {
            (Some(uid), Some(login), _) if login != uid => {
                write!(f, "uid {uid} (logged in as uid {login})")
            }
            (Some(uid), _, _) => write!(f, "uid {uid}"),
            (None, _, Some(address)) => write!(f, "{address} with the token"),
            (None, _, None) => f.write_str("somebody"),
        }
    }
}

impl Peer {
    /// A process of this node, through the socket.
    pub const fn local(uid: u32, login_uid: Option<u32>) -> Self {
        Self { uid: Some(uid), login_uid, address: None }
    }

    /// Somebody with the token, by TCP.
    pub const fn remote(address: IpAddr) -> Self {
        Self { uid: None, login_uid: None, address: Some(address) }
    }
}

/// A value that an operator gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said<T> {
    pub value: T,
    /// RFC 3339.
    pub since: String,
    /// Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Peer>,
}

/// What holds of one backend in place of its configuration; at least one of `admin` and `weight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub service: String,
    pub backend: String,
    /// Whether the configuration has such a backend. What is said of one that it has not is kept.
    pub configured: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Said<Admin>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Said<u16>>,
}

/// In a sentence.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, backend, configured, admin, weight } = self;
        write!(f, "{service}/{backend}: ")?;
        if let Some(said) = admin {
            write!(f, "{}{}", said.value.as_str(), said.origin())?;
        }
        if let Some(said) = weight {
            let comma = if admin.is_some() { ", " } else { "" };
            write!(f, "{comma}weight {}{}", said.value, said.origin())?;
        }
        if *configured { Ok(()) } else { f.write_str(" (no such backend is configured)") }
    }
}

impl<T> Said<T> {
    fn origin(&self) -> String {
        let by = self.by.map(|by| format!(" by {by}")).unwrap_or_default();
        format!(" since {}{by}", self.since)
    }
}

/// Where overrides are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    pub path: String,
    /// Why what was said last is not written there; absent: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
