//! Tells of what has changed since it was last told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Controller;
use crate::admin::model::What;
use crate::control::desired::{self, Desired, DesiredBackend};
use crate::control::standing::Standing;
use crate::control::status;
use crate::health::BackendKey;

impl Controller {
    /// Backends and services that `desired` has otherwise than what was desired before.
    pub(super) fn tell_changes(&self, desired: &Desired) {
        let before: BTreeMap<_, _> = self
            .desired
            .services
            .iter()
            .map(|service| ((&service.name, service.family), service.panic))
            .collect();
        for service in &desired.services {
            for backend in &service.backends {
                self.tell_backend(&service.name, backend);
            }
            let was_panic = before.get(&(&service.name, service.family)).copied().unwrap_or(false);
            if service.panic != was_panic {
                let (name, family) = (service.name.clone(), service.family.to_string());
                self.events.push(What::Panic { service: name, family, entered: service.panic });
            }
        }
    }

    /// Alarms that were not there `before`, and those that are over.
    pub(super) fn tell_alarms(&self, before: &Standing) {
        for what in self.standing.news(before) {
            if matches!(what, What::Alarm { resolved: true, .. }) {
                log::info!("{what}");
            } else {
                log::error!("{what}");
            }
            self.events.push(what);
        }
    }

    fn tell_backend(&self, service: &str, backend: &DesiredBackend) {
        let name = (service.to_owned(), backend.name.clone());
        let Some((before, _)) = self.since.get(&name).filter(|known| known.0 != backend.state)
        else {
            return;
        };
        let said = self.overrides.effective().get(&name).map(|said| said.admin);
        let reason = match said.unwrap_or_default() {
            desired::Admin::Draining | desired::Admin::Disabled => "by command".to_owned(),
            desired::Admin::Enabled => {
                let endpoint = SocketAddr::new(backend.address, backend.port);
                let key = BackendKey { service: name.0.clone(), backend: name.1.clone(), endpoint };
                let table = self.health_table.borrow();
                let found = table.get(&key).map(|report| report.reason.to_string());
                found.unwrap_or_else(|| "not probed yet".to_owned())
            }
        };
        let (from, to) = (status::state(*before), status::state(backend.state));
        self.events.push(What::Backend { service: name.0, backend: name.1, from, to, reason });
    }

    /// VIPs that the kernel has, or no longer has.
    pub(super) fn tell_vips(&mut self) {
        let wanted = self.config.vips();
        let present = self.snapshot.addresses.iter().map(|address| address.address);
        let held: BTreeSet<IpAddr> = present.filter(|address| wanted.contains(address)).collect();
        for (addresses, gained) in
            [(self.held.difference(&held), false), (held.difference(&self.held), true)]
        {
            for address in addresses {
                self.events.push(What::Vip { address: address.to_string(), gained });
            }
        }
        self.held = held;
    }

    /// The program runs on an interface.
    pub(super) fn tell_attached(&self, interface: &str, mode: &str) {
        let (interface, mode) = (interface.to_owned(), Some(mode.to_owned()));
        self.events.push(What::Datapath { interface, attached: true, mode });
    }

    /// It no longer does.
    pub(super) fn tell_detached(&self, interface: &str) {
        let interface = interface.to_owned();
        self.events.push(What::Datapath { interface, attached: false, mode: None });
    }
}
