//! The controller's side of the maps: reads what is installed, carries out operations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{
    Array, ArrayOfMaps, HashMap, IterableMap as _, Map, MapData, MapError, PerCpuArray,
    PerCpuValues,
};
use lb_common::addr::{Address as _, Endpoint, IpBe, Ipv6Be};
use lb_common::backend::{Backend, BackendEvents, BackendId, BackendTraffic, State};
use lb_common::counters::Counter;
use lb_common::filter::Filters;
use lb_common::lease::Lease;
use lb_common::link::{Link, NextHop, Route, WaysChanged};
use lb_common::map;
use lb_common::rate::SourceKey;
use lb_common::service::{AllowKey, EndpointUse, Service, ServiceKey};
use lb_common::vip::Vip;

use super::counts::Counts;
use super::pins::MapDir;
use super::removals::Removals;
use super::sys;
use super::table::FlowTable;
use crate::config::Cidr;
use crate::control::plan::{Capacity, Installed, MapOp};

mod connects;
mod network;
mod tables;

use tables::{Table, new_table, read_table};

pub use connects::Connects;

/// Capacities that the program declares.
pub const MAX_ROUTES: u32 = 4096;
pub const MAX_NEIGHBOURS: u32 = 8192;

/// The maps of a loaded object.
pub struct Maps {
    /// By family, IPv4 first; readers of their own go on using them after these maps are gone.
    pub flows: [Arc<FlowTable>; 2],
    /// Of flows that were removed here.
    pub removals: Removals,
    services: HashMap<MapData, ServiceKey, Service>,
    backends: Array<MapData, Backend>,
    allowed: LpmTrie<MapData, AllowKey, u8>,
    endpoints: HashMap<MapData, Endpoint, EndpointUse>,
    local_connections: PerCpuArray<MapData, u64>,
    connects: Connects,
    counts: Counts,
    half_open_evicted: PerCpuArray<MapData, u64>,
    vips: HashMap<MapData, IpBe, Vip>,
    leases: Array<MapData, Lease>,
    sources: HashMap<MapData, SourceKey, u64>,
    filters: Array<MapData, Filters>,
    links: Array<MapData, Link>,
    link_ids: HashMap<MapData, u32, u32>,
    devices: DevMap<MapData>,
    devices_fd: MapData,
    routes: LpmTrie<MapData, [u32; 4], Route>,
    neighbours: HashMap<MapData, IpBe, NextHop>,
    ways_changed: Array<MapData, WaysChanged>,
    /// Something was written to either, or may have been by a predecessor, and flows are not told.
    has_changed_ways: bool,
    tables: ArrayOfMaps<MapData, Table>,
    tables_fd: MapData,
    dir: MapDir,
    capacity: Capacity,
}

impl Maps {
    /// Takes the maps of `ebpf`, which are pinned in `dir`.
    pub fn take(ebpf: &mut Ebpf, dir: &MapDir) -> anyhow::Result<Self> {
        let mut take = |name: &str| {
            ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
        };
        let pinned = |name: &str| super::object::pinned(&dir.path, name);
        let entries = |name: &str| anyhow::Ok(pinned(name)?.info()?.max_entries());
        let flows = |name: &str| {
            let table = FlowTable::open(&pinned(name)?);
            anyhow::Ok(Arc::new(table.with_context(|| format!("mapping {name}"))?))
        };
        Ok(Self {
            flows: [flows(map::FLOWS)?, flows(map::FLOWS6)?],
            removals: Removals::default(),
            services: take(map::SERVICES)?.try_into()?,
            backends: take(map::BACKENDS)?.try_into()?,
            allowed: take(map::ALLOWED)?.try_into()?,
            endpoints: take(map::ENDPOINTS)?.try_into()?,
            local_connections: take(map::LOCAL_CONNECTIONS)?.try_into()?,
            connects: Connects::new(take(map::CONNECT_TIMES)?.try_into()?),
            counts: Counts::open(pinned)?,
            half_open_evicted: take(map::HALF_OPEN_EVICTED)?.try_into()?,
            vips: take(map::VIPS)?.try_into()?,
            leases: take(map::LEASES)?.try_into()?,
            sources: take(map::SOURCES)?.try_into()?,
            filters: take(map::FILTERS)?.try_into()?,
            links: take(map::LINKS)?.try_into()?,
            link_ids: take(map::LINK_IDS)?.try_into()?,
            devices: take(map::DEVICES)?.try_into()?,
            devices_fd: pinned(map::DEVICES)?,
            routes: take(map::ROUTES)?.try_into()?,
            neighbours: take(map::NEIGHBOURS)?.try_into()?,
            ways_changed: take(map::WAYS_CHANGED)?.try_into()?,
            has_changed_ways: true,
            tables: tables(take(map::TABLES)?)?,
            tables_fd: pinned(map::TABLES)?,
            dir: dir.clone(),
            capacity: Capacity {
                backends: entries(map::BACKENDS)?,
                services: entries(map::TABLES)?,
                vips: entries(map::VIPS)?,
                allowed: entries(map::ALLOWED)?,
            },
        })
    }

    /// Everything that a plan compares with, but for what flows refer to.
    pub fn installed(&self) -> anyhow::Result<Installed> {
        let services: BTreeMap<_, _> =
            self.services.iter().collect::<Result<_, _>>().context("reading the services")?;
        let known: BTreeMap<IpAddr, Vip> = self
            .vips
            .iter()
            .map(|entry| entry.map(|(address, vip)| (address.get(), vip)))
            .collect::<Result<_, _>>()
            .context("reading the VIPs")?;
        let closed = known.iter().filter(|(_, vip)| !vip.accepts());
        let closed = closed.map(|(address, _)| *address).collect();
        let vips: BTreeMap<_, _> =
            known.into_iter().map(|(address, vip)| (address, vip.lease())).collect();
        let mut leased = BTreeSet::new();
        for index in vips.values() {
            if self.leases.get(index, 0).context("reading the leases")? != Lease::FOREVER {
                leased.insert(*index);
            }
        }
        let mut tables = BTreeMap::new();
        for id in services.values().map(|service| service.id).collect::<BTreeSet<_>>() {
            if let Some(table) = self.table(id)? {
                tables.insert(id, read_table(&table)?);
            }
        }
        let allowed = self
            .allowed
            .keys()
            .map(|key| key.map(|key| allowed(&key)))
            .collect::<Result<_, _>>()
            .context("reading the allowed sources")?;
        Ok(Installed {
            vips,
            closed,
            leased,
            services,
            allowed,
            tables,
            backends: self.read_backends()?,
            endpoints: self
                .endpoints
                .iter()
                .collect::<Result<_, _>>()
                .context("reading endpoints")?,
            filters: self.filters.get(&0, 0).context("reading the filters")?,
            referenced: BTreeSet::new(),
            replying: BTreeSet::new(),
            capacity: self.capacity,
        })
    }

    fn read_backends(&self) -> anyhow::Result<BTreeMap<BackendId, Backend>> {
        let mut backends = BTreeMap::new();
        for (id, backend) in (0..).zip(self.backends.iter()) {
            let backend = backend.context("reading the backends")?;
            if State::from_u8(backend.state) != Some(State::Free) {
                backends.insert(id, backend);
            }
        }
        Ok(backends)
    }

    /// Carries out operations of a plan that belong together.
    pub fn apply(&mut self, ops: &[MapOp]) -> anyhow::Result<()> {
        let mut tables = Vec::new();
        for op in ops {
            if let MapOp::SetTable { service, slots } = op {
                tables.push((*service, new_table(slots)?));
            } else {
                self.apply_one(op)?;
            }
        }
        self.set_tables(&tables)
    }

    fn apply_one(&mut self, op: &MapOp) -> anyhow::Result<()> {
        match op {
            MapOp::SetLease { index, lease } => self.leases.set(*index, lease, 0)?,
            MapOp::AddVip { address, index, accepts } => {
                self.vips.insert(IpBe::new(*address), Vip::new(*index, *accepts), 0)?;
            }
            MapOp::SetFilters(filters) => self.filters.set(0, **filters, 0)?,
            MapOp::SetEndpoint { endpoint, value } => self.endpoints.insert(endpoint, value, 0)?,
            MapOp::ClearCounters(id) => self.clear_counters(*id)?,
            MapOp::SetBackend { id, backend } => self.backends.set(*id, backend, 0)?,
            MapOp::SetTable { service, slots } => {
                self.set_tables(&[(*service, new_table(slots)?)])?;
            }
            MapOp::Allow { service, range } => {
                self.allowed.insert(&allow_key(*service, range), 1, 0)?;
            }
            MapOp::SetService { key, service } => self.services.insert(key, service, 0)?,
            MapOp::RemoveService(key) => self.services.remove(key)?,
            MapOp::Disallow { service, range } => {
                self.allowed.remove(&allow_key(*service, range))?;
            }
            MapOp::RemoveTable(service) => {
                sys::delete(self.tables_fd.fd().as_fd(), &service.to_ne_bytes())?;
                self.dir.forget_table(*service)?;
            }
            MapOp::RemoveBackend(id) => self.backends.set(*id, Backend::default(), 0)?,
            MapOp::RemoveEndpoint(endpoint) => self.endpoints.remove(endpoint)?,
            MapOp::RemoveVip { address, index } => {
                self.vips.remove(&IpBe::new(*address))?;
                self.leases.set(*index, Lease::EXPIRED, 0)?;
            }
        }
        Ok(())
    }

    /// The leases, for the thread that renews those of VRRP.
    pub fn leases(&self) -> std::io::Result<OwnedFd> {
        self.leases.map().fd().as_fd().try_clone_to_owned()
    }

    /// The backends, for a reader of its own.
    pub fn backends(&self) -> std::io::Result<OwnedFd> {
        self.backends.map().fd().as_fd().try_clone_to_owned()
    }

    /// How long this node may act for a VIP.
    pub fn lease(&self, vip: u32) -> anyhow::Result<Lease> {
        self.leases.get(&vip, 0).context("reading a lease")
    }

    /// When the next connection of a source is due, nanoseconds of CLOCK_MONOTONIC; 0: at once.
    pub fn source_due(&self, key: &SourceKey) -> anyhow::Result<u64> {
        match self.sources.get(key, 0) {
            Ok(due) => Ok(due),
            Err(MapError::KeyNotFound) => Ok(0),
            Err(error) => Err(error).context("reading a source's rate"),
        }
    }

    /// Whether this node may still send in a VIP's name, at a moment of CLOCK_MONOTONIC.
    pub fn may_forward(&self, vip: u32, now_ns: u64) -> anyhow::Result<bool> {
        Ok(self.leases.get(&vip, 0)?.may_forward(now_ns))
    }

    /// Whether this node answers for a VIP, likewise.
    pub fn may_answer(&self, vip: u32, now_ns: u64) -> anyhow::Result<bool> {
        Ok(self.leases.get(&vip, 0)?.may_answer(now_ns))
    }

    fn clear_counters(&mut self, id: BackendId) -> anyhow::Result<()> {
        self.counts.clear(id);
        let cpus = self.local_connections.get(&id, 0)?.len();
        let zeros = PerCpuValues::try_from(vec![0; cpus])?;
        self.local_connections.set(id, zeros, 0)?;
        self.connects.clear(id)
    }

    /// Connections of this node's own clients that were led to a backend, or for want of one refused.
    pub fn local_connections(&self, id: BackendId) -> anyhow::Result<u64> {
        Ok(self.local_connections.get(&id, 0)?.iter().sum())
    }

    /// How long backends take to answer a SYN; for a reader of its own.
    pub fn connects(&self) -> Connects {
        self.connects.clone()
    }

    /// Sum over all CPUs of every counter.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        Counter::ALL.iter().map(|counter| counter.name()).zip(self.counts.all()).collect()
    }

    /// Half-open flows that gave way to others for want of room, since the program was loaded.
    pub fn half_open_evicted(&self) -> anyhow::Result<u64> {
        let program = self.half_open_evicted.get(&0, 0).context("reading what was evicted")?;
        let here = self.flows.iter().map(|table| table.evicted());
        Ok(program.iter().copied().chain(here).sum())
    }

    /// Sums over all CPUs of a backend's counters.
    pub fn counted(&self, id: BackendId) -> (BackendTraffic, BackendEvents) {
        (self.counts.traffic(id), self.counts.events(id))
    }
}

fn allow_key(service: u32, range: &Cidr) -> Key<AllowKey> {
    let bits = AllowKey::SERVICE_BITS + IpBe::prefix_bits(range.network, range.prefix_len);
    Key::new(bits, AllowKey::new(service, IpBe::new(range.network)))
}

/// What [`allow_key`] was made of.
fn allowed(key: &Key<AllowKey>) -> (u32, Cidr) {
    let AllowKey { service, source } = key.data();
    let network = trie_address(source).get();
    let before = AllowKey::SERVICE_BITS + IpBe::prefix_bits(network, 0);
    let prefix_len = u8::try_from(key.prefix_len().saturating_sub(before)).unwrap_or(u8::MAX);
    (u32::from_be(service), Cidr::containing(network, prefix_len))
}

/// What [`IpBe::trie_data`] was made of.
fn trie_address(data: [u32; 4]) -> IpBe {
    let mut bytes = [0; 16];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(data) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Be::from_bytes(bytes).ip()
}

fn tables(map: Map) -> anyhow::Result<ArrayOfMaps<MapData, Table>> {
    Ok(map.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_range_is_read_as_it_was_written() {
        for (text, length, bits) in
            [("10.0.0.0", 8, 136), ("0.0.0.0", 0, 128), ("fd00::", 8, 40), ("::", 0, 32)]
        {
            let range = Cidr::containing(text.parse().unwrap(), length);
            let key = allow_key(7, &range);
            assert_eq!((key.prefix_len(), allowed(&key)), (bits, (7, range)));
        }
    }
}
