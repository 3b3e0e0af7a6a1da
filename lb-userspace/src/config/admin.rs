//! The administrative surfaces: the socket, the TCP listener, what is kept of commands. Pure.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// Where the admin socket is when the configuration does not say.
pub const DEFAULT_SOCKET: &str = "/run/fairlead/admin.sock";

/// Other names of the listener.
pub const MAX_ALLOWED_HOSTS: usize = 64;

/// The administrative surfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    pub socket: PathBuf,
    /// TCP listener at an address that is no VIP; none by default. Without it there is nothing of the next three.
    pub listen: Option<SocketAddr>,
    /// What it takes to change something there; `None`: nobody can.
    pub token_file: Option<PathBuf>,
    /// `None`: it speaks in clear.
    pub tls: Option<ServerTls>,
    /// By what it may be called besides its address: names in lower case, and addresses.
    pub allowed_hosts: Vec<String>,
    /// Where overrides are kept; `None`: where `overrides::store` says.
    pub state_file: Option<PathBuf>,
    /// The configuration is read again when its file changes.
    pub watch_config: bool,
}

/// PEM files of a server's certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(DEFAULT_SOCKET),
            listen: None,
            token_file: None,
            tls: None,
            allowed_hosts: Vec::new(),
            state_file: None,
            watch_config: false,
        }
    }
}
