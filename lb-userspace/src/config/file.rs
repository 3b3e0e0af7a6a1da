//! The configuration file: what YAML may say, and its translation into a `Config`. `load` calls it
//! with the file's text. Pure.
//!
//! Scalars are taken as text and judged by `scalar`, so that one run finds every wrong value and
//! says what would be right; only YAML's own syntax and unknown keys end it at once.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::Config;
use super::error::ConfigError;

mod access;
mod admin;
mod backend;
mod clash;
mod family;
mod flow_log;
mod health;
mod local_clients;
mod notify;
mod pace;
mod probe;
mod reader;
mod scalar;
mod service;
mod sync;
mod syntax;
mod translate;
mod vrrp;

pub(super) use scalar::show;

#[cfg(test)]
mod tests;

pub(super) use scalar::show as show_duration;
pub(super) use vrrp::password_of;

/// Reads a configuration; `name` is what its errors call the file.
pub fn parse(text: &str, name: &Path) -> Result<Config, ConfigError> {
    parse_with_references(text, name).map(|(config, _)| config)
}

/// The same, with the files that the configuration refers to, for `load` to look at.
pub(super) fn parse_with_references(
    text: &str,
    name: &Path,
) -> Result<(Config, Vec<Reference>), ConfigError> {
    let document = syntax::read(text, name)?;
    translate::translate(&document, name)
}

/// A file that the configuration names, and where it does.
pub(super) struct Reference {
    pub(super) path: PathBuf,
    pub(super) spot: Spot,
    pub(super) content: Content,
}

/// What a file that the configuration names must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Ca,
    ClientCertificate,
    /// The key of the certificate in that file.
    ClientKey(PathBuf),
    Token,
    /// Whoever knows it can change what traffic does.
    AdminToken,
    /// Of the VRRP instance with this index.
    Password(usize),
    /// Of `sync`: whoever knows them can send flows.
    SyncKeys,
    /// To be run.
    Program,
}

/// Where in the file a value is, and its full key.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) key: String,
    pub(super) at: Location,
}

/// A scalar, or nothing when the key is absent or null.
type Field = Option<Spanned<String>>;

/// The same where null says something else than an absent key, which is the outer `None`.
type Nullable = Option<Field>;

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Nullable, D::Error> {
    Field::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Field,
    interfaces: Option<Spanned<Vec<Spanned<String>>>>,
    xdp_mode: Field,
    replace_xdp: Field,
    limits: Option<Spanned<LimitsFile>>,
    services: Option<Spanned<Vec<Spanned<ServiceFile>>>>,
    vrrp: Option<Spanned<Vec<Spanned<vrrp::VrrpFile>>>>,
    sync: Option<Spanned<sync::SyncFile>>,
    local_clients: Option<Spanned<local_clients::LocalClientsFile>>,
    flow_log: Option<Spanned<flow_log::FlowLogFile>>,
    notify: Option<Spanned<Vec<Spanned<NotifyFile>>>>,
    admin: Option<Spanned<admin::AdminFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    flows: Field,
    half_open: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotifyFile {
    events: Option<Spanned<Vec<Spanned<String>>>>,
    exec: Option<Spanned<Vec<Spanned<String>>>>,
    webhook: Field,
    token_file: Field,
    ca_file: Field,
    insecure_skip_verify: Field,
    timeout: Field,
    retries: Field,
    queue: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceFile {
    name: Field,
    vips: Option<Spanned<Vec<Spanned<String>>>>,
    standalone: Field,
    port: Field,
    mode: Field,
    snat_address: Option<Spanned<OneOrMany>>,
    on_all_down: Field,
    exclusive: Field,
    allow: Option<Spanned<Vec<Spanned<String>>>>,
    rate_limit: Option<Spanned<RateLimitFile>>,
    prefer_local: Field,
    reset_delay: Field,
    drain_timeout: Field,
    timeouts: Option<Spanned<TimeoutsFile>>,
    backends: Option<Spanned<Vec<Spanned<BackendFile>>>>,
    health: Option<Spanned<HealthFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsFile {
    established: Field,
    half_open: Field,
    closing: Field,
    half_closed: Field,
    closed: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitFile {
    connections_per_second: Field,
    burst: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendFile {
    name: Field,
    address: Field,
    host: Field,
    port: Field,
    weight: Field,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthFile {
    #[serde(rename = "type")]
    kind: Field,
    path: Field,
    #[serde(default, deserialize_with = "nullable")]
    degraded_path: Nullable,
    #[serde(default, deserialize_with = "nullable")]
    live_path: Nullable,
    host: Field,
    expect_status: Option<Spanned<OneOrMany>>,
    ca_file: Field,
    insecure_skip_verify: Field,
    server_name: Field,
    client_cert_file: Field,
    client_key_file: Field,
    token_file: Field,
    interval: Field,
    fast_interval: Field,
    down_interval: Field,
    connect_timeout: Field,
    timeout: Field,
    rise: Field,
    fall: Option<Spanned<pace::FallFile>>,
    damping: Field,
    slow_start: Field,
    shutdown_delay: Field,
}

/// Not `#[serde(untagged)]`, which would lose the locations.
enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one value or a list of them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            // What is no address is refused with the others, and at its own place.
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(number.to_string()))
            }

            fn visit_bool<E>(self, word: bool) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(word.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = seq.next_element()? {
                    many.push(one);
                }
                Ok(OneOrMany::Many(many))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
