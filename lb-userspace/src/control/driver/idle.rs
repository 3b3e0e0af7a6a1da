//! Tells idle clients of backends that were given up: does what `control::idle_reset` decides.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Context as _;
use lb_common::addr::{IpBe, PortBe};
use lb_common::backend::BackendId;
use lb_common::service::ServiceKey;

use super::Controller;
use crate::control::idle_reset::{Action, Event};
use crate::datapath::stale::{Flow, Message};
use crate::flow_log::Why;

impl Controller {
    /// When to call [`Self::tell_idle`], [`Self::end_disowned`] and [`Self::ask_unheard`].
    pub fn telling_deadline(&self) -> Option<Instant> {
        let all = [self.idle.deadline(), self.disowned.deadline(), self.unheard.deadline()];
        all.into_iter().flatten().min()
    }

    /// A pass of the sweep came by flows of these backends, from before they were given up.
    pub(super) fn find_idle(&mut self, stale: BTreeSet<BackendId>, now: Instant) {
        if stale.is_empty() {
            return;
        }
        let services = self.services_that_are_up();
        let is_up = |id: &BackendId| {
            self.installed.backends.get(id).is_some_and(|it| services.contains(&it.service))
        };
        let stale = stale.into_iter().filter(is_up).collect();
        self.idle.handle(Event::Stale(stale), now);
    }

    /// Searches a slice, or tells those whose turn it is.
    pub fn tell_idle(&mut self, now: Instant, now_ns: u64) -> anyhow::Result<()> {
        match self.idle.handle(Event::Deadline, now) {
            None => {}
            Some(Action::Search) => self.search_idle(now),
            Some(Action::Tell(flows)) => self.tell(&flows, now_ns)?,
        }
        Ok(())
    }

    fn search_idle(&mut self, now: Instant) {
        let (targets, backends) = (self.idle.targets(), &self.installed.backends);
        let is_stale = |id, epoch| {
            targets.contains(&id) && backends.get(&id).is_some_and(|it| it.epoch != epoch)
        };
        let (flows, complete) = self.search.slice(&self.datapath.maps, is_stale);
        self.idle.handle(Event::Found { flows, complete }, now);
    }

    fn tell(&mut self, flows: &[Flow], now_ns: u64) -> anyhow::Result<()> {
        // A RST must lead somewhere: things may have changed since the search.
        let services = self.services_that_are_up();
        for flow in flows {
            let backend = self.installed.backends.get(&flow.backend());
            if backend.is_some_and(|backend| services.contains(&backend.service))
                && self.reset(flow, now_ns, Why::GivenUp)?
            {
                self.status.idle_resets += 1;
            }
        }
        Ok(())
    }

    /// Resets a flow's client and forgets the flow. `false`: it is not for us, or not to be reached, or it has
    /// to say first where it is.
    pub(super) fn reset(&self, flow: &Flow, now_ns: u64, why: Why) -> anyhow::Result<bool> {
        let maps = &self.datapath.maps;
        if !maps.may_forward(flow.vip(), now_ns)? || !self.tell_end(flow)? {
            return Ok(false);
        }
        flow.forget(maps, why);
        Ok(true)
    }

    /// Sends a flow's client a RST. `false`: it has changed since, or its client is not to be reached, or was
    /// asked where it is: its answer gets the RST.
    pub(super) fn tell_end(&self, flow: &Flow) -> anyhow::Result<bool> {
        let message = flow.message(&self.datapath.maps).context("reading a flow")?;
        let Some(message) = message else { return Ok(false) };
        Ok(self.send(&message)? && message.reset.ask.is_none())
    }

    /// Sends a message. `false`: there is no way.
    pub(super) fn send(&self, message: &Message) -> anyhow::Result<bool> {
        let link = self.links.wanted().get(&message.next_hop.link);
        let Some(link) = link.filter(|link| link.ifindex != 0) else { return Ok(false) };
        let frame = message.reset.frame(link.mac, &message.next_hop);
        self.frames.send(link.ifindex, &frame).context("telling a client")?;
        Ok(true)
    }

    /// The installed services that a client finds a backend of, by their numbers.
    fn services_that_are_up(&self) -> BTreeSet<u32> {
        let services = self.desired.services.iter();
        services
            .filter(|service| service.is_served())
            .filter_map(|service| {
                let vip = IpBe::new(*service.vips.first()?);
                let key = ServiceKey::new(vip, PortBe::new(service.port), lb_common::IPPROTO_TCP);
                self.installed.services.get(&key).map(|installed| installed.id)
            })
            .collect()
    }
}
