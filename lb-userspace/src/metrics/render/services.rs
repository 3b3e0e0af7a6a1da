//! Services and their backends. Pure.

use std::fmt;

use super::super::families as family;
use super::super::write::{Writer, truth};
use super::{MAX_BACKENDS, MAX_SERVICES, Readings, seconds};
use crate::admin::model::{Backend, Service, State, Status};
use crate::health::{BackendKey, Health};

/// A backend, and the name of its service.
pub(super) type Named<'a> = (&'a str, &'a Backend);

pub(super) fn write(writer: &mut Writer<'_>, readings: &Readings) -> fmt::Result {
    let Readings { status, latencies, connects, .. } = readings;
    let services = || written_services(status);
    let all: Vec<Named<'_>> = written_backends(status).collect();
    writer.gauges(&family::SERVICE_BACKENDS, services().flat_map(by_state))?;
    let panics = services().map(|service| ([&*service.name], truth(service.panic)));
    writer.gauges(&family::SERVICE_PANIC, panics)?;
    let alarms = services().map(|service| ([&*service.name], service.alarms.len() as f64));
    writer.gauges(&family::SERVICE_ALARMS, alarms)?;
    states(writer, &all)?;
    traffic(writer, &all)?;
    let connects = all.iter().filter_map(|(service, backend)| {
        Some(([*service, &*backend.name], connects.get(&backend.id)?))
    });
    writer.connects(&family::BACKEND_CONNECTS, connects)?;
    let probes = all.iter().filter_map(|(service, backend)| {
        let key = BackendKey {
            service: (*service).to_owned(),
            backend: backend.name.clone(),
            endpoint: backend.address,
        };
        Some(([*service, &*backend.name], latencies.get(&key)?))
    });
    writer.histograms(&family::BACKEND_PROBES, probes)
}

fn written_services(status: &Status) -> impl Iterator<Item = &Service> {
    status.services.iter().take(MAX_SERVICES)
}

/// Those that there are metrics of; of a service without metrics there are none.
pub(super) fn written_backends(status: &Status) -> impl Iterator<Item = Named<'_>> {
    written_services(status)
        .flat_map(|service| service.backends.iter().map(|backend| (&*service.name, backend)))
        .take(MAX_BACKENDS)
}

fn by_state(service: &Service) -> [([&str; 2], f64); State::ALL.len()] {
    State::ALL.map(|state| {
        let count = service.backends.iter().filter(|backend| backend.state == state).count();
        ([&*service.name, state.as_str()], count as f64)
    })
}

fn states(writer: &mut Writer<'_>, all: &[Named<'_>]) -> fmt::Result {
    let state = all.iter().map(|(service, it)| ([*service, &*it.name, ""], it.state.as_str()));
    writer.states(&family::BACKEND_STATE, &State::ALL.map(State::as_str), state)?;
    let health = all.iter().map(|(service, it)| ([*service, &*it.name, ""], it.health.as_str()));
    writer.states(&family::BACKEND_HEALTH, &Health::ALL.map(Health::as_str), health)?;
    let of = |value: fn(&Backend) -> f64| {
        all.iter().map(move |(service, it)| ([*service, &*it.name], value(it)))
    };
    writer.gauges(&family::BACKEND_SINCE, of(|it| seconds(&it.since)))?;
    writer.gauges(&family::BACKEND_WEIGHT, of(|it| it.effective_weight.into()))?;
    writer.gauges(&family::BACKEND_FLOWS, of(|it| it.connections as f64))
}

fn traffic(writer: &mut Writer<'_>, all: &[Named<'_>]) -> fmt::Result {
    let both = |values: fn(&Backend) -> [u64; 2]| {
        all.iter().flat_map(move |(service, it)| {
            let [requests, replies] = values(it);
            [("request", requests), ("reply", replies)]
                .map(|(direction, count)| ([*service, &*it.name, direction], count))
        })
    };
    writer
        .counters(&family::BACKEND_PACKETS, both(|it| [it.requests.packets, it.replies.packets]))?;
    writer.counters(&family::BACKEND_BYTES, both(|it| [it.requests.bytes, it.replies.bytes]))?;
    let of = |value: fn(&Backend) -> u64| {
        all.iter().map(move |(service, it)| ([*service, &*it.name], value(it)))
    };
    writer.counters(&family::BACKEND_OPENED, of(|it| it.opened))?;
    writer.counters(&family::BACKEND_CONFIRMED, of(|it| it.confirmed))?;
    writer.counters(&family::BACKEND_LOCAL, of(|it| it.local_connections))?;
    writer.counters(&family::BACKEND_RETRIED, of(|it| it.unanswered))?;
    writer.counters(&family::BACKEND_REFUSED, of(|it| it.refused))
}
