//! What the API says of flows, and how it is asked for them. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use lb_common::conntrack::TcpState;
use serde::{Deserialize, Serialize};

use crate::config::{Cidr, Family};
use crate::control::flows::Filter;

pub mod top;

/// Flows of a list, unless the client says otherwise, and at most: of the latter each takes 400 bytes.
pub const DEFAULT_LIMIT: usize = 1000;
pub const MAX_LIMIT: usize = 20_000;

/// Flows that one purge removes, unless the client says otherwise and at most. Those with a RST are
/// told 2,000 a second, and the answer comes when they are.
pub const DEFAULT_PURGE: usize = 10_000;
pub const MAX_PURGE: usize = 100_000;
pub const MAX_PURGE_WITH_RESET: usize = 20_000;

/// One flow, from the client's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    /// Null: it is no longer configured.
    pub service: Option<String>,
    /// Likewise.
    pub backend: Option<String>,
    pub backend_address: SocketAddr,
    /// Where its requests come from for the backend: in `nat` an address and port of ours.
    pub source: SocketAddr,
    pub mode: String,
    pub state: FlowState,
    /// No reply has confirmed it.
    pub half_open: bool,
    /// Since either side was last seen.
    pub idle_ms: u64,
    /// Until it is forgotten, if nobody is seen; null: its service is no longer configured.
    pub expires_in_ms: Option<u64>,
    /// Who sent the first FIN.
    pub closed_first: Closed,
    pub reset_by: Closed,
    /// Its backend was given up since: the client is reset at its next segment.
    pub given_up: bool,
    /// How often another backend was tried because one did not answer.
    pub attempts: u8,
}

/// The state of a connection, by the names of RFC 9293 section 3.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FlowState {
    #[serde(rename = "SYN-SENT")]
    SynSent,
    #[serde(rename = "SYN-RECEIVED")]
    SynReceived,
    #[serde(rename = "ESTABLISHED")]
    Established,
    #[serde(rename = "FIN-WAIT-1")]
    FinWait1,
    #[serde(rename = "FIN-WAIT-2")]
    FinWait2,
    #[serde(rename = "CLOSING")]
    Closing,
    #[serde(rename = "LAST-ACK")]
    LastAck,
    #[serde(rename = "TIME-WAIT")]
    TimeWait,
    #[serde(rename = "CLOSED")]
    Closed,
}

impl FlowState {
    pub const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
        Self::Closed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "CLOSED",
        }
    }
}

impl From<TcpState> for FlowState {
    fn from(state: TcpState) -> Self {
        match state {
            TcpState::SynSent => Self::SynSent,
            TcpState::SynReceived => Self::SynReceived,
            TcpState::Established => Self::Established,
            TcpState::FinWait1 => Self::FinWait1,
            TcpState::FinWait2 => Self::FinWait2,
            TcpState::Closing => Self::Closing,
            TcpState::LastAck => Self::LastAck,
            TcpState::TimeWait => Self::TimeWait,
            TcpState::Closed => Self::Closed,
        }
    }
}

/// In any case, with hyphens or underscores.
impl FromStr for FlowState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.to_ascii_uppercase().replace('_', "-");
        Self::ALL.into_iter().find(|state| state.as_str() == wanted).ok_or_else(|| {
            let names = Self::ALL.map(|state| state.as_str().to_ascii_lowercase());
            format!("{text:?} is no state; write one of {}", names.join(", "))
        })
    }
}

/// One of two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Backend,
}

/// Who closed a flow, or reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    #[default]
    Nobody,
    Client,
    Backend,
}

impl Closed {
    pub const fn by(side: Option<Side>) -> Self {
        match side {
            None => Self::Nobody,
            Some(Side::Client) => Self::Client,
            Some(Side::Backend) => Self::Backend,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

/// Query of `GET /v1/flows` and `GET /v1/flows/count`, and part of a purge's body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// BACKEND or SERVICE/BACKEND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// An address, or a range such as 10.0.0.0/8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A duration such as 90s or 1h30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Body of `POST /v1/flows/purge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
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
    /// Needed where no filter is given.
    #[serde(default)]
    pub all: bool,
    /// Send the clients of established flows a RST.
    #[serde(default)]
    pub reset: bool,
}

impl Purge {
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
}

/// Answer to `GET /v1/flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowList {
    pub flows: Vec<Flow>,
    /// There are more than the limit.
    pub truncated: bool,
}

/// Answer to `GET /v1/flows/count`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCount {
    pub flows: u64,
    /// Of these, those that no reply has confirmed.
    pub half_open: u64,
    /// By state; states without flows are left out.
    pub states: BTreeMap<String, u64>,
    pub backends: Vec<BackendCount>,
}

/// Flows of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendCount {
    /// Null: it is no longer configured.
    pub service: Option<String>,
    pub backend: Option<String>,
    pub address: SocketAddr,
    pub flows: u64,
}

/// Answer to `POST /v1/flows/purge`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Flows that were removed.
    pub removed: u64,
    /// Of these, those whose client was sent a RST.
    pub reset: u64,
    /// There are more that match.
    pub truncated: bool,
}

impl FlowQuery {
    /// # Errors
    /// What is wrong with a value.
    pub fn filter(&self) -> Result<Filter, String> {
        let read = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Filter {
            service: read(&self.service),
            backend: read(&self.backend).map(|text| match text.split_once('/') {
                Some((service, backend)) => (Some(service.to_owned()), backend.to_owned()),
                None => (None, text),
            }),
            client: read(&self.client).map(|text| range(&text)).transpose()?,
            state: read(&self.state).map(|text| text.parse()).transpose()?,
            older_than: read(&self.older_than).map(|text| duration(&text)).transpose()?,
        })
    }
}

/// An address, or a range of addresses.
///
/// # Errors
/// What would be right.
pub fn range(text: &str) -> Result<Cidr, String> {
    let wrong = || format!("{text:?} is no address or range; write one such as 10.0.0.0/8");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = Family::of(&address).bits();
    let length = length.map_or(Ok(bits), |length| length.parse().map_err(|_| wrong()))?;
    if length > bits {
        return Err(wrong());
    }
    Ok(Cidr::containing(address, length))
}

/// A duration as in the configuration.
///
/// # Errors
/// What would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<SignedDuration>().ok().and_then(|it| it.try_into().ok());
    duration.ok_or_else(|| {
        format!("{text:?} is no duration; write a number and a unit, such as 90s or 1h30m")
    })
}
