//! Looks names up as this machine does: `/etc/hosts`, then the servers of `/etc/resolv.conf`, both read
//! again when they change. I/O.
//!
//! [`hickory_resolver`] does the asking, so that TTLs are known and the socket can be bound to an
//! address that is no VIP; the C library offers neither.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Failure, Question};
use crate::config::Family;

/// For one lookup, whatever `resolv.conf` says: servers, attempts and search domains included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// For one server, if `resolv.conf` says more.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the addresses that servers are asked from come from; `None`: the kernel chooses.
pub type Sources = BTreeMap<IpAddr, IpAddr>;

/// What a lookup brought: the addresses, and how long they are valid.
pub type Found = Result<(Vec<IpAddr>, Duration), Failure>;

/// The machine's way of looking names up. Cheap to clone; clones share.
#[derive(Clone)]
pub struct System {
    shared: Arc<Shared>,
}

struct Shared {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// Of every server; another than 53 is for tests.
    port: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sources: Sources,
    built: Option<Built>,
}

struct Built {
    versions: [Version; 2],
    sources: Sources,
    servers: Vec<IpAddr>,
    resolver: TokioResolver,
}

/// Tells one content of a file from another without reading it; of no file it is none.
type Version = Option<(i64, i64, u64, u64)>;

impl Default for System {
    fn default() -> Self {
        Self::new(PathBuf::from("/etc/resolv.conf"), PathBuf::from("/etc/hosts"), 53)
    }
}

impl System {
    pub(super) fn new(resolv_conf: PathBuf, hosts: PathBuf, port: u16) -> Self {
        Self { shared: Arc::new(Shared { resolv_conf, hosts, port, state: Mutex::default() }) }
    }

    /// The servers that are asked, which need a source.
    pub fn servers(&self) -> Vec<IpAddr> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &state.built {
            return built.servers.clone();
        }
        drop(state);
        servers(&self.shared.read_resolv_conf())
    }

    /// Asks from `sources` from here on.
    pub fn set_sources(&self, sources: Sources) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).sources = sources;
    }

    /// Looks a name up.
    pub async fn lookup(&self, question: &Question) -> Found {
        let shared = Arc::clone(&self.shared);
        let resolver = spawn_blocking(move || shared.resolver())
            .await
            .map_err(|error| Failure::Local(error.to_string()))?
            .map_err(|error| Failure::Local(error.to_string()))?;
        let wanted = match question.family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let lookup = timeout(LOOKUP_TIMEOUT, resolver.lookup(question.host.as_str(), wanted));
        let lookup = lookup.await.map_err(|_| Failure::Timeout)?.map_err(|error| fault(&error))?;
        let records = lookup.answers();
        let addresses = records.iter().filter_map(|record| address(&record.data)).collect();
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        Ok((addresses, Duration::from_secs(ttl.into())))
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other records, such as the CNAME on the way"
)]
fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crate's enums; most of it is its own trouble"
)]
fn fault(error: &NetError) -> Failure {
    match error {
        error if error.is_nx_domain() => Failure::NoSuchName,
        error if error.is_no_records_found() => Failure::NoAddress,
        NetError::Timeout => Failure::Timeout,
        NetError::Io(error) => Failure::Local(error.to_string()),
        NetError::Dns(DnsError::ResponseCode(code)) => Failure::Server(code.to_string()),
        error => Failure::Server(error.to_string().chars().take(120).collect()),
    }
}

impl Shared {
    /// The resolver that fits the files and the sources as they are now.
    fn resolver(&self) -> io::Result<TokioResolver> {
        let versions = [version(&self.resolv_conf), version(&self.hosts)];
        let sources = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(built) = &state.built
                && built.versions == versions
                && built.sources == state.sources
            {
                return Ok(built.resolver.clone());
            }
            state.sources.clone()
        };
        let read = self.read_resolv_conf();
        let servers = servers(&read);
        let config = self.config(&read, &sources);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        set_options(builder.options_mut(), &read);
        let mut resolver = builder.build().map_err(io::Error::other)?;
        resolver.set_hosts(Arc::new(self.read_hosts()));
        let built = Built { versions, sources, servers, resolver: resolver.clone() };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).built = Some(built);
        Ok(resolver)
    }

    /// What cannot be read counts as absent; without a server it is that of this machine (resolv.conf(5)).
    fn read_resolv_conf(&self) -> resolv_conf::Config {
        let text = fs::read(&self.resolv_conf).unwrap_or_default();
        let (config, errors) = resolv_conf::Config::parse_with_errors(&text);
        for error in errors {
            log::warn!("{}: {error}", self.resolv_conf.display());
        }
        config
    }

    fn config(&self, read: &resolv_conf::Config, sources: &Sources) -> ResolverConfig {
        let domains = read.get_last_search_or_domain();
        let search = domains.filter_map(|domain| Name::from_str_relaxed(domain).ok()).collect();
        let servers = servers(read).into_iter().map(|ip| {
            let mut server = NameServerConfig::udp_and_tcp(ip);
            for connection in &mut server.connections {
                connection.port = self.port;
                connection.bind_addr = sources.get(&ip).map(|source| SocketAddr::new(*source, 0));
            }
            server
        });
        ResolverConfig::from_parts(None, search, servers.collect())
    }

    /// Nothing, if there is no such file.
    fn read_hosts(&self) -> Hosts {
        let mut hosts = Hosts::default();
        if let Ok(file) = fs::File::open(&self.hosts)
            && let Err(error) = hosts.read_hosts_conf(file)
        {
            log::warn!("{}: {error}", self.hosts.display());
        }
        hosts
    }
}

fn servers(read: &resolv_conf::Config) -> Vec<IpAddr> {
    read.get_nameservers_or_local().iter().map(IpAddr::from).collect()
}

fn set_options(options: &mut ResolverOpts, read: &resolv_conf::Config) {
    options.ndots = read.ndots as usize;
    options.timeout = Duration::from_secs(read.timeout.into()).min(SERVER_TIMEOUT);
    options.attempts = read.attempts as usize;
    options.edns0 = read.edns0;
    // Answers are kept by the machine, which asks again when half of their time is over.
    options.cache_size = 0;
    // Set by us, so that it is read again.
    options.use_hosts_file = ResolveHosts::Never;
}

fn version(path: &Path) -> Version {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.ino(), metadata.len()))
}

#[cfg(test)]
pub(super) mod tests;
