//! The controller's dealings with flows: resets those of backends that are lost, forgets what is over.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_common::conntrack::Timeouts;
use lb_common::time::Ticks;

use super::Controller;
use crate::control::plan::MapOp;

impl Controller {
    /// Resets the clients of backends that are dead or whose drain is over: flows of an older epoch are
    /// answered with RST.
    pub fn give_up(&mut self, now: Instant) -> anyhow::Result<()> {
        let table = self.health_table.borrow().clone();
        let mut due = Vec::new();
        for service in &self.desired.services {
            let Some(config) = self.config.services.iter().find(|c| c.name == service.name) else {
                continue;
            };
            let is_hard = |backend: &str| {
                let mut reports = table.iter();
                reports.any(|(key, report)| {
                    key.service == service.name && key.backend == backend && report.reason.is_hard()
                })
            };
            due.extend(self.give_up.due(config, service, is_hard, now));
        }
        for (service, name) in due {
            log::warn!("{service}/{name}: giving up its connections; their clients are reset");
            self.bump_epoch(&service, &name)?;
        }
        Ok(())
    }

    fn bump_epoch(&mut self, service: &str, name: &str) -> anyhow::Result<()> {
        let Some((service, endpoint)) = self.config.services.iter().find_map(|candidate| {
            let mut backends = candidate.backends.iter();
            let backend = backends.find(|b| candidate.name == service && b.name == name)?;
            Some((candidate, backend.endpoint()))
        }) else {
            return Ok(());
        };
        let Some(id) = self.backend_id(service, endpoint) else { return Ok(()) };
        if let Some(backend) = self.installed.backends.get_mut(&id) {
            backend.epoch = backend.epoch.wrapping_add(1);
            let backend = *backend;
            self.datapath.maps.apply(&MapOp::SetBackend { id, backend })?;
        }
        Ok(())
    }

    /// Sweeps one slice of the flow maps; `true`: a pass is complete.
    pub fn sweep(&mut self, now: Ticks) -> anyhow::Result<bool> {
        let timeouts = self.timeouts();
        let Some(census) = self.sweep.slice(&self.datapath.maps, &timeouts, now)? else {
            return Ok(false);
        };
        self.before = std::mem::replace(&mut self.census, census);
        Ok(true)
    }

    fn timeouts(&self) -> BTreeMap<u32, Timeouts> {
        let services = self.installed.services.values();
        services.map(|service| (service.id, service.timeouts)).collect()
    }
}
