//! What is looked for among packets, and what is said of one. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use lb_common::addr::{Address, IpBe, PortBe};
use lb_common::counters::Counter;
use lb_common::rate::RateLimit;
use lb_common::time::Ticks;
use lb_common::trace::{BackendAt, Filter, Halves, MAX_BACKENDS, Record, found, side};

use super::flows::{Directory, Facts};
use crate::admin::model::packet::{Class, From, Packet, Wish};
use crate::admin::model::rfc3339_nanos;
use crate::config::Cidr;

mod frame;
mod pcapng;
mod reason;

pub use frame::describe as describe_frame;
pub use pcapng::Capture;
pub use reason::reason;

/// Bytes of a frame that its headers fit into: Ethernet, two tags, IPv6 with extensions, TCP with options.
pub const HEADERS: u32 = 256;

/// Packets at once, as a part of those in a second.
const BURST: u32 = 10;

/// What the programs are told of a wish.
///
/// # Errors
/// What it names does not exist, or too much has that name.
pub fn filter(wish: &Wish, directory: &Directory, snap: u32) -> Result<Filter, String> {
    let mut filter = Filter {
        counters: wish.counters.as_ref().map_or(Filter::ALL.counters, bits),
        leaving: bits(Counter::ALL.iter().filter(|counter| Class::of(**counter).is_sent())),
        limit: RateLimit::new(wish.rate, (wish.rate / BURST).max(1)),
        client_port: PortBe::new(wish.client_port.unwrap_or(0)),
        vip_port: PortBe::new(wish.vip_port.unwrap_or(0)),
        vip: wish.vip.map_or(IpBe::UNSPECIFIED, IpBe::new),
        snap,
        sides: match wish.from {
            None => side::BOTH,
            Some(From::Client) => side::REQUEST,
            Some(From::Backend) => side::REPLY,
        },
        ..Filter::ALL
    };
    if let Some(Cidr { network, prefix_len }) = wish.client {
        filter.client = IpBe::new(network);
        filter.client_mask = IpBe::mask(IpBe::prefix_bits(network, prefix_len));
    }
    if let Some((service, name)) = &wish.backend {
        let backends = backends(directory, service.as_deref(), name)?;
        for (slot, backend) in filter.backends.iter_mut().zip(backends) {
            *slot = backend;
        }
    }
    Ok(filter)
}

fn bits<'a>(counters: impl IntoIterator<Item = &'a Counter>) -> u64 {
    counters.into_iter().fold(0, |bits, counter| bits | Filter::bit(*counter))
}

fn backends(
    directory: &Directory,
    service: Option<&str>,
    name: &str,
) -> Result<Vec<BackendAt>, String> {
    let shown = service.map_or_else(|| name.to_owned(), |service| format!("{service}/{name}"));
    let mut found = Vec::new();
    for (id, names) in &directory.backends {
        if names.name != name || service.is_some_and(|service| names.service != service) {
            continue;
        }
        let at = directory.installed.get(id).map(|it| it.address);
        found.push(BackendAt {
            id: *id,
            address: at.map_or(IpBe::UNSPECIFIED, |at| IpBe::new(at.ip())),
            port: PortBe::new(at.map_or(0, |at| at.port())),
            ..BackendAt::default()
        });
    }
    match found.len() {
        0 => Err(format!("there is no backend {shown}")),
        1..=MAX_BACKENDS => Ok(found),
        count => Err(format!("{count} backends are called {shown}: give SERVICE/BACKEND")),
    }
}

/// What the numbers in records stand for, and how their clock is related to the day's.
#[derive(Clone, Debug)]
pub struct Context {
    pub directory: Directory,
    /// Names of interfaces by the kernel's numbers.
    pub interfaces: BTreeMap<u32, String>,
    /// When CLOCK_MONOTONIC was 0.
    pub epoch: SystemTime,
}

/// A packet in words and numbers. `came` and `left` are what was captured of the frames.
pub fn describe(record: &Record, came: &[u8], left: &[u8], context: &Context) -> Packet {
    let counter = usize::try_from(record.counter).ok().and_then(|it| Counter::ALL.get(it).copied());
    let verdict = counter.map_or(Class::Drop, Class::of);
    let now = Ticks::from_ns(record.left);
    let facts = match (record.v4(), record.v6()) {
        (Some(halves), _) => facts(record, halves, now),
        (None, Some(halves)) => facts(record, halves, now),
        (None, None) => None,
    };
    let from = if record.has(found::FROM_BACKEND) { From::Backend } else { From::Client };
    Packet {
        time: rfc3339_nanos(context.epoch + Duration::from_nanos(record.entered)),
        spent_ns: record.left.saturating_sub(record.entered),
        interface: context.interfaces.get(&record.ifindex).cloned(),
        cpu: record.cpu,
        verdict,
        counter: counter.map_or("unknown", Counter::name).to_owned(),
        reason: counter.map_or("a verdict of a later version", reason).to_owned(),
        from: facts.is_some().then_some(from),
        opens_flow: facts.is_some() && !record.has(found::BEFORE),
        came: describe_frame(came, record.length_in),
        left: (record.captured_out > 0).then(|| describe_frame(left, record.length_out)),
        flow: facts.map(|facts| context.directory.describe(&facts)),
    }
}

/// `None`: the packet is of no flow.
fn facts<A: Address>(record: &Record, halves: &Halves<A>, now: Ticks) -> Option<Facts> {
    let Halves { key, original, reply } = halves;
    let reply = record.has(found::REPLY).then_some(reply);
    record.has(found::FLOW).then(|| Facts::of(key, original, reply, now))
}

#[cfg(test)]
mod tests;
