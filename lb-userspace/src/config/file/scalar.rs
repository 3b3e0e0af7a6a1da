//! Single values: text in, a value or what is wrong with it out. Pure.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use thiserror::Error;

use super::super::{Cidr, Family};

const MAX_NAME: usize = 63;
/// RFC 1035, without the trailing dot.
const MAX_HOST: usize = 253;
/// `IFNAMSIZ` less its terminating zero.
const MAX_INTERFACE: usize = 15;

/// What is wrong with a value; then, after a semicolon, what would be right.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("{} is not possible; write a whole number from {from} to {to}", quoted(.text))]
    Number { text: String, from: String, to: String },
    #[error("{} is not possible; write {}", quoted(.text), .words.join(" or "))]
    Choice { text: String, words: Vec<String> },
    #[error("{} has no unit; write {text}s or {text}ms", quoted(.text))]
    NoUnit { text: String },
    #[error(
        "{} is no duration; write a number and a unit: 250ms, 1s, 1.5s, 5m, 24h or 1m30s",
        quoted(.0)
    )]
    Duration(String),
    #[error(
        "{} is out of range; write a duration from {} to {}",
        quoted(.text), show(*.from), show(*.to)
    )]
    DurationRange { text: String, from: Duration, to: Duration },
    #[error(
        "{} cannot be a name; write 1 to {MAX_NAME} letters, digits, dots, underscores and hyphens",
        quoted(.0)
    )]
    Name(String),
    #[error(
        "{} cannot be an interface; write a name that `ip link` shows: 1 to {MAX_INTERFACE} bytes \
         without spaces, / and :",
        quoted(.0)
    )]
    Interface(String),
    #[error(
        "{} has a prefix other than /{bits}; write {address} (a VIP is always added as /{bits})",
        quoted(.text), bits = Family::of(.address).bits()
    )]
    Prefix { text: String, address: IpAddr },
    #[error("{} has a port; write {} here and {} under `port`", quoted(.0), .1.ip(), .1.port())]
    HasPort(String, SocketAddr),
    #[error(
        "{} is no IP address; write one such as {example}",
        quoted(.text)
    )]
    Address { text: String, example: &'static str },
    #[error("this is an address; write `address: {0}` in place of `host`")]
    NoHost(IpAddr),
    #[error(
        "{} is no DNS name; write one such as apiservers.example.com: at most 253 letters, digits, \
         hyphens, underscores and dots",
        quoted(.0)
    )]
    Host(String),
    #[error("{address} is {kind}; write an address that other hosts can reach")]
    Special { address: IpAddr, kind: &'static str },
    #[error("{} is an IPv4 address in IPv6 form; write {address}", quoted(.text))]
    Mapped { text: String, address: Ipv4Addr },
    #[error("{} is no range of addresses; write one such as 10.0.0.0/8 or fd00::/64", quoted(.0))]
    Range(String),
    #[error("{} has bits set beyond its prefix; write {range}", quoted(.text))]
    HostBits { text: String, range: Cidr },
    #[error(
        "{} is a range of IPv4 addresses in IPv6 form; write it as IPv4, such as 10.0.0.0/8",
        quoted(.0)
    )]
    MappedRange(String),
}

/// A whole number in `range`.
pub(super) fn number<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, Fault>
where
    T: Display + FromStr + PartialOrd,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| Fault::Number {
        text: text.to_owned(),
        from: range.start().to_string(),
        to: range.end().to_string(),
    })
}

/// One of several words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    let known = choices.iter().find(|(word, _)| *word == text);
    known.map(|(_, value)| *value).ok_or_else(|| Fault::Choice {
        text: text.to_owned(),
        words: choices.iter().map(|(word, _)| (*word).to_owned()).collect(),
    })
}

/// A span of time with its unit, in `range`.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let duration = if text == "0" { Some(Duration::ZERO) } else { with_unit(text) };
    match duration {
        Some(duration) if range.contains(&duration) => Ok(duration),
        Some(_) => Err(Fault::DurationRange {
            text: text.to_owned(),
            from: *range.start(),
            to: *range.end(),
        }),
        None if text.parse::<u64>().is_ok() => Err(Fault::NoUnit { text: text.to_owned() }),
        None => Err(Fault::Duration(text.to_owned())),
    }
}

fn with_unit(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// A name of a service or backend.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(is_allowed) {
        return Err(Fault::Name(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// A name that the kernel could have given an interface.
pub(super) fn interface(text: &str) -> Result<String, Fault> {
    let is_refused = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
    let is_folder = matches!(text, "." | "..");
    if text.is_empty() || text.len() > MAX_INTERFACE || is_folder || text.contains(is_refused) {
        return Err(Fault::Interface(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// An address that this node is to own.
pub(super) fn vip(text: &str) -> Result<IpAddr, Fault> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address = ip(address, text, "10.0.0.100 or fd00::100 (names are not looked up)")?;
    if prefix.is_some_and(|prefix| prefix != Family::of(&address).bits().to_string()) {
        return Err(Fault::Prefix { text: text.to_owned(), address });
    }
    unicast(address, text)
}

/// A VIP that VRRP moves: as [`vip`], or link-local in IPv6.
pub(super) fn instance_vip(text: &str) -> Result<IpAddr, Fault> {
    match vip(text) {
        Err(Fault::Special { address, .. }) if is_link_local_v6(address) => Ok(address),
        other => other,
    }
}

/// An address of another node of a pair, or of this one; link-local in IPv6 too.
pub(super) fn peer(text: &str) -> Result<IpAddr, Fault> {
    match unicast(ip(text, text, "10.0.0.3 or fd00::3")?, text) {
        Err(Fault::Special { address, .. }) if is_link_local_v6(address) => Ok(address),
        other => other,
    }
}

pub(super) const fn is_link_local_v6(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// An address of a backend.
pub(super) fn backend_address(text: &str) -> Result<IpAddr, Fault> {
    unicast(ip(text, text, "10.0.0.11 or fd00::11, or a name under `host`")?, text)
}

/// A DNS name, in lower case.
pub(super) fn host(text: &str) -> Result<String, Fault> {
    if let Ok(address) = text.parse() {
        return Err(Fault::NoHost(address));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label =
        |label: &str| (1..=MAX_NAME).contains(&label.len()) && label.chars().all(is_allowed);
    let labels = text.strip_suffix('.').unwrap_or(text);
    // What ends in a number was meant as an address.
    let ends_in_number = labels.rsplit('.').next().is_some_and(|it| it.parse::<u64>().is_ok());
    if labels.len() > MAX_HOST || ends_in_number || !labels.split('.').all(is_label) {
        return Err(Fault::Host(text.to_owned()));
    }
    Ok(text.to_ascii_lowercase())
}

/// A range of addresses; a single one is a range of its own.
pub(super) fn range(text: &str) -> Result<Cidr, Fault> {
    let fault = || Fault::Range(text.to_owned());
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let bits = Family::of(&address).bits();
    let length = match length {
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().ok().filter(|length| *length <= bits).ok_or_else(fault)?
        }
        Some(_) => return Err(fault()),
        None => bits,
    };
    let range = Cidr::containing(address, length);
    if range.network != address {
        return Err(Fault::HostBits { text: text.to_owned(), range });
    }
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(Fault::MappedRange(text.to_owned()));
    }
    Ok(range)
}

fn ip(address: &str, text: &str, example: &'static str) -> Result<IpAddr, Fault> {
    let text = text.to_owned();
    match address.parse() {
        Ok(address) => Ok(address),
        Err(_) => match address.parse() {
            Ok(endpoint) => Err(Fault::HasPort(text, endpoint)),
            Err(_) => Err(Fault::Address { text, example }),
        },
    }
}

fn unicast(address: IpAddr, text: &str) -> Result<IpAddr, Fault> {
    let special = match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => {
            if let Some(address) = v6.to_ipv4_mapped() {
                return Err(Fault::Mapped { text: text.to_owned(), address });
            }
            special_v6(v6)
        }
    };
    special.map_or(Ok(address), |kind| Err(Fault::Special { address, kind }))
}

const fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.octets()[0] == 0 {
        Some("an address of 0.0.0.0/8, which is for no host")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_broadcast() {
        Some("the broadcast address")
    } else {
        None
    }
}

const fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// As an operator would write it.
pub(in super::super) fn show(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// What the file says, on one line, and short.
pub(super) fn quoted(text: &str) -> String {
    const MAX_SHOWN: usize = 64;
    match text.char_indices().nth(MAX_SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}
