//! VRRP instances as the operator wants them. Pure.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Family;
use crate::vrrp::Version;
use crate::vrrp::packet::ChecksumForm;
use crate::vrrp::settings::Password;

/// One virtual router: VIPs of one family that move together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vrrp {
    /// Unique.
    pub name: String,
    /// Where it advertises, and where the VIPs are. With `vrid` and the family of the VIPs, unique.
    pub interface: String,
    /// 1 to 255.
    pub vrid: u8,
    /// 1 to 255, which is the owner's.
    pub priority: u8,
    /// IPv6 has version 3 only.
    pub version: Version,
    /// Version 3: a multiple of 10 ms from 10 ms to 40.95 s; version 2: whole seconds to 255 s.
    pub advert_interval: Duration,
    /// Intervals of silence after which the Active one is dead; 3 in the protocol.
    pub down_timer_adverts: u8,
    pub preempt: bool,
    /// Zero unless `preempt`.
    pub preempt_delay: Duration,
    /// After the start, how long it takes no part.
    pub startup_delay: Duration,
    /// Never empty, unique, of one family; link-local ones first. In no other instance.
    pub vips: Vec<IpAddr>,
    /// Of the VIPs' family; empty: multicast.
    pub unicast_peers: Vec<IpAddr>,
    /// Where unicast advertisements come from; `None`: the interface's primary address.
    pub unicast_source: Option<IpAddr>,
    /// Of version 2; read from `password_file` by `load`.
    #[serde(skip)]
    pub password: Option<Password>,
    /// Where the password is, if not in the configuration itself.
    pub password_file: Option<PathBuf>,
    /// What version 3 sends for IPv4.
    pub checksum: ChecksumForm,
    /// Whether packets to the VIPs that are of no service are for this host.
    pub accept: bool,
    /// How long established connections are still forwarded after the VIPs are given up.
    pub linger: Duration,
    /// How long peers leave the VIPs to a successor after a handover, if that is longer than
    /// `down_timer_adverts` intervals; zero in version 2.
    pub restart_grace: Duration,
    pub track: Track,
    pub announce: Announce,
    /// Instances of one group become Active and Backup together.
    pub sync_group: Option<String>,
}

impl Vrrp {
    /// That of its VIPs.
    pub fn family(&self) -> Family {
        self.vips.first().map_or(Family::V4, Family::of)
    }
}

/// What changes the priority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Track {
    pub interfaces: Vec<TrackedInterface>,
    pub files: Vec<TrackedFile>,
    /// `None`: the backends do not matter.
    pub backends: Option<TrackedBackends>,
    /// Whether XDP is attached; `None`: it does not matter.
    pub datapath: Option<Effect>,
}

/// What a tracked fact does to the priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// -253 to 253. Negative: added while the fact is bad; positive: while it is good; zero: a bad fact
    /// is a fault.
    pub weight: i16,
    /// Good is bad.
    pub reverse: bool,
}

/// An interface whose carrier matters. That of the instance itself always does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackedInterface {
    pub name: String,
    #[serde(flatten)]
    pub effect: Effect,
}

/// A file with a number, which is multiplied by the weight; none: 0. With weight zero, any
/// other number than 0 is a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackedFile {
    pub path: PathBuf,
    /// `reverse` takes the number's negative.
    #[serde(flatten)]
    pub effect: Effect,
}

/// The backends of the services on the instance's VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TrackedBackends {
    /// -253 to -1: never a fault, lest all nodes give up together.
    pub weight: i16,
    /// Fewer that are up, in any of the services, are bad. At least 1.
    pub minimum: u32,
    /// How long it has to be bad before the priority is lowered.
    pub hold: Duration,
}

impl Default for TrackedBackends {
    fn default() -> Self {
        Self { weight: -20, minimum: 1, hold: Duration::from_secs(3) }
    }
}

/// How the link is told where the VIPs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Announce {
    /// Between repetitions while Active; zero: none.
    pub refresh: Duration,
    /// Frames a second, of all VIPs of the instance.
    pub rate: u32,
}

impl Default for Announce {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(60), rate: 1000 }
    }
}
