//! The advertisement on the wire: `parse` and `build`. Pure.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |version| type 1|     VRID      |   priority    | address count |
//! +-------+-------+---------------+---------------+---------------+
//! |reserve| interval, centiseconds|           checksum            |  version 3
//! +-------+-------+---------------+-------------------------------+
//! |   auth type   | interval, s   |           checksum            |  version 2
//! +---------------+---------------+-------------------------------+
//! |                 addresses (4 or 16 bytes each)                |
//! +---------------------------------------------------------------+
//! |              authentication data (8 bytes)                    |  version 2
//! +---------------------------------------------------------------+
//! ```
//! RFC 9568 5.2 with errata 8299 and 8301, RFC 3768 5.3. Version 2 and IPv6 leave no choice of what the
//! checksum covers. For version 3 over IPv4, RFC 9568 says the message, RFC 5798 was read to say a
//! pseudo-header too, and keepalived knows the latter only: either is taken, and labelled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use arrayvec::ArrayVec;
use lb_common::checksum;

use super::Version;
use crate::config::Family;

mod discard;

pub use discard::Discard;

/// The IP protocol number.
pub const PROTOCOL: u8 = 112;
/// Where multicast advertisements go.
pub const MULTICAST_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const MULTICAST_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL or hop limit: what came through a router has less.
pub const TTL: u8 = 255;

/// What the count of a packet can say.
pub const MAX_ADDRESSES: usize = 255;
/// The longest advertisement there can be.
pub const MAX_LEN: usize = HEADER_LEN + MAX_ADDRESSES * 16;

const HEADER_LEN: usize = 8;
const AUTH_LEN: usize = 8;
const ADVERTISEMENT: u8 = 1;
const AUTH_NONE: u8 = 0;
const AUTH_SIMPLE: u8 = 1;
const MAX_CENTISECONDS: u16 = 0x0fff;

/// An advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    pub version: Version,
    pub vrid: u8,
    /// 0: its sender gives up.
    pub priority: u8,
    /// Advertisement_Interval (Max Advertise Interval in version 3). Never zero.
    pub interval: Duration,
    /// Of the family of the packet. Never empty.
    pub addresses: ArrayVec<IpAddr, MAX_ADDRESSES>,
    /// Nothing in version 3.
    pub auth: Auth,
    /// What the checksum covers.
    pub checksum: ChecksumForm,
}

/// How version 2 authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    None,
    /// Type 1: clear text, padded with zeros.
    Simple([u8; AUTH_LEN]),
    /// Type 2 was an IP authentication header; the rest has no meaning.
    Other(u8),
}

impl Auth {
    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => AUTH_NONE,
            Self::Simple(_) => AUTH_SIMPLE,
            Self::Other(number) => number,
        }
    }

    const fn data(self) -> [u8; AUTH_LEN] {
        match self {
            Self::Simple(data) => data,
            Self::None | Self::Other(_) => [0; AUTH_LEN],
        }
    }
}

/// What a checksum covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumForm {
    /// Pseudo-header and message: IPv6, and version 3 over IPv4 as keepalived does it.
    #[default]
    PseudoHeader,
    /// The message alone: version 2, and version 3 over IPv4 in RFC 9568.
    Message,
    /// A pseudo-header with the multicast address in a unicast packet, as keepalived 1.3.6 and older
    /// send it. Taken, never sent.
    MulticastPseudoHeader,
}

impl ChecksumForm {
    /// Its name in `status` and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PseudoHeader => "rfc5798",
            Self::Message => "rfc9568",
            Self::MulticastPseudoHeader => "keepalived-1.3.6",
        }
    }
}

/// What the IP header around an advertisement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub source: IpAddr,
    /// Of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Envelope {
    pub const fn family(&self) -> Family {
        Family::of(&self.source)
    }

    pub const fn is_multicast(&self) -> bool {
        self.destination.is_multicast()
    }
}

/// The version and the VRID that a packet claims, to find the instance that it is for.
pub fn peek(bytes: &[u8]) -> Option<(u8, u8)> {
    match bytes {
        [first, vrid, ..] => Some((first >> 4, *vrid)),
        [] | [_] => None,
    }
}

/// Reads the advertisement in `bytes`, the payload of an IP packet, for an instance that speaks
/// `version`. Bytes after it, such as Ethernet's padding, are ignored.
pub fn parse(bytes: &[u8], envelope: &Envelope, version: Version) -> Result<Advert, Discard> {
    if envelope.is_multicast() && envelope.ttl != TTL {
        return Err(Discard::Ttl(envelope.ttl));
    }
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Discard::Length)?;
    let [first, vrid, priority, count, fifth, sixth, _, _] = *header;
    if first >> 4 != version.number() {
        return Err(Discard::Version(first >> 4));
    }
    if first & 0x0f != ADVERTISEMENT {
        return Err(Discard::Type(first & 0x0f));
    }
    let family = envelope.family();
    let width = usize::from(family.bits() / 8);
    let addresses = rest.get(..usize::from(count) * width).ok_or(Discard::Length)?;
    let (auth, tail) = match version {
        Version::V2 => {
            let data = rest[addresses.len()..].first_chunk::<AUTH_LEN>().ok_or(Discard::Length)?;
            let auth = match fifth {
                AUTH_NONE => Auth::None,
                AUTH_SIMPLE => Auth::Simple(*data),
                other => Auth::Other(other),
            };
            (auth, AUTH_LEN)
        }
        Version::V3 => (Auth::None, 0),
    };
    let message = &bytes[..HEADER_LEN + addresses.len() + tail];
    let checksum = verify(message, envelope, version).ok_or(Discard::Checksum)?;
    if vrid == 0 {
        return Err(Discard::Vrid(0));
    }
    if count == 0 {
        return Err(Discard::AddressList);
    }
    let interval = match version {
        Version::V2 => Duration::from_secs(u64::from(sixth)),
        // Four reserved bits are ignored on receipt (5.2.6).
        Version::V3 => {
            let centiseconds = u16::from_be_bytes([fifth, sixth]) & MAX_CENTISECONDS;
            Duration::from_millis(u64::from(centiseconds) * 10)
        }
    };
    if interval.is_zero() {
        return Err(Discard::Interval(interval));
    }
    let addresses = addresses.chunks_exact(width).filter_map(address).collect();
    Ok(Advert { version, vrid, priority, interval, addresses, auth, checksum })
}

/// Writes an advertisement that goes where `envelope` says. The interval is rounded to what the
/// version can say, the auth data is always there in version 2.
pub fn build<'b>(
    advert: &Advert,
    envelope: &Envelope,
    buffer: &'b mut [u8; MAX_LEN],
) -> &'b mut [u8] {
    let mut packet = ArrayVec::<u8, MAX_LEN>::new();
    let [high, low] = match advert.version {
        Version::V2 => [advert.auth.number(), whole_seconds(advert.interval)],
        Version::V3 => centiseconds(advert.interval).to_be_bytes(),
    };
    let family = envelope.family();
    let addresses = advert.addresses.iter().filter(|address| Family::of(address) == family);
    let first = advert.version.number() << 4 | ADVERTISEMENT;
    packet.extend([first, advert.vrid, advert.priority, 0, high, low, 0, 0]);
    for address in addresses {
        packet[3] = packet[3].saturating_add(1);
        match address {
            IpAddr::V4(v4) => packet.extend(v4.octets()),
            IpAddr::V6(v6) => packet.extend(v6.octets()),
        }
    }
    if advert.version == Version::V2 {
        packet.extend(advert.auth.data());
    }
    let sum = match form(advert, family) {
        ChecksumForm::Message => 0,
        ChecksumForm::PseudoHeader | ChecksumForm::MulticastPseudoHeader => {
            pseudo_header(envelope.source, envelope.destination, packet.len())
        }
    };
    let checksum = !checksum::fold(checksum::add_bytes(sum, &packet));
    packet[6..8].copy_from_slice(&checksum.to_be_bytes());
    let written = &mut buffer[..packet.len()];
    written.copy_from_slice(&packet);
    written
}

const fn form(advert: &Advert, family: Family) -> ChecksumForm {
    match (advert.version, family) {
        (Version::V2, _) => ChecksumForm::Message,
        (Version::V3, Family::V4) => advert.checksum,
        (Version::V3, Family::V6) => ChecksumForm::PseudoHeader,
    }
}

/// The shortest interval that version 3 can announce and that is not below `interval`; if there is none,
/// the longest.
pub fn wire_interval(interval: Duration) -> Duration {
    let centiseconds = interval.as_nanos().div_ceil(10_000_000);
    let fits = u16::try_from(centiseconds).unwrap_or(u16::MAX).clamp(1, MAX_CENTISECONDS);
    Duration::from_millis(u64::from(fits) * 10)
}

/// Rounded, then clamped: what rounds up to 4096 would go out as 0.
fn centiseconds(interval: Duration) -> u16 {
    let rounded = (interval.as_millis() + 5) / 10;
    u16::try_from(rounded).unwrap_or(u16::MAX).clamp(1, MAX_CENTISECONDS)
}

fn whole_seconds(interval: Duration) -> u8 {
    let rounded = (interval.as_millis() + 500) / 1000;
    u8::try_from(rounded).unwrap_or(u8::MAX).max(1)
}

/// What the checksum of a message covers; none: it is wrong.
fn verify(message: &[u8], envelope: &Envelope, version: Version) -> Option<ChecksumForm> {
    let message_sum = checksum::add_bytes(0, message);
    let is_right = |pseudo: u32| checksum::fold(message_sum + pseudo) == 0xffff;
    let Envelope { source, destination, .. } = *envelope;
    let candidates: &[ChecksumForm] = match (version, envelope.family()) {
        (Version::V2, _) => &[ChecksumForm::Message],
        (Version::V3, Family::V6) => &[ChecksumForm::PseudoHeader],
        (Version::V3, Family::V4) => &[
            ChecksumForm::PseudoHeader,
            ChecksumForm::Message,
            ChecksumForm::MulticastPseudoHeader,
        ],
    };
    candidates.iter().copied().find(|form| {
        is_right(match form {
            ChecksumForm::Message => 0,
            ChecksumForm::PseudoHeader => pseudo_header(source, destination, message.len()),
            ChecksumForm::MulticastPseudoHeader => {
                pseudo_header(source, MULTICAST_V4.into(), message.len())
            }
        })
    })
}

/// Sum of both addresses, protocol and length: alike for both families (RFC 8200 8.1).
#[expect(clippy::cast_possible_truncation, reason = "at most MAX_LEN")]
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    let sum = u32::from(PROTOCOL) + length as u32;
    [source, destination].into_iter().fold(sum, |sum, address| match address {
        IpAddr::V4(v4) => checksum::add_bytes(sum, &v4.octets()),
        IpAddr::V6(v6) => checksum::add_bytes(sum, &v6.octets()),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(v6)
}

#[cfg(test)]
mod tests;
