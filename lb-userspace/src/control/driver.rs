//! The controller's state and what it does with it: keeps maps, links and addresses as they should be.
//!
//! Level-triggered: every event refreshes what is known and runs [`Controller::reconcile`], which
//! compares everything desired with everything installed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use lb_common::backend::{Backend, BackendId, State};
use lb_common::time::Ticks;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::calendar::Calendar;
use super::desired::{self, Desired, LastUp, View, Way};
use super::doubt::Doubts;
use super::elections::{Elections, Facts};
use super::give_up::GiveUp;
use super::idle_reset::IdleReset;
use super::links::Links;
use super::paced::Paced;
use super::plan::{self, Installed};
use super::standing::Standing;
use super::unheard::Unheard;
use crate::admin::model::{self, Status};
use crate::config::Config;
use crate::datapath::Datapath;
use crate::datapath::replica::SharedPlaces;
use crate::datapath::sockets::ender::{Ender, Lost};
use crate::datapath::stale::{Flow, Search};
use crate::datapath::sweep::elsewhere::Elsewhere;
use crate::datapath::sweep::{Census, Sweep};
use crate::events::Events;
use crate::flow_log::FlowLog;
use crate::health::{HealthMonitor, HealthTable};
use crate::netlink::Netlink;
use crate::netlink::garp::FrameSocket;
use crate::netlink::snapshot::{Resolution, Snapshot};
use crate::overrides::Overrides;
use crate::sync::driver;
use crate::sync::placement::Places;
use crate::sync::record::FlowId;
use crate::vips::Vips;

mod adopt;
mod ask;
mod clients;
mod disown;
mod doubt;
mod flows;
mod idle;
mod local_clients;
mod network;
mod past;
mod probe;
mod publish;
mod query;
mod reload;
mod sync;
mod tell;
mod trace;

use adopt::{adopted_last_up, everything};
use clients::Clients;
use past::Anchor;

/// Names of a service and one of its backends.
type Name = (String, String);

/// Everything the controller knows and holds.
pub struct Controller {
    pub config: Config,
    pub datapath: Datapath,
    pub netlink: Netlink,
    pub snapshot: Snapshot,
    pub vips: Vips,
    pub elections: Elections,
    pub health: HealthMonitor,
    pub health_table: watch::Receiver<HealthTable>,
    pub overrides: Overrides,
    pub events: Events,
    /// The thread that shares flows, if there is one.
    pub sync: Option<driver::Handle>,
    /// Writes what is told of flows, if that is wanted.
    pub flow_log: Option<FlowLog>,
    /// The VIPs that it was told this node serves.
    serving: Option<BTreeSet<IpAddr>>,
    /// VIPs that the kernel had when it was last asked.
    held: BTreeSet<IpAddr>,
    installed: Installed,
    /// The VIPs and indices that VRRP's threads know leases by.
    leased: Option<BTreeMap<IpAddr, u32>>,
    desired: Desired,
    last_up: LastUp,
    standing: Standing,
    since: BTreeMap<Name, (State, SystemTime)>,
    anchor: Anchor,
    calendar: Calendar,
    /// When what has been was last written down.
    recorded_at: Option<Instant>,
    give_up: GiveUp,
    sweep: Sweep,
    doubts: Doubts,
    idle: IdleReset<Flow>,
    disowned: Paced<FlowId>,
    unheard: Unheard,
    search: Search,
    /// What the thread that keeps a peer's flows finds them a place by.
    pub places: SharedPlaces,
    elsewhere: Elsewhere,
    /// VIPs of whose flows a peer tells.
    told: BTreeSet<IpAddr>,
    standings_noted: Ticks,
    clients: Clients,
    frames: FrameSocket,
    links: Links,
    /// What backends on this node send to clients is met at every interface; or why it is not.
    replies_are_met: Result<(), String>,
    census: Census,
    /// What the pass before the last one found, for backends that were removed in between.
    before: Census,
    status: Status,
    /// The cgroup whose processes this controller has led to backends.
    led: Option<PathBuf>,
    /// The thread that ends their connections, once there are any.
    ender: Option<Ender>,
    /// When they are to end, whoever holds the VIP; and those that the thread has no room for.
    local_give_up: GiveUp,
    lost: Vec<Lost>,
    /// Backends that the log has named as out of reach.
    warned: BTreeSet<IpAddr>,
}

impl Controller {
    /// Takes over what the maps hold. Probes will run on `probes`.
    pub fn new(
        config: Config,
        datapath: Datapath,
        netlink: Netlink,
        vips: Vips,
        elections: Elections,
        status: Status,
        probes: Handle,
    ) -> anyhow::Result<Self> {
        let (sender, health_table) = watch::channel(HealthTable::new());
        let installed = datapath.maps.installed().context("reading what is installed")?;
        let last_up = adopted_last_up(&config, &installed, now());
        let links = Links::adopt(datapath.maps.links()?, vips.links());
        Ok(Self {
            config,
            datapath,
            netlink,
            snapshot: Snapshot::default(),
            vips,
            elections,
            health: HealthMonitor::new(sender, probes),
            health_table,
            overrides: Overrides::default(),
            leased: None,
            events: Events::default(),
            sync: None,
            flow_log: None,
            serving: None,
            held: BTreeSet::new(),
            desired: Desired::default(),
            last_up,
            standing: Standing::default(),
            since: BTreeMap::new(),
            anchor: Anchor::new(now()),
            calendar: Calendar::default(),
            recorded_at: None,
            give_up: GiveUp::default(),
            sweep: Sweep::default(),
            doubts: Doubts::default(),
            idle: IdleReset::new(RandomState::new().build_hasher().finish()),
            disowned: Paced::new(now()),
            unheard: Unheard::new(now()),
            search: Search::default(),
            places: SharedPlaces::default(),
            elsewhere: Elsewhere::default(),
            told: BTreeSet::new(),
            standings_noted: Ticks::default(),
            clients: Clients::default(),
            frames: FrameSocket::open().context("opening a socket for frames")?,
            links,
            replies_are_met: Err(String::new()),
            before: everything(&installed),
            census: everything(&installed),
            installed,
            status,
            led: None,
            ender: None,
            local_give_up: GiveUp::default(),
            lost: Vec::new(),
            warned: BTreeSet::new(),
        })
    }

    /// Looks at the kernel's links, addresses, routes and neighbours, and acts on what changed.
    pub async fn refresh(&mut self) -> anyhow::Result<()> {
        self.snapshot = self.netlink.snapshot().await.context("asking the kernel")?;
        self.tell_vips();
        // What the program needs on its first packet is there before it is attached.
        self.number_links()?;
        self.resolve_backends().await;
        self.resolve_clients(now()).await;
        self.follow_clients()?;
        let attached = self.make_room().await.and_then(|()| self.attach_all());
        if self.datapath.attachments().is_empty() {
            attached?;
        } else if let Err(error) = attached {
            // The other interfaces go on; this one is tried again at the next refresh.
            log::error!("{error:#}");
        }
        self.datapath.finish_migration()?;
        self.meet_local_replies();
        self.probe();
        self.reconcile()?;
        self.serve_local_clients();
        // Last: once the kernel owns a VIP, the program must be there to answer for it.
        self.hold_vips().await
    }

    fn backend_addresses(&self) -> BTreeSet<IpAddr> {
        let backends = self.config.services.iter().flat_map(|service| &service.backends);
        backends.map(|backend| backend.address).collect()
    }

    /// Makes the maps what they should be.
    pub fn reconcile(&mut self) -> anyhow::Result<()> {
        let standing = self.stand();
        let before = std::mem::replace(&mut self.standing, standing);
        let desired = desired::desired(&self.config, &self.view());
        self.standing.note_unserved(&desired);
        self.tell_alarms(&before);
        // Flows of a backend that was just selected are in no complete pass: until two have passed since
        // it left its table, they may be there.
        self.census.referenced.extend(self.installed.tables.values().flatten());
        if self.datapath.maps.removals.is_wanted() {
            // A peer's flows may have come to any of them since.
            self.census.referenced.extend(placed(&self.installed));
        }
        self.installed.referenced =
            self.census.referenced.union(&self.before.referenced).copied().collect();
        self.installed.replying =
            self.census.replying.union(&self.before.replying).copied().collect();
        let operations = plan::plan(&desired, &self.installed)?;
        for together in plan::together(&operations) {
            together.iter().for_each(|operation| log::debug!("{operation:?}"));
            self.datapath
                .maps
                .apply(together)
                .with_context(|| format!("writing to the maps: {together:?}"))?;
            together.iter().for_each(|operation| self.installed.apply(operation));
        }
        if self.elections.is_running() && self.leased.as_ref() != Some(&self.installed.vips) {
            let maps = vec![self.datapath.maps.leases().context("duplicating the leases")?];
            self.elections.lease_in(maps, &self.installed.vips);
            self.leased = Some(self.installed.vips.clone());
        }
        self.last_up = desired::last_up_after(&desired, &self.last_up, now());
        self.places.set(Places::of(&self.installed));
        self.tell_changes(&desired);
        self.note_changes(&desired);
        self.desired = desired;
        self.record_pasts(now());
        Ok(())
    }

    /// Everything is read again: what someone else wrote to the maps is found and mended.
    pub async fn resync(&mut self) -> anyhow::Result<()> {
        self.installed = self.datapath.maps.installed()?;
        self.refresh().await
    }

    fn view(&self) -> View {
        let ways = self
            .backend_addresses()
            .into_iter()
            .filter_map(|address| match self.snapshot.next_hop(address) {
                Resolution::Known(hop) => Some((address, Way::Hop(self.links.next_hop(&hop)?))),
                Resolution::Local if self.replies_are_met.is_ok() && !address.is_loopback() => {
                    Some((address, Way::Local))
                }
                Resolution::Local => Some((address, Way::Barred)),
                Resolution::Unresolved { .. } | Resolution::Failed { .. } | Resolution::NoRoute => {
                    None
                }
            })
            .collect();
        let (overrides, last_up) = (self.overrides.effective().clone(), self.last_up.clone());
        let Standing { health, held, shares, .. } = self.standing.clone();
        let own_addresses = self.own_addresses();
        View { health, held, shares, overrides, ways, own_addresses, last_up }
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

    /// For `status`.
    pub fn names_found(&mut self, names: Vec<model::Name>) {
        self.status.names = names;
    }

    /// Looks at what VRRP instances track.
    pub fn track(&mut self) {
        let attachments = self.datapath.attachments();
        let attached = self.config.interfaces.iter().all(|name| attachments.contains_key(name));
        let (config, desired, snapshot) = (&self.config, &self.desired, &self.snapshot);
        self.elections.track(&Facts { config, desired, snapshot, attached });
    }

    pub fn configuration_loaded(&mut self, at: String) {
        self.status.configuration.loaded = at;
    }
}

/// Backends that a peer's flows find a place with.
fn placed(installed: &Installed) -> impl Iterator<Item = BackendId> {
    let is_used = |backend: &Backend| State::from_u8(backend.state) != Some(State::Removed);
    let backends = installed.backends.iter().filter(move |(_, backend)| is_used(backend));
    backends.map(|(id, _)| *id)
}

#[expect(clippy::disallowed_methods, reason = "a driver: the clock of what it remembers")]
fn now() -> Instant {
    Instant::now()
}
