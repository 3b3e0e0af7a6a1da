//! What an instance has to know of its configuration, and which advertisements it takes. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Version;
use super::packet::{Advert, Auth, ChecksumForm, Discard, Envelope, MAX_ADDRESSES, wire_interval};
use super::timers::{active_down_interval, silence, skew};
use crate::config::{Family, Vrrp};

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
    /// Whether a peer that took over while this node was stalled is left alone for a while, though preempt is
    /// on: it has made connections that this node has to learn of first.
    pub yields_when_stalled: bool,
    /// How long a lower-priority Active is left alone.
    pub preempt_delay: Duration,
    /// Mute and deaf to the timer for so long after the start.
    pub startup_delay: Duration,
    /// How much longer a node waits that has not received a single frame since the link came up.
    pub receive_gate: Duration,
    /// How long a node waits after a fault that came soon after one before; longer each time.
    pub recovery_hold: Duration,
    /// Whether a node that gives way says so with one last advertisement, so that the winner
    /// announces its VIPs again.
    pub last_advert: bool,
    /// How long established flows are forwarded after the lease ended.
    pub linger: Duration,
    /// How long peers leave the VIPs to a successor after a handover; zero in version 2.
    pub restart_grace: Duration,
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

/// How long an instance waits for the first frame of a link that may not pass any yet: a switch
/// port that is still learning, a bond without a partner.
const RECEIVE_GATE: Duration = Duration::from_secs(5);

/// Below which a flapping link would make as many elections as it flaps.
const RECOVERY_HOLD: Duration = Duration::from_secs(1);

/// An address without anybody who extends its life outlives the lease by no less than this: the kernel's lock
/// of all interfaces may be held by others for long, and a VIP that is served must not vanish.
const SPARE_LIFE: Duration = Duration::from_secs(10);

/// What fits a frame of 1500 bytes; the rest of the VIPs is moved all the same.
const MAX_V6_ADDRESSES: usize = 90;

impl From<&Vrrp> for Settings {
    fn from(vrrp: &Vrrp) -> Self {
        let family = vrrp.family();
        let advertised = match family {
            Family::V4 => MAX_ADDRESSES,
            Family::V6 => MAX_V6_ADDRESSES,
        };
        Self {
            version: vrrp.version,
            family,
            vrid: vrrp.vrid,
            priority: vrrp.priority,
            advert_interval: vrrp.advert_interval,
            down_timer_adverts: vrrp.down_timer_adverts,
            preempt: vrrp.preempt,
            yields_when_stalled: false,
            preempt_delay: vrrp.preempt_delay,
            startup_delay: vrrp.startup_delay,
            receive_gate: RECEIVE_GATE,
            recovery_hold: RECOVERY_HOLD,
            last_advert: true,
            linger: vrrp.linger,
            restart_grace: vrrp.restart_grace,
            grouped: vrrp.sync_group.is_some(),
            vips: vrrp.vips.iter().copied().take(advertised).collect(),
            unicast_peers: vrrp.unicast_peers.iter().copied().collect(),
            password: vrrp.password,
            checksum: vrrp.checksum,
        }
    }
}

impl Settings {
    /// The advertisement to send with this priority.
    pub fn advert(&self, priority: u8) -> Advert {
        Advert {
            version: self.version,
            vrid: self.vrid,
            priority,
            interval: self.advert_interval,
            addresses: self.vips.iter().copied().take(MAX_ADDRESSES).collect(),
            auth: self.password.map_or(Auth::None, |Password(data)| Auth::Simple(data)),
            checksum: self.checksum,
        }
    }

    /// The interval that the last advertisement before a handover announces: peers learn it (RFC 9568
    /// 6.4.2), and wait for so many of it that a successor has `restart_grace`.
    pub fn handover_interval(&self) -> Duration {
        match self.version {
            // Peers would drop it.
            Version::V2 => self.advert_interval,
            Version::V3 => {
                let share = self.restart_grace / u32::from(self.down_timer_adverts.max(1));
                wire_interval(share).max(self.advert_interval)
            }
        }
    }

    /// How long a successor has after a handover.
    pub fn longest_restart(&self) -> Duration {
        silence(self.handover_interval(), self.down_timer_adverts)
    }

    /// How long the kernel keeps the VIPs' addresses when nobody extends that, seconds: for longer than a
    /// successor may take, and no longer than it must be. A controller that is dead for good leaves no
    /// address behind that another node has taken over.
    pub fn address_life(&self) -> u32 {
        let life = self.longest_restart().saturating_add(self.linger).saturating_add(SPARE_LIFE);
        u32::try_from(life.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }

    /// How long the Active one has to be silent before this node takes over, at the configured priority.
    pub fn take_over(&self) -> Duration {
        let Self { version, priority, advert_interval, down_timer_adverts, .. } = *self;
        active_down_interval(version, priority, advert_interval, down_timer_adverts)
    }

    /// How long this node waits after the Active one gave up.
    pub fn skew(&self) -> Duration {
        skew(self.version, self.priority, self.advert_interval)
    }

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

#[cfg(test)]
mod tests;
