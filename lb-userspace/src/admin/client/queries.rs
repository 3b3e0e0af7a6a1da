//! What the commands ask of flows and traces. I/O.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::{Client, encode};
use crate::admin::model::EffectiveConfig;
use crate::admin::model::flows::top::TopQuery;
use crate::admin::model::flows::{FlowQuery, Purge, Purged};
use crate::admin::model::packet::{Line, PacketQuery};
use crate::admin::model::trace::TraceQuery;

impl Client {
    /// As the controller says it, keys unknown to this program included.
    pub async fn flows(&self, query: &FlowQuery) -> Result<Value> {
        self.get(&with_query("/v1/flows", query)?).await
    }

    /// Likewise.
    pub async fn flow_count(&self, query: &FlowQuery) -> Result<Value> {
        self.get(&with_query("/v1/flows/count", query)?).await
    }

    /// Likewise.
    pub async fn flow_top(&self, query: &TopQuery) -> Result<Value> {
        self.get(&with_query("/v1/flows/top", query)?).await
    }

    pub async fn purge(&self, purge: &Purge) -> Result<Purged> {
        self.post("/v1/flows/purge", purge).await
    }

    pub async fn config(&self) -> Result<EffectiveConfig> {
        self.get("/v1/config").await
    }

    /// Packets as the datapath meets them. Calls `begun` when they are followed, and `see` for each line,
    /// until that fails or there are no more.
    pub async fn packets(
        &self,
        query: &PacketQuery,
        begun: impl FnOnce(),
        mut see: impl FnMut(&str, Line) -> Result<()>,
    ) -> Result<()> {
        let path = with_query("/v1/packets", query)?;
        self.lines(&path, begun, |line| {
            see(line, serde_json::from_str(line).context("reading a packet")?)
        })
        .await
    }

    /// The same packets as a capture file, piece by piece.
    pub async fn capture(
        &self,
        query: &PacketQuery,
        begun: impl FnOnce(),
        see: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.pieces(&with_query("/v1/capture", query)?, begun, see).await
    }

    /// As the controller says it.
    pub async fn trace(&self, query: &TraceQuery) -> Result<Value> {
        self.get(&with_query("/v1/trace", query)?).await
    }
}

/// The path with every value that is given.
fn with_query(path: &str, query: &impl Serialize) -> Result<String> {
    let values = serde_json::to_value(query)?;
    let values = values.as_object().context("a query is an object")?;
    let mut text = path.to_owned();
    for (index, (key, value)) in values.iter().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let separator = if index == 0 { '?' } else { '&' };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{key}={}", encode(&value));
    }
    Ok(text)
}
