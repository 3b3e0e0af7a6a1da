//! From what should be installed to the writes that are missing, in an order in which no lookup
//! meets an identifier whose target is missing. Pure.
//!
//! Additions: lease, filters, VIP, endpoint, backend, table, allowed sources, service. Removals:
//! service, allowed sources, table, backend, endpoint, VIP, filters. `target` gives identifiers, `diff` compares; an unchanged part
//! causes no write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::{Endpoint, Ipv4Be, Ipv6Be};
use lb_common::backend::{Backend, BackendId};
use lb_common::filter::{AddressFilter, Filters};
use lb_common::lease::Lease;
use lb_common::service::{EndpointUse, Service, ServiceKey};

use crate::config::Cidr;

use super::desired::Desired;

mod diff;
mod target;

/// What the maps hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// With the index of each one's lease.
    pub vips: BTreeMap<IpAddr, u32>,
    /// Those of them that take nothing that is of no service.
    pub closed: BTreeSet<IpAddr>,
    /// Indices of the leases that end: VRRP renews them.
    pub leased: BTreeSet<u32>,
    pub services: BTreeMap<ServiceKey, Service>,
    /// Who may connect, by service; a service without any is open to all.
    pub allowed: BTreeSet<(u32, Cidr)>,
    /// Slots, by service.
    pub tables: BTreeMap<u32, Vec<BackendId>>,
    /// Those that are not free.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Where backends listen, and their hosts.
    pub endpoints: BTreeMap<Endpoint, EndpointUse>,
    pub filters: Filters,
    /// Backends that flows refer to: their identifiers must not get another meaning.
    pub referenced: BTreeSet<BackendId>,
    /// Backends that flows of `dnat` refer to: replies come for clients, not for a VIP.
    pub replying: BTreeSet<BackendId>,
    pub capacity: Capacity,
}

/// Entries of the maps. Identifiers of backends and services start at 1, so that one entry of
/// `BACKENDS` and of `TABLES` is not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub backends: u32,
    pub services: u32,
    pub vips: u32,
    pub allowed: u32,
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
        accepts: bool,
    },
    SetFilters(Box<Filters>),
    SetEndpoint {
        endpoint: Endpoint,
        value: EndpointUse,
    },
    /// What an earlier backend of this identifier counted is not the new one's.
    ClearCounters(BackendId),
    SetBackend {
        id: BackendId,
        backend: Backend,
    },
    SetTable {
        service: u32,
        slots: Vec<BackendId>,
    },
    Allow {
        service: u32,
        range: Cidr,
    },
    SetService {
        key: ServiceKey,
        service: Service,
    },
    RemoveService(ServiceKey),
    Disallow {
        service: u32,
        range: Cidr,
    },
    RemoveTable(u32),
    RemoveBackend(BackendId),
    RemoveEndpoint(Endpoint),
    RemoveVip {
        address: IpAddr,
        index: u32,
    },
}

/// The maps are too small: what is added must fit beside what is removed. Nothing is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "no room for {needed} backends, the maps hold {capacity}: fairlead stop --handover, then start"
    )]
    Backends { needed: usize, capacity: u32 },
    #[error(
        "no room for {needed} services, the maps hold {capacity}: fairlead stop --handover, then start"
    )]
    Services { needed: usize, capacity: u32 },
    #[error(
        "no room for {needed} VIPs, the maps hold {capacity}: fairlead stop --handover, then start"
    )]
    Vips { needed: usize, capacity: u32 },
    #[error(
        "no room for {needed} ranges of `allow`, the maps hold {capacity}: fairlead stop --handover, then start"
    )]
    Allowed { needed: usize, capacity: u32 },
}

/// The writes that make `desired` of `installed`, to be made in this order.
///
/// # Errors
/// The maps are too small.
pub fn plan(desired: &Desired, installed: &Installed) -> Result<Vec<MapOp>, PlanError> {
    let target = target::target(desired, installed)?;
    Ok(diff::diff(installed, &target))
}

/// Tables that are swapped in one call at most: each takes a descriptor until it is in place.
const MAX_TOGETHER: usize = 64;

/// The writes of a plan, in order, with tables that follow each other together: after each call that
/// swaps tables the kernel waits until no program reads the old ones, some 30 ms.
pub fn together(operations: &[MapOp]) -> impl Iterator<Item = &[MapOp]> {
    let is_table = |operation: &MapOp| matches!(operation, MapOp::SetTable { .. });
    operations
        .chunk_by(move |one, next| is_table(one) && is_table(next))
        .flat_map(|run| run.chunks(MAX_TOGETHER))
}

impl Installed {
    /// What the maps hold after `op`.
    pub fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::ClearCounters(_) => {}
            MapOp::SetLease { index, lease } => {
                if *lease == Lease::FOREVER {
                    self.leased.remove(index);
                } else {
                    self.leased.insert(*index);
                }
            }
            MapOp::AddVip { address, index, accepts } => {
                self.vips.insert(*address, *index);
                if *accepts {
                    self.closed.remove(address);
                } else {
                    self.closed.insert(*address);
                }
            }
            MapOp::SetFilters(filters) => self.filters = **filters,
            MapOp::SetEndpoint { endpoint, value } => {
                self.endpoints.insert(*endpoint, *value);
            }
            MapOp::SetBackend { id, backend } => {
                self.backends.insert(*id, *backend);
            }
            MapOp::SetTable { service, slots } => {
                self.tables.insert(*service, slots.clone());
            }
            MapOp::Allow { service, range } => {
                self.allowed.insert((*service, *range));
            }
            MapOp::Disallow { service, range } => {
                self.allowed.remove(&(*service, *range));
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
            MapOp::RemoveVip { address, index } => {
                self.vips.remove(address);
                self.closed.remove(address);
                self.leased.remove(index);
            }
        }
    }
}

/// Empty maps without capacity.
impl Default for Installed {
    fn default() -> Self {
        Self {
            vips: BTreeMap::new(),
            closed: BTreeSet::new(),
            leased: BTreeSet::new(),
            services: BTreeMap::new(),
            tables: BTreeMap::new(),
            backends: BTreeMap::new(),
            allowed: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            filters: Filters::EMPTY,
            referenced: BTreeSet::new(),
            replying: BTreeSet::new(),
            capacity: Capacity::default(),
        }
    }
}

/// The filters that let exactly what is for `vips` or from `sources` pass.
fn filters<'a>(
    vips: impl IntoIterator<Item = &'a IpAddr>,
    sources: impl IntoIterator<Item = &'a IpAddr>,
) -> Filters {
    let mut filters = Filters::EMPTY;
    for vip in vips {
        insert(&mut filters.vips, *vip);
    }
    for source in sources {
        insert(&mut filters.sources, *source);
        filters.any_source = 1;
    }
    filters
}

/// The filters that let everything pass that either does.
fn union(one: &Filters, other: &Filters) -> Filters {
    let words = |one: &AddressFilter, other: &AddressFilter| {
        AddressFilter(std::array::from_fn(|word| one.0[word] | other.0[word]))
    };
    Filters {
        vips: words(&one.vips, &other.vips),
        sources: words(&one.sources, &other.sources),
        any_source: one.any_source | other.any_source,
    }
}

fn insert(filter: &mut AddressFilter, address: IpAddr) {
    match address {
        IpAddr::V4(address) => filter.insert(Ipv4Be::new(address)),
        IpAddr::V6(address) => filter.insert(Ipv6Be::new(address)),
    }
}

/// Whether a filter lets an address pass.
pub fn may_contain(filter: &AddressFilter, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => filter.may_contain(Ipv4Be::new(address)),
        IpAddr::V6(address) => filter.may_contain(Ipv6Be::new(address)),
    }
}

#[cfg(test)]
mod tests;
