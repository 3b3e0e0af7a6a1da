//! Single values: text in, a value or what is wrong with it out. Pure.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use thiserror::Error;

const MAX_NAME: usize = 63;
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
        "{} is an IPv6 address, and IPv6 {what} are not supported yet; write an IPv4 address such \
         as {example}",
        quoted(.text)
    )]
    Ipv6 { text: String, what: &'static str, example: &'static str },
    #[error(
        "{} has a prefix other than /32; write {address} (a VIP is always added as /32)",
        quoted(.text)
    )]
    Prefix { text: String, address: Ipv4Addr },
    #[error("{} has a port; write {} here and {} under `port`", quoted(.0), .1.ip(), .1.port())]
    HasPort(String, SocketAddrV4),
    #[error(
        "{} is no IPv4 address; write one such as {example} (names are not looked up)",
        quoted(.text)
    )]
    Address { text: String, example: &'static str },
    #[error("{address} is {kind}; write an address that other hosts can reach")]
    Special { address: Ipv4Addr, kind: &'static str },
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
pub(super) fn vip(text: &str) -> Result<Ipv4Addr, Fault> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    let address = ipv4(address, text, "VIPs", "10.0.0.100")?;
    if prefix != "32" {
        return Err(Fault::Prefix { text: text.to_owned(), address });
    }
    unicast(address)
}

/// An address of a backend.
pub(super) fn backend_address(text: &str) -> Result<Ipv4Addr, Fault> {
    unicast(ipv4(text, text, "backends", "10.0.0.11")?)
}

fn ipv4(
    address: &str,
    text: &str,
    what: &'static str,
    example: &'static str,
) -> Result<Ipv4Addr, Fault> {
    let text = text.to_owned();
    match address.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(Fault::Ipv6 { text, what, example }),
        Err(_) => match address.parse() {
            Ok(endpoint) => Err(Fault::HasPort(text, endpoint)),
            Err(_) => Err(Fault::Address { text, example }),
        },
    }
}

fn unicast(address: Ipv4Addr) -> Result<Ipv4Addr, Fault> {
    let kind = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_loopback() {
        "a loopback address"
    } else if address.is_multicast() {
        "a multicast address"
    } else if address.is_broadcast() {
        "the broadcast address"
    } else {
        return Ok(address);
    };
    Err(Fault::Special { address, kind })
}

/// As an operator would write it.
pub(super) fn show(duration: Duration) -> String {
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
