//! Health checks, as a file says them. Pure.

use std::path::PathBuf;

use serde::Serialize;

use super::super::{Fall, HealthCheck, Identity, Pace, Probe, Request, Statuses, Tls, Verify};
use super::Time;

#[derive(Serialize)]
pub(super) struct HealthFile<'a> {
    #[serde(flatten)]
    probe: ProbeFile<'a>,
    connect_timeout: Time,
    timeout: Time,
    interval: Time,
    fast_interval: Time,
    down_interval: Time,
    rise: u32,
    fall: Fall,
    damping: Time,
    slow_start: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    shutdown_delay: Option<Time>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ProbeFile<'a> {
    Tcp,
    Http {
        #[serde(flatten)]
        request: RequestFile<'a>,
    },
    Https {
        #[serde(flatten)]
        request: RequestFile<'a>,
        #[serde(flatten)]
        tls: TlsFile<'a>,
    },
}

#[derive(Serialize)]
struct RequestFile<'a> {
    path: &'a str,
    /// Null is not the default.
    degraded_path: Option<&'a String>,
    live_path: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a String>,
    expect_status: &'a Statuses,
}

#[derive(Serialize)]
struct TlsFile<'a> {
    server_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insecure_skip_verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cert_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a PathBuf>,
}

pub(super) fn health(check: &HealthCheck) -> HealthFile<'_> {
    let HealthCheck { probe, connect_timeout, timeout, pace } = check;
    let Pace {
        interval,
        fast_interval,
        down_interval,
        rise,
        fall,
        damping,
        slow_start,
        shutdown_delay,
    } = *pace;
    HealthFile {
        probe: match probe {
            Probe::Tcp => ProbeFile::Tcp,
            Probe::Http { request } => ProbeFile::Http { request: self::request(request) },
            Probe::Https { request, tls } => {
                ProbeFile::Https { request: self::request(request), tls: self::tls(tls) }
            }
        },
        connect_timeout: Time(*connect_timeout),
        timeout: Time(*timeout),
        interval: Time(interval),
        fast_interval: Time(fast_interval),
        down_interval: Time(down_interval),
        rise,
        fall,
        damping: Time(damping),
        slow_start: Time(slow_start),
        shutdown_delay: shutdown_delay.map(Time),
    }
}

fn request(request: &Request) -> RequestFile<'_> {
    let Request { path, degraded_path, live_path, host, expect_status } = request;
    RequestFile {
        path,
        degraded_path: degraded_path.as_ref(),
        live_path: live_path.as_ref(),
        host: host.as_ref(),
        expect_status,
    }
}

fn tls(tls: &Tls) -> TlsFile<'_> {
    let Tls { server_name, verify, identity, token_file } = tls;
    let (ca_file, insecure_skip_verify) = match verify {
        Verify::Ca(file) => (Some(file), None),
        Verify::Skip => (None, Some(true)),
    };
    let identity = identity.as_ref().map(|Identity { cert_file, key_file }| (cert_file, key_file));
    let (client_cert_file, client_key_file) = identity.unzip();
    TlsFile {
        server_name,
        ca_file,
        insecure_skip_verify,
        client_cert_file,
        client_key_file,
        token_file: token_file.as_ref(),
    }
}
