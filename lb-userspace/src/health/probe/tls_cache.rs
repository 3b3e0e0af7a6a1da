//! TLS configurations by CA file, read again when the file changes. I/O.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::Reason;
use super::insecure::AnyCertificate;
use crate::config::Verify;

/// A bundle of CAs is a few kilobytes.
const MAX_CA_FILE: u64 = 1024 * 1024;

/// The configurations of all probes. Cheap to clone; clones share.
#[derive(Clone, Default)]
pub struct TlsCache {
    files: Arc<Mutex<BTreeMap<PathBuf, Slot>>>,
}

/// Held while the file is read: if its disk hangs, one thread hangs with it and the others wait here,
/// where their timeout reaches them.
type Slot = Arc<tokio::sync::Mutex<Option<Loaded>>>;

struct Loaded {
    version: Version,
    config: Arc<ClientConfig>,
    /// The file could not be read since; said once.
    stale: bool,
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: (i64, i64),
    inode: u64,
    len: u64,
}

impl TlsCache {
    /// The configuration that verifies as `verify` says.
    pub(super) async fn config(&self, verify: &Verify) -> Result<Arc<ClientConfig>, Reason> {
        let path = match verify {
            Verify::Ca(path) => path.clone(),
            Verify::Skip => return insecure(),
        };
        let slot = Arc::clone(self.lock().entry(path.clone()).or_default());
        let mut slot = slot.lock_owned().await;
        tokio::task::spawn_blocking(move || load(&path, &mut slot))
            .await
            .map_err(|error| Reason::Local(Reason::bounded(error)))?
    }

    /// Forgets the files that `keep` does not want.
    pub(crate) fn retain(&self, keep: impl Fn(&Path) -> bool) {
        self.lock().retain(|path, _| keep(path));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Slot>> {
        // Nothing leaves the map half changed.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path, slot: &mut Option<Loaded>) -> Result<Arc<ClientConfig>, Reason> {
    let found = version(path);
    if let (Ok(version), Some(known)) = (&found, slot.as_mut())
        && known.version == *version
    {
        known.stale = false;
        return Ok(Arc::clone(&known.config));
    }
    match (found.and_then(|version| read(path, version)), slot) {
        (Ok(newer), slot) => Ok(Arc::clone(&slot.insert(newer).config)),
        // Half-way through a rotation; the last CAs are better than none.
        (Err(error), Some(known)) => {
            if !mem::replace(&mut known.stale, true) {
                log::warn!("{}: {error}; using the CAs read before", path.display());
            }
            Ok(Arc::clone(&known.config))
        }
        (Err(error), None) => {
            Err(Reason::Local(Reason::bounded(format_args!("{}: {error}", path.display()))))
        }
    }
}

fn version(path: &Path) -> io::Result<Version> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok(Version {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        inode: metadata.ino(),
        len: metadata.len(),
    })
}

fn read(path: &Path, version: Version) -> io::Result<Loaded> {
    let mut pem = Vec::new();
    fs::File::open(path)?.take(MAX_CA_FILE).read_to_end(&mut pem)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| io::Error::other(format!("not PEM: {error}")))?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(io::Error::other("no usable certificate in it"));
    }
    if ignored > 0 {
        log::warn!("{}: {ignored} certificates are not usable", path.display());
    }
    let config = builder().map_err(io::Error::other)?.with_root_certificates(roots);
    Ok(Loaded { version, config: finish(config.with_no_client_auth()), stale: false })
}

fn insecure() -> Result<Arc<ClientConfig>, Reason> {
    let builder = builder().map_err(|error| Reason::Local(Reason::bounded(error)))?;
    let verifier = AnyCertificate(Arc::clone(builder.crypto_provider()));
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(finish(config.with_no_client_auth()))
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    // A resumed session shows no certificate, and backends that share a name share no tickets.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
