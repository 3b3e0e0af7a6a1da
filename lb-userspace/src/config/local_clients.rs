//! Whether clients on this node itself are led to backends. Pure.

use std::path::PathBuf;

use serde::Serialize;

/// How connections are treated that processes of this node open to a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LocalClients {
    pub enabled: Enabled,
    /// Whose processes: those of this cgroup and of all below it. `None`: all of the machine's.
    pub cgroup: Option<PathBuf>,
    /// Connections to a backend that is lost are ended in other network namespaces too, which takes
    /// CAP_SYS_ADMIN.
    pub end_in_pods: bool,
}

/// Whether they are led to a backend as they connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Enabled {
    /// Where this node is one of the backends.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "true")]
    Always,
    #[serde(rename = "false")]
    Never,
}

impl Enabled {
    /// As the file has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "true",
            Self::Never => "false",
        }
    }
}
