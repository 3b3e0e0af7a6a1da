//! The controller's state and what it does with it: keeps maps, links and addresses as they should be.
//!
//! Level-triggered: every event refreshes what is known and runs [`Controller::reconcile`], which
//! compares everything desired with everything installed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, bail};
use lb_common::addr::{Ipv4Be, NextHop};
use lb_common::backend::{Backend, BackendId, State};
use lb_common::conntrack::Timeouts;
use tokio::sync::watch;

use super::desired::{self, Desired, LastUp, Override, View};
use super::give_up::GiveUp;
use super::plan::{self, Installed, MapOp};
use crate::admin::model::Status;
use crate::config::{Config, Family};
use crate::datapath::Datapath;
use crate::datapath::sweep::{Census, Sweep};
use crate::health::{BackendKey, Health, HealthMonitor, HealthTable, Target};
use crate::netlink::Netlink;
use crate::netlink::snapshot::{Hop, Resolution, Snapshot};
use crate::vips::Vips;

mod network;
mod publish;

/// Names of a service and one of its backends.
type Name = (String, String);

/// Everything the controller knows and holds.
pub struct Controller {
    pub config: Config,
    pub datapath: Datapath,
    pub netlink: Netlink,
    pub snapshot: Snapshot,
    pub vips: Vips,
    pub health: HealthMonitor,
    pub health_table: watch::Receiver<HealthTable>,
    pub overrides: BTreeMap<Name, Override>,
    installed: Installed,
    desired: Desired,
    last_up: LastUp,
    since: BTreeMap<Name, (State, SystemTime)>,
    give_up: GiveUp,
    sweep: Sweep,
    census: Census,
    /// What the pass before the last one found, for backends that were removed in between.
    referenced_before: BTreeSet<BackendId>,
    status: Status,
    /// Backends that the log has named as out of reach.
    warned: BTreeSet<IpAddr>,
}

impl Controller {
    /// Takes over what the maps hold.
    pub fn new(
        config: Config,
        datapath: Datapath,
        netlink: Netlink,
        vips: Vips,
        status: Status,
    ) -> anyhow::Result<Self> {
        let (sender, health_table) = watch::channel(HealthTable::new());
        let installed = datapath.maps.installed().context("reading what is installed")?;
        let last_up = adopted_last_up(&config, &installed);
        Ok(Self {
            config,
            datapath,
            netlink,
            snapshot: Snapshot::default(),
            vips,
            health: HealthMonitor::new(sender),
            health_table,
            overrides: BTreeMap::new(),
            installed,
            desired: Desired::default(),
            last_up,
            since: BTreeMap::new(),
            give_up: GiveUp::default(),
            sweep: Sweep::default(),
            census: Census::default(),
            referenced_before: BTreeSet::new(),
            status,
            warned: BTreeSet::new(),
        })
    }

    /// Looks at the kernel's links, addresses, routes and neighbours, and acts on what changed.
    pub async fn refresh(&mut self) -> anyhow::Result<()> {
        self.snapshot = self.netlink.snapshot().await.context("asking the kernel")?;
        let attached = self.attach_all();
        if self.datapath.attachments().is_empty() {
            attached?;
        } else if let Err(error) = attached {
            // The other interfaces go on; this one is tried again at the next refresh.
            log::error!("{error:#}");
        }
        self.resolve_backends().await;
        self.follow_clients()?;
        self.probe();
        self.reconcile()?;
        // Last: once the kernel owns a VIP, the program must be there to answer for it.
        self.hold_vips().await
    }

    /// What a running controller cannot change.
    pub async fn check_reload(&self, new: &Config) -> anyhow::Result<()> {
        if new.limits != self.config.limits {
            bail!("`limits` changed, which needs a restart: fairlead stop --handover, then start");
        }
        if new.xdp_mode != self.config.xdp_mode {
            bail!("`xdp_mode` changed, which needs a stop and a start");
        }
        if new.admin != self.config.admin {
            bail!("`admin` changed, which needs a restart: fairlead stop --handover, then start");
        }
        let snapshot = self.netlink.snapshot().await.context("asking the kernel")?;
        for name in new.interfaces.iter().filter(|name| !self.config.interfaces.contains(name)) {
            let Some(link) = snapshot.link_by_name(name) else {
                bail!("there is no interface {name}");
            };
            if let Some(master) = snapshot.aggregate_of(link) {
                bail!("{name} is a port of {0}; name {0} instead", master.name);
            }
        }
        Ok(())
    }

    /// Detaches from those of `old` that the configuration no longer has.
    pub fn drop_interfaces(&mut self, old: &[String]) -> anyhow::Result<()> {
        for name in old.iter().filter(|name| !self.config.interfaces.contains(name)) {
            self.datapath.detach(name)?;
            log::info!("{name}: detached");
        }
        Ok(())
    }

    fn backend_addresses(&self) -> BTreeSet<IpAddr> {
        let backends = self.config.services.iter().flat_map(|service| &service.backends);
        backends.map(|backend| backend.address).collect()
    }

    /// Probes what is configured; a backend that was there before keeps its state.
    pub fn probe(&mut self) {
        let vips = self.config.vips();
        let mut targets = Vec::new();
        for service in &self.config.services {
            for backend in &service.backends {
                let endpoint = backend.endpoint();
                targets.push(Target {
                    key: BackendKey {
                        service: service.name.clone(),
                        backend: backend.name.clone(),
                        endpoint,
                    },
                    check: service.health.clone(),
                    source: self.snapshot.source_for(backend.address, &vips),
                    initial: self.adopted_health(service, endpoint),
                });
            }
        }
        self.health.reconcile(targets);
    }

    fn adopted_health(&self, service: &crate::config::Service, endpoint: SocketAddr) -> Health {
        let id = self.backend_id(service, endpoint);
        let adopted = id.and_then(|id| self.installed.backends.get(&id));
        match adopted.and_then(|backend| State::from_u8(backend.state)) {
            Some(State::Up | State::Draining | State::Disabled) => Health::Up,
            Some(State::Down) => Health::Down,
            Some(State::Free | State::Unknown | State::Removed) | None => Health::Unknown,
        }
    }

    /// Makes the maps what they should be.
    pub fn reconcile(&mut self) -> anyhow::Result<()> {
        let mut desired = desired::desired(&self.config, &self.view());
        // The maps have room for IPv4 only.
        desired.vips.retain(IpAddr::is_ipv4);
        desired.services.retain(|service| service.family == Family::V4);
        // Flows of a backend that was just selected are in no complete pass: until two have passed since
        // it left its table, they may be there.
        self.census.referenced.extend(self.installed.tables.values().flatten());
        self.installed.referenced =
            self.census.referenced.union(&self.referenced_before).copied().collect();
        let operations = plan::plan(&desired, &self.installed)?;
        for operation in &operations {
            log::debug!("{operation:?}");
            self.datapath
                .maps
                .apply(operation)
                .with_context(|| format!("writing to the maps: {operation:?}"))?;
            self.installed.apply(operation);
        }
        self.last_up = desired::last_up_after(&desired, &self.last_up);
        self.note_changes(&desired);
        self.desired = desired;
        Ok(())
    }

    /// Everything is read again: what someone else wrote to the maps is found and mended.
    pub async fn resync(&mut self) -> anyhow::Result<()> {
        let referenced = std::mem::take(&mut self.installed.referenced);
        self.installed = self.datapath.maps.installed()?;
        self.installed.referenced = referenced;
        self.refresh().await
    }

    fn view(&self) -> View {
        // A backend that moved has not been probed where it is now.
        let configured: BTreeSet<(&str, &str, SocketAddr)> = self
            .config
            .services
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, b)| (service.name.as_str(), b.name.as_str(), b.endpoint()))
            .collect();
        let health = self
            .health_table
            .borrow()
            .iter()
            .filter(|(key, _)| {
                configured.contains(&(key.service.as_str(), key.backend.as_str(), key.endpoint))
            })
            .map(|(key, report)| ((key.service.clone(), key.backend.clone()), report.health))
            .collect();
        let next_hops = self
            .backend_addresses()
            .into_iter()
            .filter_map(|address| match self.snapshot.next_hop(address) {
                // The program adds no tags.
                Resolution::Known(hop) if hop.vlan == 0 => Some((address, self.frame(&hop))),
                Resolution::Known(_)
                | Resolution::Unresolved { .. }
                | Resolution::Failed { .. }
                | Resolution::NoRoute
                | Resolution::Local => None,
            })
            .collect();
        let (overrides, last_up) = (self.overrides.clone(), self.last_up.clone());
        View { health, overrides, next_hops, last_up }
    }

    /// As the maps have it.
    fn frame(&self, hop: &Hop) -> NextHop {
        let link = self.snapshot.links.get(&hop.ifindex);
        let source_mac = link.map(|link| link.mac).unwrap_or_default();
        let Hop { ifindex, mac, vlan, inner_vlan } = *hop;
        NextHop { ifindex, mac, source_mac, vlan, inner_vlan }
    }

    #[expect(clippy::disallowed_methods, reason = "a driver: stamps what status prints")]
    fn note_changes(&mut self, desired: &Desired) {
        let now = SystemTime::now();
        let previous: BTreeMap<_, _> = self
            .desired
            .services
            .iter()
            .map(|service| ((&service.name, service.family), service.panic))
            .collect();
        let mut since = BTreeMap::new();
        for service in &desired.services {
            if service.panic && previous.get(&(&service.name, service.family)) != Some(&true) {
                log::error!(
                    "{}: no {} backend is up; going on with those that last were",
                    service.name,
                    service.family
                );
            }
            for backend in &service.backends {
                let name = (service.name.clone(), backend.name.clone());
                let entry = match self.since.get(&name) {
                    Some(known) if known.0 == backend.state => *known,
                    _ => (backend.state, now),
                };
                since.insert(name, entry);
            }
        }
        self.since = since;
    }

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
    pub fn sweep(&mut self, now: u64) -> anyhow::Result<bool> {
        let timeouts = self.timeouts();
        let Some(census) = self.sweep.slice(&self.datapath.maps, &timeouts, now)? else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut self.census, census);
        self.referenced_before = before.referenced;
        Ok(true)
    }

    fn timeouts(&self) -> BTreeMap<u32, Timeouts> {
        let services = self.installed.services.values();
        services.map(|service| (service.id, service.timeouts)).collect()
    }

    pub fn configuration_loaded(&mut self, at: String) {
        self.status.configuration.loaded = at;
    }

    fn backend_id(&self, service: &crate::config::Service, at: SocketAddr) -> Option<BackendId> {
        let id = installed_service(&self.installed, service)?;
        let mut backends = self.installed.backends.iter();
        backends.find(|(_, backend)| backend.service == id && is_at(backend, at)).map(|(id, _)| *id)
    }
}

fn is_at(backend: &Backend<Ipv4Be>, endpoint: SocketAddr) -> bool {
    IpAddr::V4(backend.endpoint.address.get()) == endpoint.ip()
        && backend.endpoint.port.get() == endpoint.port()
}

fn installed_service(installed: &Installed, service: &crate::config::Service) -> Option<u32> {
    let mut services = installed.services.iter();
    services
        .find(|(key, _)| {
            key.port.get() == service.port && service.vips.contains(&IpAddr::V4(key.address.get()))
        })
        .map(|(_, value)| value.id)
}

/// The backends that a predecessor's tables hold: what was up, or last was, when it ended.
fn adopted_last_up(config: &Config, installed: &Installed) -> LastUp {
    let mut last_up = LastUp::new();
    for service in &config.services {
        let Some(table) =
            installed_service(installed, service).and_then(|id| installed.tables.get(&id))
        else {
            continue;
        };
        let ids: BTreeSet<_> = table.iter().collect();
        let endpoints: Vec<_> =
            ids.into_iter().filter_map(|id| installed.backends.get(id)).collect();
        let names: BTreeSet<_> = service
            .backends
            .iter()
            .filter(|backend| endpoints.iter().any(|found| is_at(found, backend.endpoint())))
            .map(|backend| backend.name.clone())
            .collect();
        if !names.is_empty() {
            last_up.insert(service.name.clone(), names);
        }
    }
    last_up
}
