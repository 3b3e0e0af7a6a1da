//! What a flow's halves amount to, by names: for the API's lists of flows. Pure.
//!
//! A query asks the controller for a [`Directory`] once, and judges every flow by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::addr::{Address, Endpoint, PortBe};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{FlowHalf, TcpState, Timeouts, flag};
use lb_common::flow::FlowKey;
use lb_common::nat::Kind;
use lb_common::time::Ticks;

use crate::admin::model::flows::{Closed, Flow, FlowState, Side};
use crate::config::Cidr;

/// What the flows' numbers stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// By [`lb_common::service::Service::id`].
    pub services: BTreeMap<u32, Named>,
    /// Backends that are configured; who is gone has flows still.
    pub backends: BTreeMap<BackendId, BackendNames>,
    /// Every backend that there is for the datapath.
    pub installed: BTreeMap<BackendId, InstalledBackend>,
}

/// A backend as the datapath has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstalledBackend {
    pub epoch: u16,
    pub address: SocketAddr,
}

impl From<&Backend> for InstalledBackend {
    fn from(backend: &Backend) -> Self {
        let Endpoint { address, port, .. } = backend.endpoint;
        Self { epoch: backend.epoch, address: SocketAddr::new(address.get(), port.get()) }
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub timeouts: Timeouts,
}

/// A backend and its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendNames {
    pub service: String,
    pub name: String,
}

/// A flow as its halves say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    /// Where its requests come from, for the backend.
    pub source: SocketAddr,
    pub endpoint: SocketAddr,
    pub service: u32,
    pub backend: BackendId,
    pub epoch: u16,
    /// `None`: of a version that knew more kinds.
    pub kind: Option<Kind>,
    pub state: TcpState,
    /// [`Ticks`] since either direction was last seen.
    pub idle: u32,
    /// Who sent the first FIN.
    pub closed_first: Option<Side>,
    pub reset_by: Option<Side>,
    /// No reply has confirmed it.
    pub half_open: bool,
    pub attempts: u8,
}

impl Facts {
    /// `reply` is `None` in `dsr`, or if it is missing.
    pub fn of<A: Address>(
        key: &FlowKey<A>,
        original: &FlowHalf<A>,
        reply: Option<&FlowHalf<A>>,
        now: Ticks,
    ) -> Self {
        let to = original.translation.key();
        let last_seen = reply.map_or(original.last_seen, |it| it.last_seen.max(original.last_seen));
        let replied = |bit| reply.is_some_and(|reply| reply.has(bit));
        let side = |bit| {
            if original.has(bit) {
                Some(Side::Client)
            } else {
                replied(bit).then_some(Side::Backend)
            }
        };
        Self {
            client: socket(key.src, key.ports.src()),
            vip: socket(key.dst, key.ports.dst()),
            source: socket(to.src, to.ports.src()),
            endpoint: socket(to.dst, to.ports.dst()),
            service: original.service.into(),
            backend: original.backend,
            epoch: original.epoch,
            kind: Kind::from_u8(original.kind),
            state: match reply {
                Some(reply) => TcpState::of(original, reply),
                None => TcpState::of_original(original),
            },
            idle: now.since(last_seen),
            closed_first: side(if reply.is_some() { flag::FIN_FIRST } else { flag::FIN }),
            reset_by: side(flag::RST),
            half_open: !original.is_confirmed(),
            attempts: original.attempts,
        }
    }
}

/// An end of a connection.
pub fn socket<A: Address>(address: A, port: PortBe) -> SocketAddr {
    SocketAddr::new(address.ip().get(), port.get())
}

/// How long so many [`Ticks`] last.
pub const fn duration(ticks: u32) -> Duration {
    Duration::from_nanos((ticks as u64) << 20)
}

impl Directory {
    /// As the API shows it.
    pub fn describe(&self, facts: &Facts) -> Flow {
        let names = self.backends.get(&facts.backend);
        let service = self.services.get(&facts.service);
        let installed = self.installed.get(&facts.backend);
        let timeout = service.map(|service| {
            facts.state.timeout(facts.closed_first != Some(Side::Client), &service.timeouts)
        });
        Flow {
            client: facts.client,
            vip: facts.vip,
            service: service.map(|service| service.name.clone()),
            backend: names.map(|names| names.name.clone()),
            // In `dsr` packets keep the VIP as their destination.
            backend_address: installed.map_or(facts.endpoint, |it| it.address),
            source: facts.source,
            mode: facts.kind.map_or("unknown", mode).to_owned(),
            state: FlowState::from(facts.state),
            half_open: facts.half_open,
            idle_ms: millis(facts.idle),
            expires_in_ms: timeout.map(|timeout| millis(timeout.saturating_sub(facts.idle))),
            closed_first: Closed::by(facts.closed_first),
            reset_by: Closed::by(facts.reset_by),
            given_up: installed.is_some_and(|it| it.epoch != facts.epoch),
            attempts: facts.attempts,
        }
    }
}

pub const fn mode(kind: Kind) -> &'static str {
    match kind {
        Kind::Nat => "nat",
        Kind::Dnat => "dnat",
        Kind::Dsr => "dsr",
    }
}

fn millis(ticks: u32) -> u64 {
    u64::try_from(duration(ticks).as_millis()).unwrap_or(u64::MAX)
}

/// Which flows are asked for; what is `None` excludes none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub service: Option<String>,
    /// The name, and its service if that was given.
    pub backend: Option<(Option<String>, String)>,
    pub client: Option<Cidr>,
    pub state: Option<FlowState>,
    /// Idle for at least so long.
    pub older_than: Option<Duration>,
}

/// A filter whose names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    services: Option<BTreeSet<u32>>,
    backends: Option<BTreeSet<BackendId>>,
    filter: Filter,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// # Errors
    /// What it names does not exist.
    pub fn resolve(self, directory: &Directory) -> Result<Selector, String> {
        let services = self.service.as_ref().map(|name| {
            let services = directory.services.iter();
            found(services.filter(|(_, it)| it.name == *name).map(|(id, _)| *id))
                .ok_or_else(|| format!("there is no service {name}"))
        });
        let backends = self.backend.as_ref().map(|(service, name)| {
            let is_its = |it: &BackendNames| {
                it.name == *name && service.as_ref().is_none_or(|service| it.service == *service)
            };
            let shown = service.as_ref().map_or_else(|| name.clone(), |of| format!("{of}/{name}"));
            found(directory.backends.iter().filter(|(_, it)| is_its(it)).map(|(id, _)| *id))
                .ok_or_else(|| format!("there is no backend {shown}"))
        });
        Ok(Selector {
            services: services.transpose()?,
            backends: backends.transpose()?,
            filter: self,
        })
    }
}

fn found<T: Ord>(ids: impl Iterator<Item = T>) -> Option<BTreeSet<T>> {
    let ids: BTreeSet<T> = ids.collect();
    (!ids.is_empty()).then_some(ids)
}

impl Selector {
    pub fn matches(&self, facts: &Facts) -> bool {
        let Filter { client, state, older_than, .. } = &self.filter;
        self.services.as_ref().is_none_or(|services| services.contains(&facts.service))
            && self.backends.as_ref().is_none_or(|backends| backends.contains(&facts.backend))
            && client.is_none_or(|range| range.contains(&facts.client.ip()))
            && state.is_none_or(|state| state == FlowState::from(facts.state))
            && older_than.is_none_or(|longest| duration(facts.idle) >= longest)
    }

    /// A flow that is used again is no match any more.
    pub const fn is_about_idle(&self) -> bool {
        self.filter.older_than.is_some()
    }
}

#[cfg(test)]
mod tests;
