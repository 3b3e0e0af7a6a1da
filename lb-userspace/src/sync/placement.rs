//! A peer's flow as the halves of this node, by what is installed here, and back. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::addr::{Address, IpBe, PortBe, Ports};
use lb_common::backend::{BackendId, State};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::event::Progress;
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;
use lb_common::nat::{Kind, Translation};
use lb_common::time::Ticks;

use super::record::{FlowId, FlowRecord, socket};
use crate::control::plan::Installed;

/// What the addresses of flows stand for on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// By VIP and port.
    services: BTreeMap<SocketAddr, ServicePlace>,
    /// By service and endpoint.
    backends: BTreeMap<(u16, SocketAddr), BackendPlace>,
    /// VIPs, SNAT addresses among them, and the index of each one's lease.
    vips: BTreeMap<IpAddr, u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServicePlace {
    id: u16,
    vip: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BackendPlace {
    id: BackendId,
    epoch: u16,
    /// On this node.
    local: bool,
}

impl BackendPlace {
    /// Of a flow of this kind. A backend on this node never sees what comes from an address of ours, so that a
    /// flow whose requests do is given up as soon as its VIP is served here: its client is told.
    const fn epoch_for(&self, kind: Kind) -> u16 {
        match kind {
            Kind::Nat if self.local => self.epoch.wrapping_sub(1),
            Kind::Nat | Kind::Dnat | Kind::Dsr => self.epoch,
        }
    }
}

/// Why a flow is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No service has its VIP and port.
    UnknownService,
    /// The service has no such backend.
    UnknownBackend,
    /// Its source is no VIP, or not what its kind says.
    UnknownSource,
    /// Its addresses are of both families, or it has too many halves or too few.
    Malformed,
    /// The table has no room.
    NoRoom,
    /// Another flow, which this node serves, has its SNAT port.
    PortTaken,
    /// This node serves it, and knows better.
    Own,
}

impl Refusal {
    pub const ALL: [Self; 7] = [
        Self::UnknownService,
        Self::UnknownBackend,
        Self::UnknownSource,
        Self::Malformed,
        Self::NoRoom,
        Self::PortTaken,
        Self::Own,
    ];

    /// As counters are labelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownService => "unknown_service",
            Self::UnknownBackend => "unknown_backend",
            Self::UnknownSource => "unknown_source",
            Self::Malformed => "malformed",
            Self::NoRoom => "no_room",
            Self::PortTaken => "port_taken",
            Self::Own => "own",
        }
    }
}

/// A flow as the maps hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves<A> {
    pub original: (FlowKey<A>, FlowHalf<A>),
    /// `None` in `dsr`.
    pub reply: Option<(FlowKey<A>, FlowHalf<A>)>,
}

impl Places {
    /// Backends that are gone from the configuration get no flows: their numbers are about to be free.
    pub fn of(installed: &Installed) -> Self {
        let number = |number: u32| u16::try_from(number).ok();
        let services = installed.services.iter().filter_map(|(key, service)| {
            let place = ServicePlace { id: number(service.id)?, vip: number(service.vip)? };
            Some((socket(key.address, key.port), place))
        });
        let is_used = |state| State::from_u8(state) != Some(State::Removed);
        let backends = installed.backends.iter().filter(|(_, it)| is_used(it.state));
        let backends = backends.filter_map(|(id, it)| {
            let key = (number(it.service)?, socket(it.endpoint.address, it.endpoint.port));
            Some((key, BackendPlace { id: *id, epoch: it.epoch, local: it.is_local() }))
        });
        let vips = installed.vips.iter();
        Self {
            services: services.collect(),
            backends: backends.collect(),
            vips: vips.filter_map(|(vip, index)| Some((*vip, number(*index)?))).collect(),
        }
    }

    /// Index of the lease of a flow's VIP.
    pub fn lease(&self, id: &FlowId) -> Option<u16> {
        self.services.get(&id.vip).map(|service| service.vip)
    }

    /// The halves of a peer's flow. The way to its client is left to its next segments.
    ///
    /// # Errors
    /// It means nothing here.
    pub fn halves<A: Address>(
        &self,
        record: &FlowRecord,
        now: Ticks,
    ) -> Result<Halves<A>, Refusal> {
        let FlowRecord { id: FlowId { client, vip }, kind, source, backend, .. } = *record;
        let ends = [client, vip, source, backend];
        if ends.iter().any(|end| end.is_ipv4() != client.is_ipv4())
            || record.reply.is_none() != (kind == Kind::Dsr)
        {
            return Err(Refusal::Malformed);
        }
        let service = self.services.get(&vip).ok_or(Refusal::UnknownService)?;
        let place = self.backends.get(&(service.id, backend)).ok_or(Refusal::UnknownBackend)?;
        // Replies are under the lease of the address that they come to.
        let source_vip = match kind {
            Kind::Nat => *self.vips.get(&source.ip()).ok_or(Refusal::UnknownSource)?,
            Kind::Dnat | Kind::Dsr if source == client => service.vip,
            Kind::Dnat | Kind::Dsr => return Err(Refusal::UnknownSource),
        };
        let key = key(client, vip);
        let reply_key = key_of_reply(kind, &key, backend, source);
        let base = Base { kind, service: service.id, place: *place, now };
        let reply = record.reply.unwrap_or_default();
        let mut original = base.half(&key, &reply_key.reversed(), &record.original, &reply);
        original.flags |= flag::ORIGINAL;
        original.vip = service.vip;
        let reply = record.reply.map(|progress| {
            let mut half = base.half(&reply_key, &key.reversed(), &progress, &record.original);
            half.vip = source_vip;
            (reply_key, half)
        });
        Ok(Halves { original: (key, original), reply })
    }
}

fn key_of_reply<A: Address>(
    kind: Kind,
    key: &FlowKey<A>,
    backend: SocketAddr,
    source: SocketAddr,
) -> FlowKey<A> {
    match kind {
        Kind::Nat | Kind::Dnat => self::key(backend, source),
        Kind::Dsr => key.reversed(),
    }
}

/// Key of a flow, of packets between these ends. Both are of the family.
pub fn key<A: Address>(src: SocketAddr, dst: SocketAddr) -> FlowKey<A> {
    let address = |end: SocketAddr| A::from_ip(IpBe::new(end.ip()));
    let ports = Ports::new(PortBe::new(src.port()), PortBe::new(dst.port()));
    FlowKey::new(address(src), address(dst), ports)
}

/// What both halves of a flow have in common.
struct Base {
    kind: Kind,
    service: u16,
    place: BackendPlace,
    now: Ticks,
}

impl Base {
    fn half<A: Address>(
        &self,
        key: &FlowKey<A>,
        to: &FlowKey<A>,
        own: &Progress,
        peer: &Progress,
    ) -> FlowHalf<A> {
        let mut flags = own.flags & Progress::FLAGS | flag::SYN | flag::CONFIRMED | flag::REPLICA;
        for (bit, seen) in [(flag::FIN, flag::PEER_FIN), (flag::RST, flag::PEER_RST)] {
            if peer.flags & bit != 0 {
                flags |= seen;
            }
        }
        FlowHalf {
            translation: Translation::new(key, to),
            flags,
            seq_end: own.seq_end,
            ack: own.ack,
            fin_end: own.fin_end,
            backend: self.place.id,
            epoch: self.place.epoch_for(self.kind),
            vip: 0,
            service: self.service,
            kind: self.kind as u8,
            attempts: 0,
            last_seen: self.now,
            checked: self.now,
            next_hop: NextHop::UNKNOWN,
            #[cfg(feature = "second-layout")]
            later: 0,
        }
    }
}

/// A flow of this node for a peer. `reply` is `None` in `dsr`, whose packets don't tell their `backend`;
/// `None`: it lacks a half, or is of a kind that this version does not know.
pub fn record<A: Address>(
    key: &FlowKey<A>,
    original: &FlowHalf<A>,
    reply: Option<&FlowHalf<A>>,
    backend: SocketAddr,
) -> Option<FlowRecord> {
    let kind = Kind::from_u8(original.kind)?;
    if reply.is_none() != (kind == Kind::Dsr) {
        return None;
    }
    let to = original.translation.key();
    Some(FlowRecord {
        id: id(key),
        kind,
        source: socket(to.src.ip(), to.ports.src()),
        backend: match kind {
            Kind::Nat | Kind::Dnat => socket(to.dst.ip(), to.ports.dst()),
            Kind::Dsr => backend,
        },
        original: Progress::of(original),
        reply: reply.map(Progress::of),
    })
}

/// Likewise by the original half alone, which knows of the other one only whether it is closing.
pub fn outline<A: Address>(
    key: &FlowKey<A>,
    original: &FlowHalf<A>,
    backend: SocketAddr,
) -> Option<FlowRecord> {
    if original.is_alone() {
        return record(key, original, None, backend);
    }
    let mut reply = FlowHalf { flags: 0, seq_end: 0, ack: 0, fin_end: 0, ..*original };
    for (bit, seen) in [(flag::FIN, flag::PEER_FIN), (flag::RST, flag::PEER_RST)] {
        if original.has(seen) {
            reply.flags |= bit;
        }
    }
    record(key, original, Some(&reply), backend)
}

/// The flow that an original half is found by.
pub fn id<A: Address>(key: &FlowKey<A>) -> FlowId {
    FlowId {
        client: socket(key.src.ip(), key.ports.src()),
        vip: socket(key.dst.ip(), key.ports.dst()),
    }
}

#[cfg(test)]
mod tests;
