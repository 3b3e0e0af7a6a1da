//! What of the configuration is installed already, such as by a predecessor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use lb_common::IPPROTO_TCP;
use lb_common::addr::{Endpoint, IpBe, PortBe};
use lb_common::backend::{Backend, BackendId, State};

use super::Controller;
use crate::config::{Config, Family};
use crate::control::desired::LastUp;
use crate::control::plan::{self, Installed};
use crate::datapath::sweep::Census;
use crate::health::Health;

impl Controller {
    /// Identifiers of the backends that are installed.
    pub(super) fn backend_ids(&self) -> BackendIds {
        let parts = self.config.services.iter().flat_map(|service| {
            let part = |family| {
                let id = installed_service(&self.installed, service, family)?;
                Some(((service.name.clone(), family), id))
            };
            service.families().filter_map(part).collect::<Vec<_>>()
        });
        let backends = self.installed.backends.iter();
        BackendIds {
            services: parts.collect(),
            backends: backends.map(|(id, it)| ((it.service, it.endpoint), *id)).collect(),
        }
    }

    /// What a predecessor found of a backend.
    pub(super) fn adopted_health(&self, id: Option<BackendId>) -> Health {
        let adopted = id.and_then(|id| self.installed.backends.get(&id));
        adopted.map_or(Health::Unknown, recorded_health)
    }
}

/// The record of a predecessor that wrote none is its state, as far as probes were its cause.
fn recorded_health(backend: &Backend) -> Health {
    let state = |number| match State::from_u8(number) {
        Some(State::Up) => Some(Health::Up),
        Some(State::Degraded) => Some(Health::Degraded),
        Some(State::Draining) => Some(Health::Draining),
        Some(State::Down) => Some(Health::Down),
        Some(State::Unknown) => Some(Health::Unknown),
        Some(State::Free | State::Disabled | State::Removed) | None => None,
    };
    state(backend.health).unwrap_or_else(|| match State::from_u8(backend.state) {
        // By an operator.
        Some(State::Draining | State::Disabled) => Health::Up,
        Some(
            State::Up
            | State::Degraded
            | State::Down
            | State::Unknown
            | State::Free
            | State::Removed,
        )
        | None => state(backend.state).unwrap_or(Health::Unknown),
    })
}

/// Identifiers by what the configuration says: there may be hundreds of thousands.
pub(super) struct BackendIds {
    services: BTreeMap<(String, Family), u32>,
    backends: BTreeMap<(u32, Endpoint), BackendId>,
}

impl BackendIds {
    /// Names of services, with the identifier of each family's part.
    pub(super) fn services(&self) -> impl Iterator<Item = (&str, u32)> {
        self.services.iter().map(|((name, _), id)| (name.as_str(), *id))
    }

    pub(super) fn get(&self, service: &str, at: SocketAddr) -> Option<BackendId> {
        let service = self.services.get(&(service.to_owned(), Family::of(&at.ip())))?;
        let endpoint = Endpoint::new(IpBe::new(at.ip()), PortBe::new(at.port()), IPPROTO_TCP);
        self.backends.get(&(*service, endpoint)).copied()
    }
}

/// What a predecessor left: until two passes have looked, flows may refer to all of it.
pub(super) fn everything(installed: &Installed) -> Census {
    let is_source = |backend: &Backend| {
        plan::may_contain(&installed.filters.sources, backend.endpoint.address.get())
    };
    let sources = installed.backends.iter().filter(|(_, backend)| is_source(backend));
    Census {
        referenced: installed.backends.keys().copied().collect(),
        replying: sources.map(|(id, _)| *id).collect(),
        ..Census::default()
    }
}

fn is_at(backend: &Backend, endpoint: SocketAddr) -> bool {
    backend.endpoint.address.get() == endpoint.ip()
        && backend.endpoint.port.get() == endpoint.port()
}

/// The identifier of the part of a service that an address of this family belongs to.
fn installed_service(
    installed: &Installed,
    service: &crate::config::Service,
    family: Family,
) -> Option<u32> {
    let mut services = installed.services.iter();
    services
        .find(|(key, _)| {
            let vip = key.address.get();
            key.port.get() == service.port
                && Family::of(&vip) == family
                && service.vips.contains(&vip)
        })
        .map(|(_, value)| value.id)
}

/// The backends that a predecessor's tables hold: what was up, or last was, when it ended.
pub(super) fn adopted_last_up(config: &Config, installed: &Installed, now: Instant) -> LastUp {
    let mut last_up = LastUp::new();
    for service in &config.services {
        let tables = service
            .families()
            .filter_map(|family| installed_service(installed, service, family))
            .filter_map(|id| installed.tables.get(&id));
        let ids: BTreeSet<_> = tables.flatten().collect();
        let endpoints: Vec<_> =
            ids.into_iter().filter_map(|id| installed.backends.get(id)).collect();
        let names: BTreeMap<_, _> = service
            .backends
            .iter()
            .filter(|backend| endpoints.iter().any(|found| is_at(found, backend.endpoint())))
            .map(|backend| (backend.name.clone(), now))
            .collect();
        if !names.is_empty() {
            last_up.insert(service.name.clone(), names);
        }
    }
    last_up
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_probes_said_is_adopted_whatever_operators_did() {
        let cases = [
            (State::Up, State::Up, Health::Up),
            (State::Degraded, State::Degraded, Health::Degraded),
            (State::Draining, State::Draining, Health::Draining),
            (State::Draining, State::Down, Health::Down),
            (State::Disabled, State::Up, Health::Up),
            (State::Disabled, State::Unknown, Health::Unknown),
            (State::Removed, State::Down, Health::Down),
            // Of a predecessor that recorded no health.
            (State::Up, State::Free, Health::Up),
            (State::Down, State::Free, Health::Down),
            (State::Draining, State::Free, Health::Up),
            (State::Free, State::Free, Health::Unknown),
        ];
        for (state, health, expected) in cases {
            let backend =
                Backend { state: state as u8, health: health as u8, ..Backend::default() };
            assert_eq!(recorded_health(&backend), expected, "{state:?} {health:?}");
        }
    }
}
