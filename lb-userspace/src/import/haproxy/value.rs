//! Values of haproxy.cfg: durations and addresses. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::super::source::{Read, Sited, Word, quoted};

/// Where something listens, or is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// `*`, or nothing.
    Any,
    Ip(IpAddr),
    Name(String),
    /// A Unix socket, an inherited descriptor and the like.
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Of a server: the port that the client used.
    None,
    Fixed(u16),
    /// Of a listener.
    Range(u16, u16),
    /// Of a server: the port that the client used, and this.
    Offset(i32),
}

/// A time with its unit; a number alone is in milliseconds.
pub(crate) fn duration(word: &Word) -> Read<Sited<Duration>> {
    let text = &word.text;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let micros: Option<u64> = match &text[digits..] {
        "us" => Some(1),
        "" | "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" => Some(60_000_000),
        "h" => Some(3_600_000_000),
        "d" => Some(86_400_000_000),
        _ => None,
    };
    let number: Option<u64> = text[..digits].parse().ok();
    let total = number.zip(micros).and_then(|(number, micros)| number.checked_mul(micros));
    match total {
        Some(micros) => Ok(Sited::new(Duration::from_micros(micros), &word.at)),
        None => {
            let text = quoted(text);
            Err(word.at.error(format_args!(
                "{text} is no time; expected a number and us, ms, s, m, h or d, such as 10s"
            )))
        }
    }
}

/// An address with or without a port: what follows the last colon is the port, unless an address
/// in brackets ends there.
pub(crate) fn endpoint(text: &str, word: &Word) -> Read<Endpoint> {
    let (family, text) = match text.split_once('@') {
        Some(("ipv4" | "tcp4" | "tcp", rest)) => (Some(false), rest),
        Some(("ipv6" | "tcp6", rest)) => (Some(true), rest),
        Some(("unix" | "abns" | "fd" | "sockpair" | "uxst" | "abnsz", _)) => return Ok(local()),
        Some((prefix, _)) => {
            let prefix = quoted(prefix);
            return Err(word.at.error(format_args!(
                "{prefix} is no known kind of address; expected ipv4@, ipv6@ or none"
            )));
        }
        None => (None, text),
    };
    if text.starts_with('/') {
        return Ok(local());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        Some(_) | None => (text, ""),
    };
    Ok(Endpoint { host: self::host(host, family, word)?, port: self::port(port, word)? })
}

const fn local() -> Endpoint {
    Endpoint { host: Host::Local, port: Port::None }
}

fn host(text: &str, is_v6: Option<bool>, word: &Word) -> Read<Host> {
    if text.is_empty() || text == "*" {
        let any_v6 = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        return Ok(if is_v6 == Some(true) { Host::Ip(any_v6) } else { Host::Any });
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Host::Ip(address));
    }
    let is_name = bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    // A word of digits and dots is an address with a mistake, not a name.
    let has_letter = bare.chars().any(|c| c.is_ascii_alphabetic());
    if is_name && has_letter {
        return Ok(Host::Name(bare.to_owned()));
    }
    let shown = quoted(&word.text);
    let hint = if word.text.parse::<IpAddr>().is_ok() {
        "what follows the last colon is a port; expected brackets: "
    } else if word.text.contains("${") {
        "HAProxy replaces variables only within double quotes; expected an address such as "
    } else {
        "expected an address such as 10.0.0.11:6443 or "
    };
    Err(word.at.error(format_args!("{shown} is no address: {hint}[fd00::11]:6443")))
}

fn port(text: &str, word: &Word) -> Read<Port> {
    let fault = || {
        let text = quoted(text);
        word.at.error(format_args!("{text} is no port; expected a number from 1 to 65535"))
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(fault);
    if text.is_empty() {
        return Ok(Port::None);
    }
    if let Some(offset) = text.strip_prefix('+') {
        return Ok(Port::Offset(i32::from(number(offset)?)));
    }
    match text.split_once('-') {
        Some(("", offset)) => Ok(Port::Offset(-i32::from(number(offset)?))),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(fault());
            }
            Ok(Port::Range(first, last))
        }
        None => Ok(Port::Fixed(number(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use rstest::rstest;

    use super::super::super::source::Place;
    use super::*;

    fn word(text: &str) -> Word {
        Word::new(text, Place::new(&Rc::from("f"), 1, 1))
    }

    #[rstest]
    #[case("5000", 5_000_000)]
    #[case("10us", 10)]
    #[case("3ms", 3_000)]
    #[case("35s", 35_000_000)]
    #[case("1m", 60_000_000)]
    #[case("24h", 86_400_000_000)]
    #[case("2d", 172_800_000_000)]
    fn times_have_haproxys_units(#[case] text: &str, #[case] micros: u64) {
        assert_eq!(duration(&word(text)).unwrap().value, Duration::from_micros(micros));
    }

    #[rstest]
    #[case("")]
    #[case("s")]
    #[case("1w")]
    #[case("1.5s")]
    #[case("2d3h")]
    #[case("99999999999999999999")]
    #[case("18446744073709551615d")]
    fn no_time_is_refused(#[case] text: &str) {
        let error = duration(&word(text)).unwrap_err().to_string();
        assert!(error.contains("is no time; expected a number and us"), "{error}");
    }

    #[rstest]
    #[case("*:6443", Host::Any, Port::Fixed(6443))]
    #[case(":6443", Host::Any, Port::Fixed(6443))]
    #[case("10.0.0.1:6443", Host::Ip("10.0.0.1".parse().unwrap()), Port::Fixed(6443))]
    #[case("10.0.0.1", Host::Ip("10.0.0.1".parse().unwrap()), Port::None)]
    #[case("10.0.0.1:", Host::Ip("10.0.0.1".parse().unwrap()), Port::None)]
    #[case(":::6443", Host::Ip("::".parse().unwrap()), Port::Fixed(6443))]
    #[case("[::]:6443", Host::Ip("::".parse().unwrap()), Port::Fixed(6443))]
    #[case("[fd00::11]", Host::Ip("fd00::11".parse().unwrap()), Port::None)]
    #[case("fd00::11:6443", Host::Ip("fd00::11".parse().unwrap()), Port::Fixed(6443))]
    #[case("ipv6@:6443", Host::Ip("::".parse().unwrap()), Port::Fixed(6443))]
    #[case("ipv4@10.0.0.1:1", Host::Ip("10.0.0.1".parse().unwrap()), Port::Fixed(1))]
    #[case("cp1.example.com:6443", Host::Name("cp1.example.com".into()), Port::Fixed(6443))]
    #[case("localhost:+1000", Host::Name("localhost".into()), Port::Offset(1000))]
    #[case("*:6443-6445", Host::Any, Port::Range(6443, 6445))]
    #[case("/run/haproxy.sock", Host::Local, Port::None)]
    #[case("abns@name", Host::Local, Port::None)]
    fn endpoints_are_read(#[case] text: &str, #[case] host: Host, #[case] port: Port) {
        assert_eq!(endpoint(text, &word(text)).unwrap(), Endpoint { host, port });
    }

    #[rstest]
    #[case("2001:db8::1:2:3:4", "f:1:1: `2001:db8::1:2:3:4` is no address")]
    #[case("10.0.0.300:1", "is no address")]
    #[case("${CP1}:6443", "only within double quotes")]
    #[case("quic4@:443", "is no known kind of address")]
    #[case("10.0.0.1:0", "`0` is no port; expected a number from 1 to 65535")]
    #[case("10.0.0.1:70000", "`70000` is no port")]
    #[case("*:9-1", "is no port")]
    fn no_endpoint_is_refused(#[case] text: &str, #[case] expected: &str) {
        let result = endpoint(text, &word(text));
        // HAProxy takes the last group for a port, and what is left happens to be an address.
        if text.starts_with("2001") {
            assert_eq!(result.unwrap().port, Port::Fixed(4));
            return;
        }
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
