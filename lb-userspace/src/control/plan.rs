//! From what should be installed to the writes that are missing, in an order in which no lookup
//! meets an identifier whose target is missing. Pure.
//!
//! Additions: lease, filter, VIP, endpoint, backend, table, service. Removals: service, table,
//! backend, endpoint, VIP, filter. `target` gives identifiers, `diff` compares; an unchanged part
//! causes no write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::{Endpoint, Ipv4Be};
use lb_common::backend::{Backend, BackendId};
use lb_common::lease::Lease;
use lb_common::service::{Service, ServiceKey, VipFilter};

use super::desired::Desired;

mod diff;
mod target;

/// What the maps hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// With the index of each one's lease.
    pub vips: BTreeMap<IpAddr, u32>,
    pub services: BTreeMap<ServiceKey<Ipv4Be>, Service<Ipv4Be>>,
    /// Slots, by service.
    pub tables: BTreeMap<u32, Vec<BackendId>>,
    /// Those that are not free.
    pub backends: BTreeMap<BackendId, Backend<Ipv4Be>>,
    pub endpoints: BTreeSet<Endpoint<Ipv4Be>>,
    pub filter: VipFilter,
    /// Backends that flows refer to: their identifiers must not get another meaning.
    pub referenced: BTreeSet<BackendId>,
    pub capacity: Capacity,
}

/// Entries of the maps. Identifiers of backends and services start at 1, so that one entry of
/// `BACKENDS` and of `TABLES` is not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub backends: u32,
    pub services: u32,
    pub vips: u32,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    SetLease {
        index: u32,
        lease: Lease,
    },
    AddVip {
        address: IpAddr,
        index: u32,
    },
    SetFilter(Box<VipFilter>),
    AddEndpoint(Endpoint<Ipv4Be>),
    /// What an earlier backend of this identifier counted is not the new one's.
    ClearCounters(BackendId),
    SetBackend {
        id: BackendId,
        backend: Backend<Ipv4Be>,
    },
    SetTable {
        service: u32,
        slots: Vec<BackendId>,
    },
    SetService {
        key: ServiceKey<Ipv4Be>,
        service: Service<Ipv4Be>,
    },
    RemoveService(ServiceKey<Ipv4Be>),
    RemoveTable(u32),
    RemoveBackend(BackendId),
    RemoveEndpoint(Endpoint<Ipv4Be>),
    RemoveVip {
        address: IpAddr,
        index: u32,
    },
}

/// The maps are too small: what is added must fit beside what is removed. Nothing is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "no room for {needed} backends, the maps hold {capacity}: restart with `fairlead stop --handover`"
    )]
    Backends { needed: usize, capacity: u32 },
    #[error(
        "no room for {needed} services, the maps hold {capacity}: restart with `fairlead stop --handover`"
    )]
    Services { needed: usize, capacity: u32 },
    #[error(
        "no room for {needed} VIPs, the maps hold {capacity}: restart with `fairlead stop --handover`"
    )]
    Vips { needed: usize, capacity: u32 },
}

/// The writes that make `desired` of `installed`, to be made in this order.
///
/// # Errors
/// The maps are too small.
pub fn plan(desired: &Desired, installed: &Installed) -> Result<Vec<MapOp>, PlanError> {
    let target = target::target(desired, installed)?;
    Ok(diff::diff(installed, &target))
}

impl Installed {
    /// What the maps hold after `op`.
    pub fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::SetLease { .. } | MapOp::ClearCounters(_) => {}
            MapOp::AddVip { address, index } => {
                self.vips.insert(*address, *index);
            }
            MapOp::SetFilter(filter) => self.filter = **filter,
            MapOp::AddEndpoint(endpoint) => {
                self.endpoints.insert(*endpoint);
            }
            MapOp::SetBackend { id, backend } => {
                self.backends.insert(*id, *backend);
            }
            MapOp::SetTable { service, slots } => {
                self.tables.insert(*service, slots.clone());
            }
            MapOp::SetService { key, service } => {
                self.services.insert(*key, *service);
            }
            MapOp::RemoveService(key) => {
                self.services.remove(key);
            }
            MapOp::RemoveTable(service) => {
                self.tables.remove(service);
            }
            MapOp::RemoveBackend(id) => {
                self.backends.remove(id);
            }
            MapOp::RemoveEndpoint(endpoint) => {
                self.endpoints.remove(endpoint);
            }
            MapOp::RemoveVip { address, .. } => {
                self.vips.remove(address);
            }
        }
    }
}

/// Empty maps without capacity.
impl Default for Installed {
    fn default() -> Self {
        Self {
            vips: BTreeMap::new(),
            services: BTreeMap::new(),
            tables: BTreeMap::new(),
            backends: BTreeMap::new(),
            endpoints: BTreeSet::new(),
            filter: VipFilter::EMPTY,
            referenced: BTreeSet::new(),
            capacity: Capacity::default(),
        }
    }
}

/// As the maps have it. Of IPv4: `desired` asks for no other.
pub const fn be(address: IpAddr) -> Ipv4Be {
    match address {
        IpAddr::V4(address) => Ipv4Be::new(address),
        IpAddr::V6(_) => Ipv4Be::UNSPECIFIED,
    }
}

/// The filter that lets exactly `vips` pass.
fn filter<'a>(vips: impl IntoIterator<Item = &'a IpAddr>) -> VipFilter {
    let mut filter = VipFilter::EMPTY;
    for vip in vips {
        filter.insert(be(*vip));
    }
    filter
}

#[cfg(test)]
mod tests;
