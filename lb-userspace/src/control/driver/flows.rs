//! The controller's dealings with flows: resets those of backends that are lost, forgets what is over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use lb_common::backend::BackendId;
use lb_common::conntrack::Timeouts;
use lb_common::time::Ticks;

use super::Controller;
use crate::control::desired::DesiredBackend;
use crate::control::idle_reset::Event;
use crate::control::plan::MapOp;
use crate::datapath::now::monotonic;
use crate::datapath::sweep::Facts;
use crate::datapath::sweep::elsewhere::Standing;
use crate::health::{BackendKey, HealthTable};

/// Between two looks at who serves which VIP.
const NOTE_INTERVAL: u32 = Ticks::in_ns(100_000_000);

impl Controller {
    /// Resets the clients of backends that are dead or whose drain is over: flows of an older epoch are
    /// answered with RST at their next segment; who is idle is told before.
    pub fn give_up(&mut self, now: Instant) -> anyhow::Result<()> {
        self.give_up_local(now);
        let mut due = Vec::new();
        let served = self.served_vips();
        let table = self.health_table.borrow();
        for service in &self.desired.services {
            let Some(config) = self.config.services.iter().find(|c| c.name == service.name) else {
                continue;
            };
            // Its connections are another node's to give up: what is down here may be down for this node alone,
            // whose link was, perhaps.
            if served.is_disjoint(&service.vips.iter().copied().collect()) {
                self.give_up.leave(&service.name);
                continue;
            }
            let is_hard = |backend: &_| is_hard(&table, &service.name, backend);
            due.extend(self.give_up.due(config, service, is_hard, now));
        }
        drop(table);
        let mut stale = BTreeSet::new();
        for (service, name) in due {
            log::warn!("{service}/{name}: giving up its connections; their clients are reset");
            stale.extend(self.bump_epoch(&service, &name)?);
        }
        if !stale.is_empty() {
            self.idle.handle(Event::Stale(stale), now);
        }
        Ok(())
    }

    /// When the next backend is to be given up.
    pub fn give_up_deadline(&self, now: Instant) -> Option<Instant> {
        self.give_up.deadline(now).into_iter().chain(self.local_give_up.deadline(now)).min()
    }

    fn bump_epoch(&mut self, service: &str, name: &str) -> anyhow::Result<Option<BackendId>> {
        let Some((service, endpoint)) = self.config.services.iter().find_map(|candidate| {
            let mut backends = candidate.backends.iter();
            let backend = backends.find(|b| candidate.name == service && b.name == name)?;
            Some((candidate, backend.endpoint()))
        }) else {
            return Ok(None);
        };
        let Some(id) = self.backend_ids().get(&service.name, endpoint) else { return Ok(None) };
        let Some(backend) = self.installed.backends.get_mut(&id) else { return Ok(None) };
        backend.epoch = backend.epoch.wrapping_add(1);
        let backend = *backend;
        self.datapath.maps.apply(&[MapOp::SetBackend { id, backend }])?;
        Ok(Some(id))
    }

    /// Sweeps one slice of the tables of flows; `true`: a pass is complete.
    pub fn sweep(&mut self, now: Ticks, instant: Instant) -> anyhow::Result<bool> {
        self.note_standings(now)?;
        let (timeouts, elsewhere) = (&self.timeouts(), &self.elsewhere);
        let (backends, capacity) = (&self.installed.backends, self.datapath.sizes().limits.flows);
        let facts = Facts { timeouts, backends, elsewhere, capacity, now };
        let Some(mut census) = self.sweep.slice(&self.datapath.maps, &facts) else {
            return Ok(false);
        };
        self.find_idle(std::mem::take(&mut census.stale), instant);
        self.find_unheard(std::mem::take(&mut census.unheard), instant);
        self.clients.note(std::mem::take(&mut census.clients));
        self.before = std::mem::replace(&mut self.census, census);
        Ok(true)
    }

    /// Which VIPs are served here, and of which a peer tells, as far as somebody asks.
    fn note_standings(&mut self, now: Ticks) -> anyhow::Result<()> {
        if !self.datapath.maps.removals.is_wanted()
            || now.since(self.standings_noted) < NOTE_INTERVAL
        {
            return Ok(());
        }
        self.standings_noted = now;
        let moment = monotonic();
        for (vip, index) in &self.installed.vips {
            let Ok(lease) = u16::try_from(*index) else { continue };
            let standing = if self.datapath.maps.may_forward(*index, moment)? {
                Standing::Here
            } else if self.told.contains(vip) {
                Standing::Told
            } else {
                Standing::Silent
            };
            self.elsewhere.note(lease, standing, now);
            let answers = self.datapath.maps.may_answer(*index, moment)?;
            self.elsewhere.note_answers(lease, answers, now);
        }
        Ok(())
    }

    /// The VIPs of whose flows a peer tells.
    pub fn told_of(&mut self, vips: BTreeSet<IpAddr>) {
        self.told = vips;
    }

    pub(super) fn timeouts(&self) -> BTreeMap<u32, Timeouts> {
        let services = self.installed.services.values();
        services.map(|service| (service.id, service.timeouts)).collect()
    }
}

/// The last probe found the backend dead, not only unwell.
pub(super) fn is_hard(table: &HealthTable, service: &str, backend: &DesiredBackend) -> bool {
    let key = BackendKey {
        service: service.to_owned(),
        backend: backend.name.clone(),
        endpoint: SocketAddr::new(backend.address, backend.port),
    };
    table.get(&key).is_some_and(|report| report.is_hard())
}
