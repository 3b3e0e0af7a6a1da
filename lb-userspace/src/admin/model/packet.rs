//! Packets as the datapath meets them: `GET /v1/packets`. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::counters::Counter;
use serde::{Deserialize, Serialize};

use super::flows::{Flow, duration, range};
use crate::config::Cidr;

/// For how long packets are followed, unless the client says otherwise, and at most.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(60);
pub const MAX_DURATION: Duration = Duration::from_secs(3600);

/// Packets told in a second, unless the client says otherwise, and at most.
pub const DEFAULT_RATE: u32 = 1000;
pub const MAX_RATE: u32 = 100_000;

/// Bytes of a frame that are kept: the least shows Ethernet and IP, the most is what the program has room for.
pub const MIN_SNAP: u32 = 64;
pub const MAX_SNAP: u32 = 9216;
const _: () = assert!(MAX_SNAP as usize == lb_common::trace::MAX_SNAP);

/// A line of the answer to `GET /v1/packets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    Packet(Box<Packet>),
    Missing(Missing),
}

/// What was asked for and is not told, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Packets above the rate.
    pub suppressed: u64,
    /// Packets for which the ring had no room: the client reads too slowly.
    pub lost: u64,
}

/// A packet, before the datapath and behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// When it came in, with nanoseconds.
    pub time: String,
    /// From then until the verdict; most of it is the following itself.
    pub spent_ns: u64,
    /// Null: nobody knows.
    pub interface: Option<String>,
    pub cpu: u32,
    pub verdict: Class,
    /// The datapath's counter of this verdict.
    pub counter: String,
    /// The same in words.
    pub reason: String,
    /// From whom it is; null: it is of no flow.
    pub from: Option<From>,
    /// The flow was not there before.
    pub opens_flow: bool,
    pub came: Frame,
    /// Null: nothing left.
    pub left: Option<Frame>,
    /// The flow as it was behind the packet; null: there is none.
    pub flow: Option<Flow>,
}

/// One of two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    Client,
    Backend,
}

impl From {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

/// What a verdict amounts to: what the counters' names begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It goes on, out of the interface that it came in by.
    Forward,
    /// It goes on, out of another one.
    Redirect,
    /// It is answered with RST.
    Reset,
    /// It is answered with an ICMP error.
    Answer,
    Drop,
    /// The node's own kernel gets it.
    Pass,
}

impl Class {
    pub const ALL: [Self; 6] =
        [Self::Forward, Self::Redirect, Self::Reset, Self::Answer, Self::Drop, Self::Pass];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Redirect => "redirect",
            Self::Reset => "reset",
            Self::Answer => "answer",
            Self::Drop => "drop",
            Self::Pass => "pass",
        }
    }

    pub fn of(counter: Counter) -> Self {
        let is_it = |class: &Self| {
            counter.name().strip_prefix(class.as_str()).is_some_and(|rest| rest.starts_with('_'))
        };
        // Every counter's name begins with one, which a test of theirs sees to.
        Self::ALL.into_iter().find(is_it).unwrap_or(Self::Drop)
    }

    /// Something is sent.
    pub const fn is_sent(self) -> bool {
        match self {
            Self::Forward | Self::Redirect | Self::Reset | Self::Answer => true,
            Self::Drop | Self::Pass => false,
        }
    }
}

/// A frame, as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Bytes, Ethernet header included.
    pub length: u32,
    pub source_mac: Option<String>,
    pub destination_mac: Option<String>,
    /// Outer tag first.
    pub vlans: Vec<u16>,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// TTL or hop limit.
    pub hops: Option<u8>,
    /// `tcp`, `udp`, `icmp`, or a number.
    pub protocol: Option<String>,
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
    pub tcp: Option<Tcp>,
}

/// What a TCP header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Such as `SYN ACK`.
    pub flags: String,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// Bytes of data.
    pub payload: u32,
}

/// Query of `GET /v1/packets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketQuery {
    /// An address with or without a port, or a range such as 10.0.0.0/8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// An address, with or without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// BACKEND or SERVICE/BACKEND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// client or backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Verdicts or counters, with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Ends after so many packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Ends after so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Packets in a second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Bytes of a frame that are kept, at most: of a capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u32>,
}

/// The same, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub client: Option<Cidr>,
    pub client_port: Option<u16>,
    pub vip: Option<IpAddr>,
    pub vip_port: Option<u16>,
    /// The name, and its service if that was given.
    pub backend: Option<(Option<String>, String)>,
    pub from: Option<From>,
    /// `None`: everything about VIPs.
    pub counters: Option<Vec<Counter>>,
    pub count: Option<u64>,
    pub duration: Duration,
    pub rate: u32,
    /// `None`: as the one who asks needs it.
    pub snap: Option<u32>,
}

impl PacketQuery {
    /// # Errors
    /// What is wrong with a value.
    pub fn wish(&self) -> Result<Wish, String> {
        let (client, client_port) = match &self.client {
            Some(text) => client(text).map(|(range, port)| (Some(range), port))?,
            None => (None, None),
        };
        let (vip, vip_port) = match &self.vip {
            Some(text) => end("vip", text).map(|(address, port)| (Some(address), port))?,
            None => (None, None),
        };
        if client_port == Some(0) || vip_port == Some(0) {
            return Err("a port is from 1 to 65535".to_owned());
        }
        let rate = self.rate.unwrap_or(DEFAULT_RATE);
        if !(1..=MAX_RATE).contains(&rate) {
            return Err(format!("the rate must be from 1 to {MAX_RATE} packets in a second"));
        }
        if self.count == Some(0) {
            return Err("the count must be at least 1".to_owned());
        }
        if self.snap.is_some_and(|snap| !(MIN_SNAP..=MAX_SNAP).contains(&snap)) {
            return Err(format!("of a frame {MIN_SNAP} to {MAX_SNAP} bytes can be kept"));
        }
        Ok(Wish {
            client,
            client_port,
            vip,
            vip_port,
            backend: self.backend.as_ref().map(|text| match text.split_once('/') {
                Some((service, backend)) => (Some(service.to_owned()), backend.to_owned()),
                None => (None, text.clone()),
            }),
            from: self.from.as_deref().map(from).transpose()?,
            counters: self.verdict.as_deref().map(counters).transpose()?,
            count: self.count,
            duration: self.duration.as_deref().map_or(Ok(DEFAULT_DURATION), span)?,
            rate,
            snap: self.snap,
        })
    }
}

/// For how long.
fn span(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() || duration > MAX_DURATION {
        return Err(format!("the duration must be up to {} s", MAX_DURATION.as_secs()));
    }
    Ok(duration)
}

fn from(text: &str) -> Result<From, String> {
    match text {
        "client" => Ok(From::Client),
        "backend" => Ok(From::Backend),
        _ => Err(format!("from is client or backend, not {text:?}")),
    }
}

/// Those that names stand for.
fn counters(text: &str) -> Result<Vec<Counter>, String> {
    let mut found = Vec::new();
    for word in text.split(',') {
        let before = found.len();
        let all = Counter::ALL.iter().copied();
        found.extend(
            all.filter(|counter| counter.name() == word || Class::of(*counter).as_str() == word),
        );
        if found.len() == before {
            let classes = Class::ALL.map(Class::as_str).join(", ");
            return Err(format!("{word:?} is neither a verdict ({classes}) nor a counter"));
        }
    }
    Ok(found)
}

/// A range, or an address and its port.
fn client(text: &str) -> Result<(Cidr, Option<u16>), String> {
    if text.contains('/') {
        return range(text).map(|range| (range, None));
    }
    let (address, port) = end("client", text)?;
    Ok((Cidr::containing(address, u8::MAX), port))
}

/// An address, and its port if it has one.
///
/// # Errors
/// What would be right, of `what`.
pub(super) fn end(what: &str, text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Ok((end.ip(), Some(end.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().map_err(|_| {
        format!("{what} {text:?} is no address; write 10.0.0.2, 10.0.0.2:40000 or [fd00::2]:40000")
    })?;
    Ok((address, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut PacketQuery)) -> Result<Wish, String> {
        let mut query = PacketQuery::default();
        change(&mut query);
        query.wish()
    }

    #[test]
    fn without_a_filter_it_is_bounded_all_the_same() {
        let wish = wish(|_| ()).unwrap();
        assert_eq!((wish.duration, wish.rate), (DEFAULT_DURATION, DEFAULT_RATE));
        assert!(wish.client.is_none() && wish.counters.is_none());
    }

    #[test]
    fn a_client_is_a_range_an_address_or_both_with_a_port() {
        for (text, range, port) in [
            ("10.0.0.0/8", "10.0.0.0/8", None),
            ("10.0.0.2", "10.0.0.2/32", None),
            ("10.0.0.2:40000", "10.0.0.2/32", Some(40_000)),
            ("[fd00::2]:40000", "fd00::2/128", Some(40_000)),
        ] {
            let wish = wish(|query| query.client = Some(text.to_owned())).unwrap();
            assert_eq!(
                (wish.client.unwrap().to_string().as_str(), wish.client_port),
                (range, port)
            );
        }
    }

    #[test]
    fn verdicts_are_classes_or_counters() {
        let of = |text: &str| wish(|query| query.verdict = Some(text.to_owned()));
        let found = of("drop_fragment,redirect").unwrap().counters.unwrap();
        let expected = [
            Counter::DropFragment,
            Counter::RedirectRequest,
            Counter::RedirectReply,
            Counter::RedirectIcmpError,
        ];
        assert_eq!(found, expected);
        assert!(of("drops").is_err() && of("").is_err() && of("drop,").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let text = |text: &str| Some(text.to_owned());
        assert!(wish(|query| query.client = text("cp1")).is_err());
        assert!(wish(|query| query.client = text("10.0.0.2:0")).is_err());
        assert!(wish(|query| query.vip = text("10.0.0.0/8")).is_err());
        assert!(wish(|query| query.from = text("me")).is_err());
        assert!(wish(|query| query.count = Some(0)).is_err());
        assert!(wish(|query| query.snap = Some(MIN_SNAP - 1)).is_err());
        assert!(wish(|query| query.snap = Some(MAX_SNAP + 1)).is_err());
        assert!(wish(|query| query.rate = Some(0)).is_err());
        assert!(wish(|query| query.rate = Some(MAX_RATE + 1)).is_err());
        assert!(wish(|query| query.duration = text("0s")).is_err());
        assert!(wish(|query| query.duration = text("2h")).is_err());
        assert!(wish(|query| query.duration = text("long")).is_err());
    }

    #[test]
    fn every_counter_has_its_class() {
        for counter in Counter::ALL {
            assert!(counter.name().starts_with(Class::of(*counter).as_str()));
        }
    }
}
