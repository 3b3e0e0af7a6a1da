//! What the controller has published, as text for Prometheus. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use lb_common::backend::BackendId;
use lb_common::connect::ConnectTimes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families as family;
use super::live::{Live, Task};
use super::write::{Writer, truth};
use crate::admin::model::Status;
use crate::health::BackendKey;

mod services;
mod sync;
mod vrrp;

/// Services whose metrics there are; of more, the first of the configuration.
pub const MAX_SERVICES: usize = 256;
/// Backends of all services together, likewise.
pub const MAX_BACKENDS: usize = 1024;
/// VIPs, instances of VRRP, peers of all instances, peers of `sync`, targets of `notify`: each.
pub const MAX_OTHERS: usize = 1024;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus's own, version 0.0.4, for who knows nothing else.
    Text,
}

impl Form {
    pub const ALL: [Self; 2] = [Self::OpenMetrics, Self::Text];

    /// The one that a client accepts, by its header (RFC 9110 section 12.5.1).
    pub fn accepted(accept: &str) -> Self {
        let is_old = accept.contains("text/plain") && !accept.contains("application/openmetrics");
        if is_old { Self::Text } else { Self::OpenMetrics }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Everything that is said.
#[derive(Clone, Debug)]
pub struct Readings {
    pub status: Arc<Status>,
    pub live: Live,
    /// Of probes.
    pub latencies: BTreeMap<BackendKey, Histogram>,
    /// How long backends take to answer a SYN.
    pub connects: BTreeMap<BackendId, ConnectTimes>,
}

/// All families in one text.
pub fn render(readings: Readings, form: Form) -> String {
    let mut registry = Registry::with_prefix(family::PREFIX);
    registry.register_collector(Box::new(readings));
    let mut written = String::new();
    let done = match form {
        Form::OpenMetrics => text::encode(&mut written, &registry),
        Form::Text => prometheus_text::encode(&mut written, &registry),
    };
    // A string takes everything. What lacks its end is refused by who reads it.
    done.map_or_else(|_| String::new(), |()| written)
}

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let writer = &mut Writer(encoder);
        self.controller(writer)?;
        self.omitted(writer)?;
        self.datapath(writer)?;
        services::write(writer, self)?;
        self.vips(writer)?;
        vrrp::write(writer, &self.status.vrrp)?;
        if let Some(sync) = &self.status.sync {
            sync::write(writer, sync)?;
        }
        self.main_loop(writer)?;
        self.listener(writer)?;
        self.notifications(writer)
    }
}

impl Readings {
    fn controller(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.info(&family::BUILD, [&self.status.version])?;
        writer.gauges(&family::START, one(seconds(&self.status.started)))?;
        writer.gauges(&family::READ, one(self.live.times().read))
    }

    fn omitted(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Status { services, vips, vrrp, notify, .. } = &*self.status;
        let backends: usize = services.iter().map(|service| service.backends.len()).sum();
        let written = services::written_backends(&self.status).count();
        let vrrp_peers = vrrp.iter().map(|instance| instance.peers.len()).sum();
        let sync_peers = self.status.sync.as_ref().map_or(0, |sync| sync.peers.len());
        let of = |kind, count: usize, bound| ([kind], count.saturating_sub(bound) as f64);
        let all = [
            of("services", services.len(), MAX_SERVICES),
            of("backends", backends, written),
            of("vips", vips.len(), MAX_OTHERS),
            of("vrrp_instances", vrrp.len(), MAX_OTHERS),
            of("vrrp_peers", vrrp_peers, MAX_OTHERS),
            of("sync_peers", sync_peers, MAX_OTHERS),
            of("notifications", notify.len(), MAX_OTHERS),
        ];
        writer.gauges(&family::OMITTED, all)
    }

    fn datapath(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Status { counters, flows, xdp, idle_resets, .. } = &*self.status;
        let packets = counters.iter().map(|(name, count)| (verdict_and_reason(name), *count));
        writer.counters(&family::PACKETS, packets)?;
        let by_state = |established: u64, half_open: u64| {
            [(["established"], established as f64), (["half_open"], half_open as f64)]
        };
        writer.gauges(&family::FLOWS, by_state(flows.established, flows.half_open))?;
        let limit = flows.capacity;
        writer.gauges(&family::FLOWS_LIMIT, by_state(limit.established, limit.half_open))?;
        writer.counters(&family::HALF_OPEN_EVICTED, [(none(), flows.half_open_evicted)])?;
        writer.counters(&family::IDLE_RESETS, [(none(), *idle_resets)])?;
        writer.gauges(&family::XDP, xdp.iter().map(|it| ([&*it.interface, &*it.mode], 1.0)))
    }

    fn vips(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let vips = || self.status.vips.iter().take(MAX_OTHERS);
        let owner = vips().map(|vip| ([vip.address.to_string()], truth(vip.owner)));
        writer.gauges(&family::VIP_OWNER, owner)?;
        let leases = vips().filter_map(|vip| Some(([vip.address.to_string()], vip.lease_ms?)));
        writer.gauges(&family::VIP_LEASE, leases.map(|(vip, left)| (vip, milliseconds(left))))
    }

    fn main_loop(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let live = &self.live;
        let busy = Task::ALL.map(|task| ([task.as_str()], live.busy(task)));
        writer.histograms(&family::LOOP, busy)?;
        writer.gauges(&family::RELOAD_SUCCESSFUL, one(truth(!live.times().is_refused)))?;
        let loaded = seconds(&self.status.configuration.loaded);
        writer.gauges(&family::RELOAD_TIME, one(loaded))?;
        let (applied, refused) = live.reloads();
        writer.counters(&family::RELOADS, [(["success"], applied), (["failure"], refused)])?;
        writer.histograms(&family::RELOAD_DURATION, [(none(), live.reload_duration())])?;
        writer.gauges(&family::OVERRIDES, one(self.status.overrides.len() as f64))
    }

    fn listener(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Some(listener) = &self.status.listener else { return Ok(()) };
        writer.gauges(&family::LISTENER_CONNECTIONS, one(listener.connections as f64))?;
        writer.counters(&family::LISTENER_REQUESTS, [(none(), listener.requests)])?;
        let refused = listener.refused.iter().map(|(reason, count)| ([&**reason], *count));
        writer.counters(&family::LISTENER_REFUSED, refused)
    }

    fn notifications(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let targets: Vec<_> =
            (0..MAX_OTHERS).map(|it| it.to_string()).zip(&self.status.notify).collect();
        let told = targets.iter().flat_map(|(number, it)| {
            let results =
                [("delivered", it.delivered), ("failed", it.failed), ("dropped", it.dropped)];
            results.map(|(result, count)| ([&**number, &*it.target, result], count))
        });
        writer.counters(&family::NOTIFICATIONS, told)?;
        let waiting =
            targets.iter().map(|(number, it)| ([&**number, &*it.target], it.waiting as f64));
        writer.gauges(&family::NOTIFICATIONS_WAITING, waiting)
    }
}

/// Every counter of the datapath is called so (`lb_common::counters`).
fn verdict_and_reason(name: &str) -> [&str; 2] {
    name.split_once('_').map_or([name, ""], |(verdict, reason)| [verdict, reason])
}

/// No labels.
const fn none() -> [&'static str; 0] {
    []
}

/// The sample of a family without labels.
const fn one(value: f64) -> [([&'static str; 0], f64); 1] {
    [(none(), value)]
}

/// Of what `model::rfc3339` wrote; 0 of anything else.
fn seconds(time: &str) -> f64 {
    time.parse::<Timestamp>().map_or(0.0, |time| time.as_millisecond() as f64 / 1e3)
}

const fn milliseconds(span: u64) -> f64 {
    span as f64 / 1e3
}

/// What `vrrp` counts, under its names in `status --json`.
#[cfg(test)]
pub(super) fn vrrp_counters() -> impl Iterator<Item = &'static str> {
    vrrp::COUNTERS.iter().map(|(name, _)| *name)
}
