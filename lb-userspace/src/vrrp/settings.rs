//! What an instance has to know of its configuration, and which advertisements it takes. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Version;
use super::packet::{Advert, Auth, ChecksumForm, Discard, Envelope};
use crate::config::Family;

/// The settings of one instance: one VRID, one family. Cloning allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub version: Version,
    pub family: Family,
    /// 1 to 255.
    pub vrid: u8,
    /// 1 to 255.
    pub priority: u8,
    /// Version 3: 10 ms to 40.95 s; version 2: whole seconds, up to 255.
    pub advert_interval: Duration,
    /// How many intervals of silence make the Active one dead; 3 in the protocol.
    pub down_timer_adverts: u8,
    /// Whether a lower-priority Active is relieved.
    pub preempt: bool,
    /// How long a lower-priority Active is left alone.
    pub preempt_delay: Duration,
    /// Mute and deaf to the timer for so long after the start.
    pub startup_delay: Duration,
    /// How much longer a node waits that has not received a single frame since the link came up.
    pub receive_gate: Duration,
    /// Whether a node that gives way says so with one last advertisement, so that the winner
    /// announces its VIPs again.
    pub last_advert: bool,
    /// How long established flows are forwarded after the lease ended.
    pub linger: Duration,
    /// Whether the instance is a member of a sync group.
    pub grouped: bool,
    /// What is advertised; in this order on all nodes.
    pub vips: Arc<[IpAddr]>,
    /// Empty: multicast.
    pub unicast_peers: Arc<[IpAddr]>,
    /// Version 2 only.
    pub password: Option<Password>,
    /// What version 3 sends for IPv4.
    pub checksum: ChecksumForm,
}

/// Version 2's clear-text password, padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 8]);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Settings {
    /// Judges an advertisement by the configuration (V10, V13, V15, V16); `parse` has done the rest.
    pub fn admits(&self, advert: &Advert, envelope: &Envelope) -> Result<(), Discard> {
        let is_unicast = !self.unicast_peers.is_empty();
        if envelope.is_multicast() == is_unicast {
            return Err(Discard::Cast);
        }
        if is_unicast && !self.unicast_peers.contains(&envelope.source) {
            return Err(Discard::Stranger);
        }
        if advert.vrid != self.vrid {
            return Err(Discard::Vrid(advert.vrid));
        }
        match (advert.auth, self.password) {
            (Auth::None, None) => {}
            (Auth::Simple(theirs), Some(Password(ours))) if theirs == ours => {}
            (Auth::Simple(_), Some(_)) => return Err(Discard::AuthFailure),
            (Auth::Simple(_) | Auth::Other(_), None) | (Auth::None | Auth::Other(_), Some(_)) => {
                return Err(Discard::AuthType(advert.auth.number()));
            }
        }
        if self.version == Version::V2 && advert.interval != self.advert_interval {
            return Err(Discard::Interval(advert.interval));
        }
        Ok(())
    }
}
