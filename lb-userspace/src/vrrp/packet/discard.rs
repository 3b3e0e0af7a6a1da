//! Why a packet was dropped, and the counter that says so. Pure.

use std::fmt;
use std::time::Duration;

/// Why a packet is no advertisement for an instance. The counters are called as in RFC 6527, and where
/// it has none, as in RFC 2787 for version 2 or in its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// TTL or hop limit of a multicast packet: not 255.
    Ttl(u8),
    /// Shorter than its count of addresses calls for.
    Length,
    Version(u8),
    /// Not an advertisement.
    Type(u8),
    Checksum,
    /// No instance has this VRID on the interface and family.
    Vrid(u8),
    /// No address at all (RFC 9568 erratum 8299).
    AddressList,
    /// Zero (erratum 8301), or in version 2 another one than ours.
    Interval(Duration),
    /// Another authentication type than ours.
    AuthType(u8),
    /// Another password than ours.
    AuthFailure,
    /// Multicast for an instance with unicast peers, or unicast for one without.
    Cast,
    /// Unicast from an address that is not in the list of peers.
    Stranger,
    /// From an address of this node: a loop, a clone, or a duplicate address.
    OwnSource,
    /// The instance is in `Init` or `Fault`.
    NotRunning,
}

impl Discard {
    /// Every counter, in the order of [`Self::index`].
    pub const COUNTERS: [&'static str; 14] = [
        "ip_ttl_errors",
        "packet_length_errors",
        "version_errors",
        "invalid_type_packets",
        "checksum_errors",
        "vrid_errors",
        "address_list_errors",
        "adv_interval_errors",
        "auth_type_mismatches",
        "auth_failures",
        "cast_errors",
        "stranger_packets",
        "own_source_packets",
        "not_running_packets",
    ];

    /// Where its counter is.
    pub const fn index(self) -> usize {
        match self {
            Self::Ttl(_) => 0,
            Self::Length => 1,
            Self::Version(_) => 2,
            Self::Type(_) => 3,
            Self::Checksum => 4,
            Self::Vrid(_) => 5,
            Self::AddressList => 6,
            Self::Interval(_) => 7,
            Self::AuthType(_) => 8,
            Self::AuthFailure => 9,
            Self::Cast => 10,
            Self::Stranger => 11,
            Self::OwnSource => 12,
            Self::NotRunning => 13,
        }
    }

    /// The name of its counter.
    pub const fn counter(self) -> &'static str {
        Self::COUNTERS[self.index()]
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ttl(ttl) => write!(f, "TTL {ttl}, not 255: it came through a router"),
            Self::Length => f.write_str("too short for the addresses it announces"),
            Self::Version(version) => write!(f, "version {version}; set `version` alike"),
            Self::Type(kind) => write!(f, "type {kind}, not an advertisement"),
            Self::Checksum => f.write_str("wrong checksum"),
            Self::Vrid(vrid) => write!(f, "VRID {vrid} is not configured here"),
            Self::AddressList => f.write_str("no addresses"),
            Self::Interval(zero) if zero.is_zero() => f.write_str("interval 0"),
            Self::Interval(theirs) => {
                write!(f, "interval {theirs:?}; set `advert_interval` alike, as version 2 needs")
            }
            Self::AuthType(theirs) => {
                write!(f, "authentication type {theirs}; set `authentication` alike")
            }
            Self::AuthFailure => f.write_str("wrong password; set `authentication` alike"),
            Self::Cast => f.write_str("multicast and unicast are mixed; set `unicast_peers` alike"),
            Self::Stranger => f.write_str("its sender is not in `unicast_peers`"),
            Self::OwnSource => f.write_str("it comes from an address of this node"),
            Self::NotRunning => f.write_str("the instance takes no part now"),
        }
    }
}
