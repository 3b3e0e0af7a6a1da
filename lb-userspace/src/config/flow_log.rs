//! Where connections are logged, and which. Pure.

use std::path::PathBuf;

use serde::Serialize;

/// The flow log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowLog {
    pub file: Output,
    /// Of so many connections one is logged, chosen by its addresses and ports; 1: all of them.
    pub sample: u32,
}

/// Where its lines go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    Stdout,
    #[serde(untagged)]
    File(PathBuf),
}

impl FlowLog {
    /// The file, if it is one.
    pub const fn path(&self) -> Option<&PathBuf> {
        match &self.file {
            Output::Stdout => None,
            Output::File(path) => Some(path),
        }
    }
}
