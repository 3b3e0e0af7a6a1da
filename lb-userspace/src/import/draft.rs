//! The configuration between translation and writing: values with the comments that explain them.
//! Pure.

use std::net::IpAddr;
use std::time::Duration;

/// A value, and what an operator should read above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted<T> {
    pub(crate) value: T,
    pub(crate) notes: Vec<String>,
}

impl<T> Noted<T> {
    pub(crate) const fn plain(value: T) -> Self {
        Self { value, notes: Vec::new() }
    }

    pub(crate) fn new(value: T, note: String) -> Self {
        Self { value, notes: vec![note] }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) interfaces: Noted<Vec<String>>,
    /// Of `limits`.
    pub(crate) flows: Option<Noted<u32>>,
    pub(crate) services: Noted<Vec<ServiceDraft>>,
    pub(crate) vrrp: Vec<InstanceDraft>,
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceDraft {
    pub(crate) notes: Vec<String>,
    pub(crate) name: String,
    pub(crate) vips: Noted<Vec<IpAddr>>,
    pub(crate) standalone: Option<Noted<bool>>,
    pub(crate) port: Noted<u16>,
    pub(crate) mode: Option<Noted<&'static str>>,
    pub(crate) snat: Option<Noted<IpAddr>>,
    pub(crate) established: Option<Noted<Duration>>,
    /// Why no idle timeout is written, if there was one.
    pub(crate) idle: Vec<String>,
    pub(crate) backends: Noted<Vec<BackendDraft>>,
    pub(crate) health: HealthDraft,
}

#[derive(Clone, Debug)]
pub(crate) struct BackendDraft {
    pub(crate) name: String,
    pub(crate) target: Target,
    /// `None`: the service's.
    pub(crate) port: Option<u16>,
    pub(crate) weight: Option<u32>,
    /// Why it is written as a comment only.
    pub(crate) left_out: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Ip(IpAddr),
    Host(String),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct HealthDraft {
    pub(crate) probe: Noted<ProbeDraft>,
    /// The Host header.
    pub(crate) host: Option<String>,
    /// Statuses and ranges of them that are well; empty: the default.
    pub(crate) expect_status: Noted<Vec<String>>,
    pub(crate) interval: Option<Noted<Duration>>,
    pub(crate) fast_interval: Option<Noted<Duration>>,
    pub(crate) down_interval: Option<Noted<Duration>>,
    pub(crate) slow_start: Option<Noted<Duration>>,
    pub(crate) timeout: Option<Noted<Duration>>,
    pub(crate) rise: Option<Noted<u32>>,
    pub(crate) fall: Option<Noted<u32>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProbeDraft {
    #[default]
    Tcp,
    Http {
        path: String,
    },
    Https {
        path: String,
        /// `None`: any certificate.
        ca_file: Option<String>,
        server_name: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct InstanceDraft {
    pub(crate) notes: Vec<String>,
    pub(crate) name: String,
    /// `None`: the file does not say.
    pub(crate) interface: Option<String>,
    pub(crate) vrid: u8,
    pub(crate) priority: Noted<u8>,
    pub(crate) version: Noted<u8>,
    pub(crate) advert_interval: Noted<Duration>,
    pub(crate) down_timer_adverts: Option<u8>,
    pub(crate) preempt: Noted<bool>,
    pub(crate) preempt_delay: Option<Duration>,
    pub(crate) startup_delay: Option<Duration>,
    pub(crate) accept: bool,
    pub(crate) vips: Noted<Vec<IpAddr>>,
    pub(crate) sync_group: Option<Noted<String>>,
    pub(crate) peers: Noted<Vec<IpAddr>>,
    pub(crate) unicast_source: Option<IpAddr>,
    /// A secret.
    pub(crate) password: Option<Noted<String>>,
    pub(crate) tracked: Vec<TrackedDraft>,
}

/// An interface that the priority depends on.
#[derive(Clone, Debug)]
pub(crate) struct TrackedDraft {
    pub(crate) name: String,
    pub(crate) weight: i16,
    pub(crate) reverse: bool,
}
