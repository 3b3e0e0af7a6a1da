//! TLS of the listener, made of files that are read again when they change. I/O.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::sign::SingleCertAndKey;

use crate::config::{ServerTls, credentials};
use crate::watched::Watched;

/// What a handshake needs.
pub(super) type Tls = Arc<Watched<Arc<ServerConfig>>>;

pub(super) fn watch(files: &ServerTls) -> Tls {
    let ServerTls { cert_file, key_file } = files;
    Arc::new(Watched::new(vec![cert_file.clone(), key_file.clone()], |contents| {
        let [cert, key] = contents else { return Err("two files are needed".to_owned()) };
        config(cert, key)
    }))
}

fn config(cert: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let pair = credentials::certificates(cert)
        .and_then(|cert| credentials::pair(cert, credentials::key(key)?))
        .map_err(|error| error.to_string())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
