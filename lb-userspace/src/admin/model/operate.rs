//! What operators ask and say, and the answers that are no status. Pure.

use serde::{Deserialize, Serialize};

use super::Admin;

/// Who answers: `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    pub pid: u32,
}

/// Answer to `GET /v1/access`, which only those get who may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub changes: bool,
}

/// Body of `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Leave the datapath pinned for a successor.
    #[serde(default)]
    pub handover: bool,
}

/// Body of `POST /v1/drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Take part again, in place of giving the VIPs up.
    #[serde(default)]
    pub resume: bool,
}

/// Body of `POST /v1/services/{service}/backends/{backend}`: at least one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Go back to the configured weight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset_weight: bool,
}

/// Answer to `GET /v1/config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectiveConfig {
    pub path: String,
    /// When it was last read successfully.
    pub loaded: String,
    /// A file that says the same, every default written out.
    pub yaml: String,
    /// The same as JSON.
    pub config: serde_json::Value,
    /// Keys whose values may be secret, and are replaced.
    pub hidden: Vec<String>,
}

/// Answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChanged {
    #[serde(flatten)]
    pub change: BackendChange,
    /// Why it will be forgotten at the next start; absent: it will not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// Every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
}
