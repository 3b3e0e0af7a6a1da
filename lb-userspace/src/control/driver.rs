//! The controller's state and what it does with it: keeps maps, links and addresses as they should be.
//!
//! Level-triggered: every event refreshes what is known and runs [`Controller::reconcile`], which
//! compares everything desired with everything installed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use lb_common::addr::Ipv4Be;
use lb_common::backend::{Backend, BackendId, State};
use lb_common::conntrack::Timeouts;
use tokio::sync::watch;

use super::desired::{self, Desired, LastUp, Override, View};
use super::plan::{self, Installed};
use super::status::{self, Measured, Sources};
use crate::admin::model::{self, Status};
use crate::config::Config;
use crate::datapath::sweep::{Census, Sweep};
use crate::datapath::{self, Datapath};
use crate::health::{BackendKey, Health, HealthMonitor, HealthTable, Target};
use crate::netlink::Netlink;
use crate::netlink::snapshot::{AttachMode, Resolution, Snapshot};
use crate::vips::Vips;

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
    sweep: Sweep,
    census: Census,
    /// What the pass before the last one found, for backends that were removed in between.
    referenced_before: BTreeSet<BackendId>,
    status: Status,
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
            sweep: Sweep::default(),
            census: Census::default(),
            referenced_before: BTreeSet::new(),
            status,
        })
    }

    /// Looks at the kernel's links, addresses, routes and neighbours, and acts on what changed.
    pub async fn refresh(&mut self) -> anyhow::Result<()> {
        self.snapshot = self.netlink.snapshot().await.context("asking the kernel")?;
        self.attach_all()?;
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
        if new.admin != self.config.admin {
            bail!("`admin` changed, which needs a restart: fairlead stop --handover, then start");
        }
        let snapshot = self.netlink.snapshot().await.context("asking the kernel")?;
        for name in &new.interfaces {
            if snapshot.link_by_name(name).is_none() && !self.config.interfaces.contains(name) {
                bail!("there is no interface {name}");
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

    /// Attaches to interfaces that lack the program: at start, and when one was made again.
    fn attach_all(&mut self) -> anyhow::Result<()> {
        for name in self.config.interfaces.clone() {
            let Some(link) = self.snapshot.link_by_name(&name) else {
                if self.datapath.attachments().contains_key(&name) {
                    log::warn!("interface {name} is gone; waiting for it to come back");
                    self.datapath.detach(&name)?;
                }
                continue;
            };
            let known = self
                .datapath
                .attachments()
                .get(&name)
                .is_some_and(|attachment| attachment.ifindex == link.index);
            if known && datapath::attach::is_attached(self.datapath.pins(), &name, link.index) {
                continue;
            }
            let interface = datapath::Interface {
                name: name.clone(),
                ifindex: link.index,
                occupant: link.xdp.as_ref().map(|xdp| (xdp.program_id, mode_of(xdp.mode))),
            };
            let mode = self.config.xdp_mode;
            let attachment = self.datapath.attach(&interface, mode)?.clone();
            let because =
                attachment.reason.map(|why| format!(", because {why}")).unwrap_or_default();
            log::info!("{name}: {} XDP{because}", attachment.mode.as_str());
            if attachment.mode == datapath::Mode::Generic {
                self.vips.switch_gro_off(&name)?;
            }
        }
        Ok(())
    }

    async fn hold_vips(&mut self) -> anyhow::Result<()> {
        let wanted = self.config.vips();
        let interfaces = self.config.interfaces.clone();
        self.vips.hold(&self.netlink, &self.snapshot, &wanted, &interfaces).await
    }

    /// Asks the kernel for the neighbours that it does not know; its answer comes as an event.
    async fn resolve_backends(&self) {
        for address in self.backend_addresses() {
            let (neighbour, ifindex) = match self.snapshot.next_hop(address) {
                Resolution::Unresolved { neighbour, ifindex } => (neighbour, ifindex),
                Resolution::Failed { neighbour, ifindex } => {
                    log::debug!("{address}: neighbour {neighbour} does not answer ARP");
                    (neighbour, ifindex)
                }
                Resolution::Known(_) | Resolution::NoRoute | Resolution::Local => continue,
            };
            if let Err(error) = self.netlink.resolve(ifindex, neighbour).await {
                log::debug!("resolving {neighbour}: {error:#}");
            }
        }
    }

    fn backend_addresses(&self) -> BTreeSet<Ipv4Addr> {
        let backends = self.config.services.iter().flat_map(|service| &service.backends);
        backends.map(|backend| backend.address).collect()
    }

    /// Routes and neighbours for the datapath to find clients by.
    fn follow_clients(&mut self) -> anyhow::Result<()> {
        let (routes, omitted) =
            self.snapshot.routes_for_datapath(datapath::maps::MAX_ROUTES as usize);
        if omitted > 0 {
            log::warn!("{omitted} routes do not fit; clients behind them are answered by MAC");
        }
        let routes = routes
            .into_iter()
            .map(|(address, length, route)| ((u32::from(length), address), route))
            .collect();
        self.datapath.maps.set_routes(&routes).context("writing the routes")?;
        let ifindexes: Vec<u32> = self.datapath.attachments().values().map(|a| a.ifindex).collect();
        let limit = datapath::maps::MAX_NEIGHBOURS as usize;
        let neighbours = self
            .snapshot
            .neighbours_for_datapath(limit, &ifindexes)
            .into_iter()
            .filter(|(_, next_hop)| next_hop.vlan == 0)
            .collect();
        self.datapath.maps.set_neighbours(&neighbours).context("writing the neighbours")
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
                    source: self.snapshot.source_for(backend.address, &vips).map(IpAddr::V4),
                    initial: self.adopted_health(endpoint),
                });
            }
        }
        self.health.reconcile(targets);
    }

    fn adopted_health(&self, endpoint: SocketAddr) -> Health {
        let adopted = self.installed.backends.values().find(|backend| is_at(backend, endpoint));
        match adopted.and_then(|backend| State::from_u8(backend.state)) {
            Some(State::Up | State::Draining | State::Disabled) => Health::Up,
            Some(State::Down) => Health::Down,
            Some(State::Free | State::Unknown | State::Removed) | None => Health::Unknown,
        }
    }

    /// Makes the maps what they should be.
    pub fn reconcile(&mut self) -> anyhow::Result<()> {
        let desired = desired::desired(&self.config, &self.view());
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
        let health = self
            .health_table
            .borrow()
            .iter()
            .map(|(key, report)| ((key.service.clone(), key.backend.clone()), report.health))
            .collect();
        let next_hops = self
            .backend_addresses()
            .into_iter()
            .filter_map(|address| match self.snapshot.next_hop(address) {
                // The program adds no tags.
                Resolution::Known(next_hop) if next_hop.vlan == 0 => Some((address, next_hop)),
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

    #[expect(clippy::disallowed_methods, reason = "a driver: stamps what status prints")]
    fn note_changes(&mut self, desired: &Desired) {
        let now = SystemTime::now();
        let previous: BTreeMap<_, _> =
            self.desired.services.iter().map(|service| (&service.name, service.panic)).collect();
        let mut since = BTreeMap::new();
        for service in &desired.services {
            if service.panic && previous.get(&service.name) != Some(&true) {
                log::error!(
                    "{}: no backend is up; going on with those that last were",
                    service.name
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

    /// What `status` prints now.
    pub fn status(&mut self) -> anyhow::Result<Arc<Status>> {
        let measured = self.measure()?;
        let health = self.health_table.borrow().clone();
        let sources = Sources {
            desired: &self.desired,
            health: &health,
            overrides: &self.overrides,
            measured: &measured,
            since: &self.since,
        };
        self.status.services = sources.services();
        let owned: BTreeSet<_> =
            self.snapshot.addresses.iter().map(|address| address.address).collect();
        self.status.vips = status::vips(&self.desired, |vip| owned.contains(&vip));
        self.status.xdp = self
            .datapath
            .attachments()
            .iter()
            .map(|(interface, attachment)| model::Xdp {
                interface: interface.clone(),
                mode: attachment.mode.as_str().to_owned(),
                reason: attachment.reason.clone(),
            })
            .collect();
        let counters = self.datapath.maps.counters()?;
        self.status.counters =
            counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.status.flows = model::Flows {
            established: self.census.established,
            half_open: self.census.half_open,
            capacity: model::FlowCapacity {
                established: self.config.limits.flows.into(),
                half_open: self.config.limits.half_open.into(),
            },
        };
        Ok(Arc::new(self.status.clone()))
    }

    pub fn configuration_loaded(&mut self, at: String) {
        self.status.configuration.loaded = at;
    }

    fn measure(&self) -> anyhow::Result<BTreeMap<Name, Measured>> {
        let mut measured = BTreeMap::new();
        for service in &self.config.services {
            for backend in &service.backends {
                let Some(id) = self.backend_id(service, backend.endpoint()) else { continue };
                let name = (service.name.clone(), backend.name.clone());
                measured.insert(
                    name,
                    Measured {
                        connections: self.census.connections.get(&id).copied().unwrap_or(0),
                        counters: self.datapath.maps.backend_counters(id)?,
                        next_hop: self.next_hop(backend.address),
                    },
                );
            }
        }
        Ok(measured)
    }

    fn backend_id(&self, service: &crate::config::Service, at: SocketAddr) -> Option<BackendId> {
        let id = installed_service(&self.installed, service)?;
        let mut backends = self.installed.backends.iter();
        backends.find(|(_, backend)| backend.service == id && is_at(backend, at)).map(|(id, _)| *id)
    }

    fn next_hop(&self, address: Ipv4Addr) -> Option<model::NextHop> {
        let (state, ifindex, mac) = match self.snapshot.next_hop(address) {
            Resolution::Known(hop) => ("known", hop.ifindex, Some(hop.mac.to_string())),
            Resolution::Unresolved { ifindex, .. } => ("unresolved", ifindex, None),
            Resolution::Failed { ifindex, .. } => ("failed", ifindex, None),
            Resolution::NoRoute | Resolution::Local => return None,
        };
        let interface = self.snapshot.links.get(&ifindex).map(|link| link.name.clone());
        Some(model::NextHop { state: state.to_owned(), mac, interface: interface? })
    }
}

const fn mode_of(mode: AttachMode) -> datapath::Mode {
    match mode {
        AttachMode::Generic => datapath::Mode::Generic,
        AttachMode::Native | AttachMode::Hardware | AttachMode::Multiple => datapath::Mode::Native,
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
            key.port.get() == service.port && service.vips.contains(&key.address.get())
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
