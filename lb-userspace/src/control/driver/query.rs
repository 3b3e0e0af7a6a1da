//! The controller's answers to questions of the API.

use std::collections::BTreeMap;

use lb_common::backend::BackendId;
use lb_common::trace::Filter;

use super::Controller;
use crate::admin::model::flows::Purged;
use crate::admin::model::packet::Wish;
use crate::admin::model::{Configuration, EffectiveConfig};
use crate::admin::query::{FlowView, PacketView, Query};
use crate::config::show::{Shown, show};
use crate::control::flows::{BackendNames, Directory, Named};
use crate::control::packets;
use crate::datapath::flows::{self, FlowReader};
use crate::datapath::now::monotonic;
use crate::datapath::stale::Flow;
use crate::flow_log::Why;

impl Controller {
    /// Answers a question; who asked may have gone.
    pub fn answer(&mut self, query: Query) {
        match query {
            Query::Flows { reply } => drop(reply.send(Ok(self.flow_view()))),
            Query::ResetFlows { flows, unused, reply } => {
                drop(reply.send(said(self.reset_flows(&flows, unused))));
            }
            Query::Config { reply } => drop(reply.send(self.shown())),
            Query::Follow { wish, snap, reply } => {
                drop(reply.send(said(self.follow(&wish, snap))));
            }
            Query::Trace { question, reply } => {
                drop(reply.send(said(self.traces(&question))));
            }
        }
    }

    fn shown(&self) -> Result<EffectiveConfig, String> {
        let Shown { yaml, json: config, hidden } = show(&self.config)?;
        let Configuration { path, loaded } = self.status.configuration.clone();
        Ok(EffectiveConfig { path, loaded, yaml, config, hidden })
    }

    fn flow_view(&self) -> FlowView {
        let source = Box::new(FlowReader::new(&self.datapath.maps));
        FlowView { directory: self.directory(), source }
    }

    fn follow(&mut self, wish: &Wish, snap: u32) -> anyhow::Result<PacketView> {
        let directory = self.directory();
        let until = u64::try_from(wish.duration.as_nanos()).unwrap_or(u64::MAX);
        let until = monotonic().saturating_add(until);
        let filter = packets::filter(wish, &directory, snap).map_err(anyhow::Error::msg)?;
        let followed = self.datapath.follow(&Filter { until, ..filter })?;
        let attachments = self.datapath.attachments().iter();
        let interfaces = attachments.map(|(name, it)| (it.ifindex, name.clone())).collect();
        Ok(PacketView { directory, interfaces, packets: followed })
    }

    fn directory(&self) -> Directory {
        let ids = self.backend_ids();
        let names: BTreeMap<BackendId, BackendNames> = self
            .config
            .services
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .filter_map(|(service, backend)| {
                let id = ids.get(&service.name, backend.endpoint())?;
                let (service, name) = (service.name.clone(), backend.name.clone());
                Some((id, BackendNames { service, name }))
            })
            .collect();
        let timeouts = self.timeouts();
        let services = ids.services().map(|(name, id)| {
            let timeouts = timeouts.get(&id).copied().unwrap_or_default();
            (id, Named { name: name.to_owned(), timeouts })
        });
        let installed = self.installed.backends.iter();
        Directory {
            services: services.collect(),
            backends: names,
            installed: installed.map(|(id, it)| (*id, it.into())).collect(),
        }
    }

    /// By the operator's order: whether or not another backend could take the clients.
    fn reset_flows(&self, found: &[Flow], unused: bool) -> anyhow::Result<Purged> {
        let maps = &self.datapath.maps;
        let mut purged = Purged::default();
        for flow in found {
            let Some(flow) = flows::refreshed(maps, flow, unused) else { continue };
            let reset = self.reset(&flow, monotonic(), Why::Purged)?;
            // A segment that came after the RST kept the flow.
            let removed = flows::remove(maps, &flow);
            purged.reset += u64::from(reset);
            purged.removed += u64::from(reset || removed);
        }
        Ok(purged)
    }
}

fn said<T>(outcome: anyhow::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| format!("{error:#}"))
}
