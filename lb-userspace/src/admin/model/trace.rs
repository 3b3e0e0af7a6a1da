//! Where a client's connection would go, and why: `GET /v1/trace`. Pure.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::flows::Flow;
use super::packet::end;

/// Answer to `GET /v1/trace`: one for each service that is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    pub traces: Vec<Trace>,
}

/// What a SYN of the client would meet, at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    pub client: IpAddr,
    /// Null: any; then there is no single backend.
    pub client_port: Option<u16>,
    pub vip: SocketAddr,
    pub service: Option<String>,
    pub verdict: Verdict,
    /// The datapath's counter of this verdict.
    pub counter: String,
    pub backend: Option<String>,
    pub backend_address: Option<SocketAddr>,
    /// Where the backend would see the connection come from.
    pub source: Option<SocketAddr>,
    pub mode: Option<String>,
    /// The flow that is there already.
    pub flow: Option<Flow>,
    /// Without the client's port: how the table divides the connections.
    pub shares: Vec<Share>,
    /// Every decision, in the datapath's order.
    pub steps: Vec<Step>,
}

/// What becomes of the SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes to a backend.
    Forward,
    /// It is answered with RST.
    Reset,
    Drop,
    /// It is not balanced: the node's own kernel gets it.
    Pass,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reset => "reset",
            Self::Drop => "drop",
            Self::Pass => "pass",
        }
    }
}

/// A backend's part of a service's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub backend: String,
    pub slots: u32,
    pub of: u32,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was looked at: `flow`, `service`, `lease` …
    pub step: String,
    /// The connection may go on from here.
    pub passed: bool,
    pub detail: String,
}

/// Query of `GET /v1/trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceQuery {
    /// An address, with or without a port.
    pub client: String,
    /// Likewise; without it, every service of the client's family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// The VIP's, if that is given without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The same, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub client: IpAddr,
    pub client_port: Option<u16>,
    pub vip: Option<IpAddr>,
    /// The service's.
    pub port: Option<u16>,
}

impl TraceQuery {
    /// # Errors
    /// What is wrong with a value.
    pub fn question(&self) -> Result<Question, String> {
        let (client, client_port) = end("client", &self.client)?;
        let vip = self.vip.as_deref().map(|vip| end("vip", vip)).transpose()?;
        let port = match (vip.and_then(|(_, port)| port), self.port) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!("vip has port {one}, but port is {other}"));
            }
            (one, other) => one.or(other),
        };
        if client_port == Some(0) || port == Some(0) {
            return Err("a port is from 1 to 65535".to_owned());
        }
        Ok(Question { client, client_port, vip: vip.map(|(address, _)| address), port })
    }
}
