//! The controller's side of the maps: reads what is installed, carries out operations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMapHash;
use aya::maps::{
    Array, ArrayOfMaps, HashMap, IterableMap as _, Map, MapData, PerCpuArray, PerCpuValues,
};
use lb_common::addr::{Endpoint, Ipv4Be, NextHop, Route};
use lb_common::backend::{Backend, BackendCounters, BackendId, State};
use lb_common::counters::Counter;
use lb_common::lease::Lease;
use lb_common::service::{Service, ServiceKey, VipFilter};
use lb_common::{MAX_SERVICES, MAX_VIPS, map};

use super::sys::{self, Walk};
use crate::control::plan::{Capacity, Installed, MapOp, be};

/// Capacities that the program declares.
pub const MAX_ROUTES: u32 = 4096;
pub const MAX_NEIGHBOURS: u32 = 8192;
pub const MAX_DEVICES: u32 = 64;

/// The kernel accepts an inner array of another length than the declared one only with this flag.
const BPF_F_INNER_MAP: u32 = 0x1000;

type Table = Array<MapData, u32>;

/// The maps of a loaded object.
pub struct Maps {
    pub services: HashMap<MapData, ServiceKey<Ipv4Be>, Service<Ipv4Be>>,
    pub backends: Array<MapData, Backend<Ipv4Be>>,
    pub established: MapData,
    pub half_open: MapData,
    endpoints: HashMap<MapData, Endpoint<Ipv4Be>, u32>,
    backend_counters: PerCpuArray<MapData, BackendCounters>,
    counters: PerCpuArray<MapData, u64>,
    vips: HashMap<MapData, Ipv4Be, u32>,
    leases: Array<MapData, Lease>,
    filter: Array<MapData, VipFilter>,
    devices: DevMapHash<MapData>,
    routes: LpmTrie<MapData, Ipv4Be, Route<Ipv4Be>>,
    neighbours: HashMap<MapData, Ipv4Be, NextHop>,
    tables: ArrayOfMaps<MapData, Table>,
    tables_fd: MapData,
}

impl Maps {
    /// Takes the maps of `ebpf`, which are pinned in `dir`.
    pub fn take(ebpf: &mut Ebpf, dir: &std::path::Path) -> anyhow::Result<Self> {
        let mut take = |name: &str| {
            ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
        };
        Ok(Self {
            services: take(map::SERVICES)?.try_into()?,
            backends: take(map::BACKENDS)?.try_into()?,
            established: super::object::pinned(dir, map::ESTABLISHED)?,
            half_open: super::object::pinned(dir, map::HALF_OPEN)?,
            endpoints: take(map::ENDPOINTS)?.try_into()?,
            backend_counters: take(map::BACKEND_COUNTERS)?.try_into()?,
            counters: take(map::COUNTERS)?.try_into()?,
            vips: take(map::VIPS)?.try_into()?,
            leases: take(map::LEASES)?.try_into()?,
            filter: take(map::VIP_FILTER)?.try_into()?,
            devices: take(map::DEVICES)?.try_into()?,
            routes: take(map::ROUTES)?.try_into()?,
            neighbours: take(map::NEIGHBOURS)?.try_into()?,
            tables: tables(take(map::TABLES)?)?,
            tables_fd: super::object::pinned(dir, map::TABLES)?,
        })
    }

    /// Everything that a plan compares with, but for what flows refer to.
    pub fn installed(&self) -> anyhow::Result<Installed> {
        let services: BTreeMap<_, _> =
            self.services.iter().collect::<Result<_, _>>().context("reading the services")?;
        let vips = self
            .vips
            .iter()
            .map(|entry| entry.map(|(address, index)| (IpAddr::V4(address.get()), index)))
            .collect::<Result<_, _>>()
            .context("reading the VIPs")?;
        let mut tables = BTreeMap::new();
        for id in services.values().map(|service| service.id).collect::<BTreeSet<_>>() {
            if let Ok(table) = self.tables.get(&id, 0) {
                tables.insert(id, read_table(&table)?);
            }
        }
        let endpoints: BTreeSet<_> =
            self.endpoints.keys().collect::<Result<_, _>>().context("reading the endpoints")?;
        Ok(Installed {
            vips,
            services,
            tables,
            backends: self.read_backends()?,
            endpoints,
            filter: self.filter.get(&0, 0).context("reading the VIP filter")?,
            referenced: BTreeSet::new(),
            capacity: Capacity {
                backends: self.backends.len(),
                services: MAX_SERVICES,
                vips: MAX_VIPS,
            },
        })
    }

    fn read_backends(&self) -> anyhow::Result<BTreeMap<BackendId, Backend<Ipv4Be>>> {
        let mut backends = BTreeMap::new();
        for (id, backend) in (0..).zip(self.backends.iter()) {
            let backend = backend.context("reading the backends")?;
            if State::from_u8(backend.state) != Some(State::Free) {
                backends.insert(id, backend);
            }
        }
        Ok(backends)
    }

    /// Carries out one operation of a plan.
    pub fn apply(&mut self, op: &MapOp) -> anyhow::Result<()> {
        match op {
            MapOp::SetLease { index, lease } => self.leases.set(*index, lease, 0)?,
            MapOp::AddVip { address, index } => {
                self.vips.insert(be(*address), index, 0)?;
            }
            MapOp::SetFilter(filter) => self.filter.set(0, **filter, 0)?,
            MapOp::AddEndpoint(endpoint) => self.endpoints.insert(endpoint, 1, 0)?,
            MapOp::ClearCounters(id) => self.clear_counters(*id)?,
            MapOp::SetBackend { id, backend } => self.backends.set(*id, backend, 0)?,
            MapOp::SetTable { service, slots } => {
                self.tables.set(*service, &new_table(slots)?, 0)?;
            }
            MapOp::SetService { key, service } => self.services.insert(key, service, 0)?,
            MapOp::RemoveService(key) => self.services.remove(key)?,
            MapOp::RemoveTable(service) => {
                sys::delete(self.tables_fd.fd().as_fd(), &service.to_ne_bytes())?;
            }
            MapOp::RemoveBackend(id) => self.backends.set(*id, Backend::default(), 0)?,
            MapOp::RemoveEndpoint(endpoint) => self.endpoints.remove(endpoint)?,
            MapOp::RemoveVip { address, index } => {
                self.vips.remove(&be(*address))?;
                self.leases.set(*index, Lease::EXPIRED, 0)?;
            }
        }
        Ok(())
    }

    fn clear_counters(&mut self, id: BackendId) -> anyhow::Result<()> {
        let cpus = self.backend_counters.get(&id, 0)?.len();
        let zeros = PerCpuValues::try_from(vec![BackendCounters::default(); cpus])?;
        Ok(self.backend_counters.set(id, zeros, 0)?)
    }

    /// Sum over all CPUs of every counter.
    pub fn counters(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        Counter::ALL
            .iter()
            .map(|counter| {
                let values = self.counters.get(&(*counter as u32), 0)?;
                Ok((counter.name(), values.iter().sum()))
            })
            .collect()
    }

    /// Sum over all CPUs of a backend's counters.
    pub fn backend_counters(&self, id: BackendId) -> anyhow::Result<BackendCounters> {
        let mut sum = BackendCounters::default();
        for value in self.backend_counters.get(&id, 0)?.iter() {
            sum += value;
        }
        Ok(sum)
    }

    /// Makes `ifindexes` the interfaces that frames may leave by.
    pub fn set_devices(&mut self, ifindexes: &BTreeSet<u32>) -> anyhow::Result<()> {
        for old in self.devices.keys().collect::<Result<Vec<_>, _>>()? {
            if !ifindexes.contains(&old) {
                self.devices.remove(old)?;
            }
        }
        for ifindex in ifindexes {
            self.devices.insert(*ifindex, *ifindex, None, 0)?;
        }
        Ok(())
    }

    /// Makes `wanted` the routes to clients.
    pub fn set_routes(
        &mut self,
        wanted: &BTreeMap<(u32, Ipv4Addr), Route<Ipv4Be>>,
    ) -> anyhow::Result<()> {
        let key = |length: u32, address: &Ipv4Addr| Key::new(length, Ipv4Be::new(*address));
        for old in self.routes.keys().collect::<Result<Vec<_>, _>>()? {
            if !wanted.contains_key(&(old.prefix_len(), old.data().get())) {
                self.routes.remove(&old)?;
            }
        }
        for ((length, address), route) in wanted {
            let key = key(*length, address);
            if self.routes.get(&key, 0).ok() != Some(*route) {
                self.routes.insert(&key, route, 0)?;
            }
        }
        Ok(())
    }

    /// Makes `wanted` the neighbours of clients.
    pub fn set_neighbours(&mut self, wanted: &BTreeMap<Ipv4Addr, NextHop>) -> anyhow::Result<()> {
        for old in self.neighbours.keys().collect::<Result<Vec<_>, _>>()? {
            if !wanted.contains_key(&old.get()) {
                self.neighbours.remove(&old)?;
            }
        }
        for (address, next_hop) in wanted {
            let address = Ipv4Be::new(*address);
            if self.neighbours.get(&address, 0).ok() != Some(*next_hop) {
                self.neighbours.insert(address, next_hop, 0)?;
            }
        }
        Ok(())
    }
}

fn tables(map: Map) -> anyhow::Result<ArrayOfMaps<MapData, Table>> {
    Ok(map.try_into()?)
}

/// A table as the program reads it: its length, then its slots.
fn new_table(slots: &[BackendId]) -> anyhow::Result<Table> {
    let length = u32::try_from(slots.len()).context("a selection table is too long")?;
    let table = Table::create(length + 1, BPF_F_INNER_MAP).context("creating a selection table")?;
    let keys: Vec<u8> = (0..=length).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> =
        std::iter::once(&length).chain(slots).flat_map(|value| value.to_ne_bytes()).collect();
    sys::update_batch(table.map().fd().as_fd(), &keys, &values, length + 1)
        .context("filling a selection table")?;
    Ok(table)
}

fn read_table(table: &Table) -> anyhow::Result<Vec<BackendId>> {
    let mut values = Vec::new();
    Walk::new(4, 4, 4096)
        .all(table.map().fd().as_fd(), |_, value| {
            values.extend(sys::from_bytes::<u32>(value));
            Ok(())
        })
        .context("reading a selection table")?;
    let length = values.first().copied().unwrap_or(0) as usize;
    Ok(values.get(1..=length).unwrap_or_default().to_vec())
}
