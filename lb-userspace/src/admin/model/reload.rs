//! Reading the configuration again: what is asked, and what is answered. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/reload`; may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer to a successful `POST /v1/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// In words, one for each of `diff`; of very many the first.
    pub changes: Vec<String>,
    #[serde(default)]
    pub diff: Vec<Change>,
    /// False: it was a dry run.
    #[serde(default)]
    pub applied: bool,
    /// Of a dry run: why the real one would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// One key of the configuration that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Such as `services[api].backends[cp1].weight`.
    pub key: String,
    /// Absent: it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Absent: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{key}: {from} -> {to}"),
            (None, Some(to)) => write!(f, "{key}: added: {to}"),
            (Some(from), None) => write!(f, "{key}: removed: {from}"),
            (None, None) => write!(f, "{key}: changed"),
        }
    }
}
