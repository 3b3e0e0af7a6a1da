//! The controller's dealings with clients on this node itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use lb_common::IPPROTO_TCP;
use lb_common::addr::{Endpoint, IpBe, PortBe};

use super::Controller;
use super::flows::is_hard;
use crate::admin::model::{LocalClients, LocalClientsState, Pods, PodsState, What};
use crate::control::desired::{DesiredBackend, DesiredService};
use crate::control::local_clients::{Facts, Wish, wish};
use crate::datapath::now::monotonic;
use crate::datapath::sockets::ender::{Ender, Lost};
use crate::datapath::sockets::{cgroup, namespaces};

/// What is to be said where it fails.
const STILL_WORKS: &str = "clients on this node are not led to backends; everybody else is served";
const PODS_STILL_WORK: &str = "pods are led to backends all the same, and their connections to one \
                               that vanishes end by their own timeouts";
/// Whom an alarm is about.
const SUBJECT: &str = "local clients";
const PODS: &str = "local clients in pods";

impl Controller {
    /// Has clients on this node led to backends, or no longer.
    pub(super) fn serve_local_clients(&mut self) {
        let facts = Facts {
            is_backend: !self.own_backends().is_empty(),
            is_first_namespace: cgroup::is_in_first_namespace(),
        };
        let (state, cgroup, reason) = match wish(&self.config.local_clients, facts) {
            Wish::Leave(why) => match self.leave_local_clients() {
                Ok(()) => (LocalClientsState::Off, None, Some(why.to_owned())),
                Err(error) => (LocalClientsState::Failed, None, Some(format!("{error:#}"))),
            },
            Wish::Lead => match self.lead_local_clients() {
                Ok(cgroup) => (LocalClientsState::On, Some(cgroup), None),
                Err(error) => {
                    let why = format!("{error:#}; {STILL_WORKS}");
                    (LocalClientsState::Failed, None, Some(why))
                }
            },
        };
        let (refused, ended, pods) = (0, 0, self.status.local_clients.pods.clone());
        self.note_local_clients(LocalClients { state, cgroup, reason, refused, ended, pods });
        self.note_pods(self.pods(state));
    }

    /// Whether connections in other network namespaces can be ended too, if they are to.
    fn pods(&self, local_clients: LocalClientsState) -> Pods {
        if !self.config.local_clients.end_in_pods || local_clients != LocalClientsState::On {
            return Pods::default();
        }
        match namespaces::check() {
            Ok(()) => Pods { state: PodsState::On, ..Pods::default() },
            Err(error) => {
                let reason = Some(format!("{error:#}; {PODS_STILL_WORK}"));
                Pods { state: PodsState::Failed, reason, ended: 0 }
            }
        }
    }

    fn leave_local_clients(&mut self) -> anyhow::Result<()> {
        self.led = None;
        self.datapath.leave_sockets().map(drop)
    }

    /// The cgroup whose processes are led.
    fn lead_local_clients(&mut self) -> anyhow::Result<PathBuf> {
        let path = match &self.config.local_clients.cgroup {
            Some(path) => path.clone(),
            None => cgroup::root()?,
        };
        cgroup::check(&path)?;
        if self.led.as_ref() == Some(&path) && self.datapath.leads_sockets(&path) {
            return Ok(path);
        }
        if let Err(error) = self.datapath.lead_sockets(&path) {
            // One family without the other, or without the name of its peer, would only confuse.
            self.leave_local_clients()?;
            return Err(error);
        }
        let is_part =
            self.config.local_clients.cgroup.is_none() && !cgroup::is_machines_root(&path);
        if is_part {
            log::warn!(
                "{} is not the root of the machine's cgroups: of a container it has only the \
                 container's own processes; mount the machine's there, or name it in \
                 local_clients.cgroup",
                path.display()
            );
        }
        if self.ender.is_none() {
            self.ender = Some(Ender::start(self.datapath.redirects()?)?);
        }
        self.led = Some(path.clone());
        Ok(path)
    }

    /// Ends the connections of local clients to backends that are dead or whose drain is over. Unlike
    /// those of everybody else they are this node's whoever holds the VIP.
    pub(super) fn give_up_local(&mut self, now: Instant) {
        let Some(ender) = &self.ender else { return };
        let in_pods = self.status.local_clients.pods.state == PodsState::On;
        let table = self.health_table.borrow();
        for service in &self.desired.services {
            let Some(config) = self.config.services.iter().find(|c| c.name == service.name) else {
                continue;
            };
            let is_hard = |backend: &_| is_hard(&table, &service.name, backend);
            let due = self.local_give_up.due(config, service, is_hard, now);
            let is_due = |backend: &&DesiredBackend| due.iter().any(|(_, it)| *it == backend.name);
            let due = service.backends.iter().filter(is_due);
            self.lost.extend(due.map(|backend| lost(service, backend, in_pods)));
        }
        let waiting = std::mem::take(&mut self.lost);
        self.lost = waiting.into_iter().filter_map(|lost| ender.end(lost).err()).collect();
    }

    /// Tells of what has changed, once.
    fn note_local_clients(&mut self, found: LocalClients) {
        let before = &self.status.local_clients;
        if (found.state, &found.cgroup, &found.reason)
            == (before.state, &before.cgroup, &before.reason)
        {
            return;
        }
        let reason = found.reason.clone().unwrap_or_default();
        let (was, is) = (before.state, found.state);
        match is {
            LocalClientsState::On => {
                let cgroup = found.cgroup.as_ref().map(|path| path.display().to_string());
                log::info!("local clients: led to backends, below {}", cgroup.unwrap_or_default());
            }
            LocalClientsState::Off => log::info!("local clients: not led to backends: {reason}"),
            LocalClientsState::Failed => log::error!("local clients: {reason}"),
        }
        let (failed, resolved) = (LocalClientsState::Failed, is != LocalClientsState::Failed);
        if is == failed || was == failed {
            self.events.push(What::Alarm { subject: SUBJECT.to_owned(), reason, resolved });
        }
        self.status.local_clients = found;
    }

    /// Likewise of connections in other network namespaces.
    fn note_pods(&mut self, found: Pods) {
        let before = std::mem::replace(&mut self.status.local_clients.pods, found);
        let found = &self.status.local_clients.pods;
        if (found.state, &found.reason) == (before.state, &before.reason) {
            return;
        }
        let reason = found.reason.clone().unwrap_or_default();
        let (failed, was) = (found.state == PodsState::Failed, before.state == PodsState::Failed);
        match found.state {
            PodsState::On => log::info!("local clients: connections of pods are ended too"),
            PodsState::Off => log::info!("local clients: connections of pods are left alone"),
            PodsState::Failed => log::error!("local clients: {reason}"),
        }
        if failed || was {
            self.events.push(What::Alarm { subject: PODS.to_owned(), reason, resolved: !failed });
        }
    }

    /// Addresses of this node, but for VIPs.
    pub(super) fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let vips = self.config.vips();
        let addresses = self.snapshot.addresses.iter().map(|address| address.address);
        addresses.filter(|address| !vips.contains(address)).collect()
    }

    fn own_backends(&self) -> BTreeSet<IpAddr> {
        let own = self.own_addresses();
        self.backend_addresses().intersection(&own).copied().collect()
    }
}

/// The connections that there are now, of everybody who wanted the service.
fn lost(service: &DesiredService, backend: &DesiredBackend, in_pods: bool) -> Lost {
    let endpoint =
        |address: IpAddr, port| Endpoint::new(IpBe::new(address), PortBe::new(port), IPPROTO_TCP);
    Lost {
        backend: SocketAddr::new(backend.address, backend.port),
        endpoint: endpoint(backend.address, backend.port),
        services: service.vips.iter().map(|vip| endpoint(*vip, service.port)).collect(),
        before_ns: monotonic(),
        in_pods,
    }
}
