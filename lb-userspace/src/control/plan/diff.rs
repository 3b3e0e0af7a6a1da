//! What differs between the maps as they are and as they should be, as writes in a safe order. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::backend::{Backend, State};
use lb_common::filter::Filters;
use lb_common::lease::Lease;
use lb_common::nat::Kind;

use super::{Installed, MapOp, filters, union};

/// The writes that make `target` of `installed`.
pub(super) fn diff(installed: &Installed, target: &Installed) -> Vec<MapOp> {
    let mut ops = Vec::new();
    add_vips(installed, target, &mut ops);
    set_backends(installed, target, &mut ops);
    set_services(installed, target, &mut ops);
    remove(installed, target, &mut ops);
    ops
}

/// The filters are never without what is there: they get the new before it is added, and lose the
/// old after it is gone.
fn add_vips(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    let is_other = |(vip, _): &(&IpAddr, &u32)| {
        !installed.vips.contains_key(vip)
            || installed.closed.contains(vip) != target.closed.contains(vip)
    };
    let is_new = |(vip, index): &(&IpAddr, &u32)| {
        !installed.vips.contains_key(vip)
            || installed.leased.contains(index) != target.leased.contains(index)
    };
    ops.extend(target.vips.iter().filter(is_new).map(|(_, index)| {
        // One that ends is for VRRP to renew.
        let ends = target.leased.contains(index);
        let lease = if ends { Lease::EXPIRED } else { Lease::FOREVER };
        MapOp::SetLease { index: *index, lease }
    }));
    let both = while_writing(installed, target);
    if both != installed.filters {
        ops.push(MapOp::SetFilters(Box::new(both)));
    }
    ops.extend(target.vips.iter().filter(is_other).map(|(vip, index)| {
        let accepts = !target.closed.contains(vip);
        MapOp::AddVip { address: *vip, index: *index, accepts }
    }));
}

/// What is there before, after, or between: a service that leaves `dnat` has its
/// new backends before its new mode.
fn while_writing(installed: &Installed, target: &Installed) -> Filters {
    let dnat: BTreeSet<u32> = installed
        .services
        .values()
        .filter(|service| service.kind == Kind::Dnat as u8)
        .map(|service| service.id)
        .collect();
    let is_chosen = |backend: &&Backend| {
        dnat.contains(&backend.service)
            && backend.state != State::Removed as u8
            && !backend.is_local()
    };
    let backends = target.backends.values().filter(is_chosen);
    let sources: Vec<_> = backends.map(|backend| backend.endpoint.address.get()).collect();
    let both = union(&installed.filters, &target.filters);
    union(&both, &filters([], &sources))
}

fn set_backends(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    for (endpoint, value) in &target.endpoints {
        if installed.endpoints.get(endpoint) != Some(value) {
            ops.push(MapOp::SetEndpoint { endpoint: *endpoint, value: *value });
        }
    }
    for (id, backend) in &target.backends {
        let before = installed.backends.get(id);
        if before.is_none() {
            ops.push(MapOp::ClearCounters(*id));
        }
        if before != Some(backend) {
            ops.push(MapOp::SetBackend { id: *id, backend: *backend });
        }
    }
}

fn set_services(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    for (service, slots) in &target.tables {
        if installed.tables.get(service) != Some(slots) {
            ops.push(MapOp::SetTable { service: *service, slots: slots.clone() });
        }
    }
    let allowed = target.allowed.difference(&installed.allowed);
    ops.extend(allowed.map(|(service, range)| MapOp::Allow { service: *service, range: *range }));
    for (key, service) in &target.services {
        if installed.services.get(key) != Some(service) {
            ops.push(MapOp::SetService { key: *key, service: *service });
        }
    }
}

fn remove(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    let services = installed.services.keys().filter(|key| !target.services.contains_key(key));
    ops.extend(services.copied().map(MapOp::RemoveService));
    let allowed = installed.allowed.difference(&target.allowed);
    ops.extend(
        allowed.map(|(service, range)| MapOp::Disallow { service: *service, range: *range }),
    );
    let tables = installed.tables.keys().filter(|id| !target.tables.contains_key(id));
    ops.extend(tables.copied().map(MapOp::RemoveTable));
    let backends = installed.backends.keys().filter(|id| !target.backends.contains_key(id));
    ops.extend(backends.copied().map(MapOp::RemoveBackend));
    let endpoints = installed.endpoints.keys().filter(|at| !target.endpoints.contains_key(at));
    ops.extend(endpoints.copied().map(MapOp::RemoveEndpoint));
    let vips = installed.vips.iter().filter(|(vip, _)| !target.vips.contains_key(vip));
    ops.extend(vips.map(|(vip, index)| MapOp::RemoveVip { address: *vip, index: *index }));
    let set =
        ops.iter().find_map(|op| if let MapOp::SetFilters(set) = op { Some(**set) } else { None });
    if target.filters != set.unwrap_or(installed.filters) {
        ops.push(MapOp::SetFilters(Box::new(target.filters)));
    }
}
