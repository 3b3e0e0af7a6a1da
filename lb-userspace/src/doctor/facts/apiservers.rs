//! What the apiservers answer from here: the probe as it is configured, and besides the certificate and the time
//! of day. I/O.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use tokio::time::timeout;

use super::{Controller, Looked};
use crate::config::{Config, HealthCheck, Probe, RESOLVED, Tls, Verify, credentials};
use crate::health::Finding;
use crate::health::probe::{TlsCache, probe};
use crate::netlink::Snapshot;

mod certificate;
mod conversation;

pub use certificate::Certificate;

/// For everything that one backend is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// For all of them.
const ALL: Duration = Duration::from_secs(5);
/// Asked at once, and at all.
const AT_ONCE: usize = 64;
const MOST: usize = 1024;
const MOST_FILE: u64 = 1 << 20;

/// A backend, and how it is probed.
#[derive(Clone, Debug)]
pub struct Target {
    pub service: String,
    pub backend: String,
    pub endpoint: SocketAddr,
    pub check: HealthCheck,
    pub source: Option<IpAddr>,
}

/// What one answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apiserver {
    pub service: String,
    pub backend: String,
    pub endpoint: SocketAddr,
    /// As the controller's probes see it.
    pub found: Finding,
    /// The certificate that it shows; `None`: it is not asked by TLS, or there was none.
    pub certificate: Option<Looked<Certificate>>,
    /// How much its clock is ahead of this machine's.
    pub ahead_ms: Option<i64>,
}

/// The certificates of a file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    pub path: PathBuf,
    /// `load` has seen that the file can be used.
    pub certificates: Looked<Vec<Certificate>>,
}

/// Everything about apiservers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apiservers {
    pub answers: Vec<Apiserver>,
    /// Backends that there was no time or room for.
    pub left_out: usize,
    pub files: Vec<CertificateFile>,
    /// When this was.
    pub now: Timestamp,
}

/// The configuration's backends, and those that the controller has looked up.
pub(super) fn targets(
    config: &Config,
    controller: &Controller,
    snapshot: &Snapshot,
) -> Vec<Target> {
    let vips: BTreeSet<IpAddr> = config.vips();
    let status = controller.running().map(|running| &running.status);
    let mut targets = Vec::new();
    for service in &config.services {
        let of = |name: &str, endpoint: SocketAddr| Target {
            service: service.name.clone(),
            backend: name.to_owned(),
            endpoint,
            check: service.health.clone(),
            source: snapshot.source_for(endpoint.ip(), &vips),
        };
        targets.extend(service.backends.iter().map(|it| of(&it.name, it.endpoint())));
        let known = status.into_iter().flat_map(|status| &status.services);
        let known = known.filter(|it| it.name == service.name).flat_map(|it| &it.backends);
        let resolved = known.filter(|it| it.name.contains(RESOLVED));
        targets.extend(resolved.map(|it| of(&it.name, it.address)));
    }
    targets
}

/// Asks all of them, within a bounded time.
pub(super) async fn ask(config: &Config, targets: &[Target]) -> Apiservers {
    let tls = TlsCache::default();
    let mut answers = Vec::new();
    let asking = stream::iter(targets.iter().take(MOST))
        .map(|target| one(target, &tls))
        .buffer_unordered(AT_ONCE);
    let collecting = async {
        let mut asking = std::pin::pin!(asking);
        while let Some(answer) = asking.next().await {
            answers.push(answer);
        }
    };
    // Those that have answered by then count.
    let _ = timeout(ALL, collecting).await;
    answers.sort_by(|a, b| (&a.service, &a.backend).cmp(&(&b.service, &b.backend)));
    let left_out = targets.len() - answers.len();
    Apiservers { answers, left_out, files: files(config), now: now() }
}

async fn one(target: &Target, tls: &TlsCache) -> Apiserver {
    let Target { service, backend, endpoint, check, source } = target;
    let check = HealthCheck {
        connect_timeout: check.connect_timeout.min(PATIENCE),
        timeout: check.timeout.min(PATIENCE),
        ..check.clone()
    };
    let (found, told) = tokio::join!(
        probe(*endpoint, &check, *source, tls),
        timeout(PATIENCE, conversation::hold(target))
    );
    let told = told.unwrap_or_default();
    Apiserver {
        service: service.clone(),
        backend: backend.clone(),
        endpoint: *endpoint,
        found,
        certificate: told.certificate.map(|der| Certificate::read(&der)),
        ahead_ms: told.ahead_ms,
    }
}

/// Each once, whichever services name it.
fn files(config: &Config) -> Vec<CertificateFile> {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    for service in &config.services {
        let Probe::Https { tls: Tls { verify, identity, .. }, .. } = &service.health.probe else {
            continue;
        };
        if let Verify::Ca(path) = verify {
            paths.insert(path.clone());
        }
        paths.extend(identity.as_ref().map(|identity| identity.cert_file.clone()));
    }
    let file = |path: PathBuf| CertificateFile { certificates: certificates(&path), path };
    paths.into_iter().map(file).collect()
}

fn certificates(path: &std::path::Path) -> Looked<Vec<Certificate>> {
    use std::io::Read as _;
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST_FILE).read_to_end(&mut pem).map_err(|error| error.to_string())?;
    let found = credentials::certificates(&pem).map_err(|error| error.to_string())?;
    found.iter().map(|der| Certificate::read(der)).collect()
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the clock on the wall")]
fn now() -> Timestamp {
    SystemTime::now().try_into().unwrap_or(Timestamp::MAX)
}
