//! Elections, as `status` says them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An instance of VRRP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vrrp {
    pub name: String,
    pub interface: String,
    pub vrid: u8,
    pub version: u8,
    pub vips: Vec<IpAddr>,
    /// `init`, `backup`, `active` or `fault`.
    pub state: String,
    /// It gives the VIPs up, and waits for somebody to take them.
    pub draining: bool,
    /// What it advertises, or would.
    pub priority: u8,
    /// When `state` last changed.
    pub since: String,
    /// Why it did.
    pub reason: String,
    /// How many times it became active.
    pub term: u64,
    pub advert_interval_ms: u64,
    pub peers: Vec<VrrpPeer>,
    /// Those of the last minute.
    pub alarms: Vec<VrrpAlarm>,
    /// Under the names of RFC 6527 where it has one.
    pub counters: BTreeMap<String, u64>,
}

/// Another node that speaks VRRP for the same VIPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpPeer {
    pub address: IpAddr,
    pub priority: u8,
    pub last_seen_ms: u64,
    #[serde(default)]
    pub advert_interval_ms: u64,
    /// How much its advertisements deviate from their interval, on average.
    #[serde(default)]
    pub jitter_us: u64,
    /// What its checksums cover: `rfc5798`, `rfc9568` or `keepalived-1.3.6`.
    #[serde(default)]
    pub checksum: String,
}

/// Something that is wrong on the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpAlarm {
    pub kind: String,
    pub message: String,
    pub count: u64,
    pub last: String,
}
