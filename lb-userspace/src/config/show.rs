//! The configuration that applies, as a file that says the same: every default written out. Called for
//! `fairlead config show`. Pure.
//!
//! Everything is taken apart without `..`: a key that is added must be shown.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::file::show as duration;
use super::flow_log::{FlowLog, Output};
use super::notify::{Action, Target};
use super::{
    Admin, Backend, Config, Limits, LocalClients, Mode, NamedBackends, OnAllDown, RESOLVED,
    RateLimit, ServerTls, Service, Sync, Timeouts, XdpMode,
};
use crate::admin::model::Kind;

mod health;
mod vrrp;

/// What stands for something that may be secret.
const HIDDEN: &str = "...";

/// A configuration as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub yaml: String,
    pub json: Value,
    /// Keys whose values are not shown, or not all of them.
    pub hidden: Vec<String>,
}

/// Shows a configuration. But for what is hidden, the YAML is read back as the same configuration.
///
/// # Errors
/// It cannot be written; that would be a defect.
pub fn show(config: &Config) -> Result<Shown, String> {
    let mut hidden = Vec::new();
    let file = file(config, &mut hidden);
    let yaml = serde_saphyr::to_string(&file).map_err(|error| error.to_string())?;
    let json = serde_json::to_value(&file).map_err(|error| error.to_string())?;
    Ok(Shown { yaml, json, hidden })
}

#[derive(Serialize)]
struct File<'a> {
    version: u32,
    interfaces: &'a [String],
    xdp_mode: &'static str,
    replace_xdp: bool,
    limits: LimitsFile,
    services: Vec<ServiceFile<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vrrp: Vec<vrrp::VrrpFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync: Option<SyncFile<'a>>,
    local_clients: LocalClientsFile<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_log: Option<FlowLogFile>,
    notify: Vec<NotifyFile<'a>>,
    admin: AdminFile<'a>,
}

#[derive(Serialize)]
struct LimitsFile {
    flows: u32,
    half_open: u32,
}

#[derive(Serialize)]
struct ServiceFile<'a> {
    name: &'a str,
    vips: &'a [IpAddr],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    standalone: bool,
    port: u16,
    mode: &'static str,
    #[serde(skip_serializing_if = "<[IpAddr]>::is_empty")]
    snat_address: &'a [IpAddr],
    exclusive: bool,
    on_all_down: &'static str,
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimitFile>,
    prefer_local: bool,
    reset_delay: Time,
    drain_timeout: Time,
    timeouts: TimeoutsFile,
    backends: Vec<BackendFile<'a>>,
    health: health::HealthFile<'a>,
}

#[derive(Serialize)]
struct RateLimitFile {
    connections_per_second: u32,
    burst: u32,
}

#[derive(Serialize)]
struct TimeoutsFile {
    established: Time,
    half_open: Time,
    closing: Time,
    half_closed: Time,
    closed: Time,
}

#[derive(Serialize)]
struct BackendFile<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    port: u16,
    weight: u16,
}

#[derive(Serialize)]
struct SyncFile<'a> {
    listen: SocketAddr,
    peers: &'a [SocketAddr],
    key_file: &'a PathBuf,
}

#[derive(Serialize)]
struct LocalClientsFile<'a> {
    enabled: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a PathBuf>,
    end_in_pods: bool,
}

#[derive(Serialize)]
struct FlowLogFile {
    file: String,
    sample: u32,
}

#[derive(Serialize)]
struct NotifyFile<'a> {
    events: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insecure_skip_verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
    timeout: Time,
    queue: u32,
}

#[derive(Serialize)]
struct AdminFile<'a> {
    socket: &'a PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a ServerTls>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allowed_hosts: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    state_file: Option<&'a PathBuf>,
    watch_config: bool,
}

/// A duration with its unit.
struct Time(Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration(self.0))
    }
}

fn file<'a>(config: &'a Config, hidden: &mut Vec<String>) -> File<'a> {
    let Config {
        interfaces,
        xdp_mode,
        replace_xdp,
        limits,
        services,
        vrrp,
        sync,
        local_clients,
        flow_log,
        notify,
        admin,
    } = config;
    let LocalClients { enabled, cgroup, end_in_pods } = local_clients;
    let Limits { flows, half_open } = *limits;
    let Admin { socket, listen, token_file, tls, allowed_hosts, state_file, watch_config } = admin;
    let instances = vrrp.iter().enumerate();
    let vrrp = instances.map(|(index, it)| vrrp::instance(index, it, hidden)).collect();
    let targets = notify.iter().enumerate();
    File {
        version: 1,
        interfaces,
        xdp_mode: match xdp_mode {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        },
        replace_xdp: *replace_xdp,
        limits: LimitsFile { flows, half_open },
        services: services.iter().map(service).collect(),
        vrrp,
        sync: sync.as_ref().map(|Sync { listen, peers, key_file }| SyncFile {
            listen: *listen,
            peers,
            key_file,
        }),
        local_clients: LocalClientsFile {
            enabled: enabled.as_str(),
            cgroup: cgroup.as_ref(),
            end_in_pods: *end_in_pods,
        },
        flow_log: flow_log.as_ref().map(|FlowLog { file, sample }| FlowLogFile {
            file: match file {
                Output::Stdout => "stdout".to_owned(),
                Output::File(path) => path.display().to_string(),
            },
            sample: *sample,
        }),
        notify: targets.map(|(index, it)| target(index, it, hidden)).collect(),
        admin: AdminFile {
            socket,
            listen: *listen,
            token_file: token_file.as_ref(),
            tls: tls.as_ref(),
            allowed_hosts,
            state_file: state_file.as_ref(),
            watch_config: *watch_config,
        },
    }
}

fn service(service: &Service) -> ServiceFile<'_> {
    let Service {
        name,
        vips,
        standalone,
        port,
        mode,
        snat_addresses,
        exclusive,
        allow,
        rate_limit,
        on_all_down,
        prefer_local,
        drain_timeout,
        reset_delay,
        timeouts,
        backends,
        names,
        health,
    } = service;
    let Timeouts { established, half_open, closing, half_closed, closed } = *timeouts;
    ServiceFile {
        name,
        vips,
        standalone: *standalone,
        port: *port,
        mode: Mode::as_str(*mode),
        snat_address: snat_addresses,
        exclusive: *exclusive,
        on_all_down: match on_all_down {
            OnAllDown::FailOpen => "fail_open",
            OnAllDown::Reject => "reject",
        },
        allow: allow.iter().map(ToString::to_string).collect(),
        rate_limit: rate_limit.map(|RateLimit { connections_per_second, burst }| RateLimitFile {
            connections_per_second,
            burst,
        }),
        prefer_local: *prefer_local,
        reset_delay: Time(*reset_delay),
        drain_timeout: Time(*drain_timeout),
        timeouts: TimeoutsFile {
            established: Time(established),
            half_open: Time(half_open),
            closing: Time(closing),
            half_closed: Time(half_closed),
            closed: Time(closed),
        },
        // What was looked up is said by the name that it was looked up by.
        backends: backends
            .iter()
            .filter(|backend| !backend.name.contains(RESOLVED))
            .map(backend)
            .chain(names.iter().map(named))
            .collect(),
        health: health::health(health),
    }
}

fn backend(backend: &Backend) -> BackendFile<'_> {
    let Backend { name, address, port, weight } = backend;
    BackendFile { name, address: Some(*address), host: None, port: *port, weight: *weight }
}

fn named(backends: &NamedBackends) -> BackendFile<'_> {
    let NamedBackends { name, host, port, weight } = backends;
    BackendFile { name, address: None, host: Some(host), port: *port, weight: *weight }
}

fn target<'a>(index: usize, target: &'a Target, hidden: &mut Vec<String>) -> NotifyFile<'a> {
    let Target { events, action, timeout, queue } = target;
    let mut file = NotifyFile {
        events: events.iter().copied().map(Kind::as_str).collect(),
        exec: None,
        webhook: None,
        token_file: None,
        ca_file: None,
        insecure_skip_verify: None,
        retries: None,
        timeout: Time(*timeout),
        queue: *queue,
    };
    match action {
        Action::Exec { exec } => {
            let program = exec.first().map(String::as_str);
            let arguments = exec.get(1).map(|_| HIDDEN);
            if arguments.is_some() {
                hidden.push(format!("notify[{index}].exec: the arguments"));
            }
            file.exec = Some(program.into_iter().chain(arguments).collect());
        }
        Action::Webhook { webhook, token_file, ca_file, retries } => {
            hidden.push(format!("notify[{index}].webhook: what follows the host"));
            file.webhook = Some(webhook.to_string());
            file.token_file = token_file.as_ref();
            file.ca_file = ca_file.as_ref();
            file.insecure_skip_verify = (webhook.is_tls() && ca_file.is_none()).then_some(true);
            file.retries = Some(*retries);
        }
    }
    file
}

#[cfg(test)]
mod tests;
