//! What HTTPS probes share: configurations and tokens made of files, and each backend's session. I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderValue;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::Reason;
use super::insecure::AnyCertificate;
use super::session::Session;
use crate::config::{Identity, Probe, Tls, Verify, credentials};
use crate::watched::Watched;

/// The configurations, tokens and sessions of all probes. Cheap to clone; clones share.
#[derive(Clone, Default)]
pub struct TlsCache {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    configs: BTreeMap<Trust, Arc<Watched<Arc<ClientConfig>>>>,
    tokens: BTreeMap<PathBuf, Arc<Watched<HeaderValue>>>,
    sessions: BTreeMap<(SocketAddr, Trust), Arc<Session>>,
}

/// What a configuration is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trust {
    verify: Verify,
    identity: Option<Identity>,
}

impl Trust {
    fn of(tls: &Tls) -> Self {
        Self { verify: tls.verify.clone(), identity: tls.identity.clone() }
    }
}

impl TlsCache {
    /// The session with `endpoint` that verifies and shows what `tls` says.
    pub(super) async fn session(
        &self,
        endpoint: SocketAddr,
        tls: &Tls,
    ) -> Result<(Arc<Session>, Arc<ClientConfig>), Reason> {
        let trust = Trust::of(tls);
        let (watched, session) = {
            let mut shared = self.lock();
            let watched = shared.configs.entry(trust.clone()).or_insert_with(|| config_of(&trust));
            let watched = Arc::clone(watched);
            let session = shared.sessions.entry((endpoint, trust)).or_default();
            (watched, Arc::clone(session))
        };
        let config = session.config(watched.get().await.map_err(local)?);
        Ok((session, config))
    }

    /// `Authorization` with the token of `tls`, if it has one.
    pub(super) async fn authorization(&self, tls: &Tls) -> Result<Option<HeaderValue>, Reason> {
        let Some(path) = &tls.token_file else { return Ok(None) };
        let watched = {
            let mut shared = self.lock();
            let new = || Arc::new(Watched::new(vec![path.clone()], authorization));
            Arc::clone(shared.tokens.entry(path.clone()).or_insert_with(new))
        };
        watched.get().await.map(Some).map_err(local)
    }

    /// Forgets what none of `probes` uses.
    pub(crate) fn retain<'a>(&self, probes: impl Iterator<Item = (SocketAddr, &'a Probe)>) {
        let mut used = Shared::default();
        let mut shared = self.lock();
        for (endpoint, probe) in probes {
            let tls = match probe {
                Probe::Https { tls, .. } => tls,
                Probe::Http { .. } | Probe::Tcp => continue,
            };
            let trust = Trust::of(tls);
            if let Some(session) = shared.sessions.remove(&(endpoint, trust.clone())) {
                used.sessions.insert((endpoint, trust.clone()), session);
            }
            if let Some(config) = shared.configs.remove(&trust) {
                used.configs.insert(trust, config);
            }
            if let Some(path) = &tls.token_file
                && let Some(token) = shared.tokens.remove(path)
            {
                used.tokens.insert(path.clone(), token);
            }
        }
        *shared = used;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing leaves the maps half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that cannot be used is no fault of the backend's.
fn local(error: String) -> Reason {
    Reason::Local(Reason::bounded(error))
}

fn authorization(contents: &[Vec<u8>]) -> Result<HeaderValue, String> {
    let token = contents.first().map_or(&[][..], Vec::as_slice);
    let token = credentials::token(token).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| credentials::CredentialError::Token.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

fn config_of(trust: &Trust) -> Arc<Watched<Arc<ClientConfig>>> {
    let mut files = Vec::new();
    if let Verify::Ca(path) = &trust.verify {
        files.push(path.clone());
    }
    if let Some(Identity { cert_file, key_file }) = &trust.identity {
        files.extend([cert_file.clone(), key_file.clone()]);
    }
    let (verifies, identifies) = (!matches!(trust.verify, Verify::Skip), trust.identity.is_some());
    Arc::new(Watched::new(files, move |contents| {
        let (ca, identity) = contents.split_at(usize::from(verifies));
        config(ca.first(), identity.first_chunk().filter(|_| identifies))
    }))
}

fn config(
    ca: Option<&Vec<u8>>,
    identity: Option<&[Vec<u8>; 2]>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = builder().map_err(|error| error.to_string())?;
    let builder = match ca {
        Some(pem) => builder.with_root_certificates(roots(pem)?),
        None => {
            let verifier = AnyCertificate(Arc::clone(builder.crypto_provider()));
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match identity {
        Some([cert, key]) => {
            let pair = credentials::certificates(cert)
                .and_then(|cert| credentials::pair(cert, credentials::key(key)?))
                .map_err(|error| error.to_string())?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
        None => builder.with_no_client_auth(),
    };
    // Backends that share a name share no tickets: each gets a store of its own.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not PEM: {error}"))?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err("no usable certificate in it".to_owned());
    }
    if ignored > 0 {
        log::warn!("{ignored} certificates of a CA file are not usable");
    }
    Ok(roots)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}
