//! What differs between the maps as they are and as they should be, as writes in a safe order. Pure.

use lb_common::lease::Lease;

use super::{Installed, MapOp, filter};

/// The writes that make `target` of `installed`.
pub(super) fn diff(installed: &Installed, target: &Installed) -> Vec<MapOp> {
    let mut ops = Vec::new();
    add_vips(installed, target, &mut ops);
    set_backends(installed, target, &mut ops);
    set_services(installed, target, &mut ops);
    remove(installed, target, &mut ops);
    ops
}

/// The filter is never without a VIP that is there: it gets the new ones before they are added, and
/// loses the old ones after they are gone.
fn add_vips(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    let added = || target.vips.iter().filter(|(vip, _)| !installed.vips.contains_key(vip));
    ops.extend(added().map(|(_, index)| MapOp::SetLease { index: *index, lease: Lease::FOREVER }));
    let both = filter(installed.vips.keys().chain(target.vips.keys()));
    if both != installed.filter && added().next().is_some() {
        ops.push(MapOp::SetFilter(Box::new(both)));
    }
    ops.extend(added().map(|(vip, index)| MapOp::AddVip { address: *vip, index: *index }));
}

fn set_backends(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    ops.extend(target.endpoints.difference(&installed.endpoints).copied().map(MapOp::AddEndpoint));
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
    for (key, service) in &target.services {
        if installed.services.get(key) != Some(service) {
            ops.push(MapOp::SetService { key: *key, service: *service });
        }
    }
}

fn remove(installed: &Installed, target: &Installed, ops: &mut Vec<MapOp>) {
    let services = installed.services.keys().filter(|key| !target.services.contains_key(key));
    ops.extend(services.copied().map(MapOp::RemoveService));
    let tables = installed.tables.keys().filter(|id| !target.tables.contains_key(id));
    ops.extend(tables.copied().map(MapOp::RemoveTable));
    let backends = installed.backends.keys().filter(|id| !target.backends.contains_key(id));
    ops.extend(backends.copied().map(MapOp::RemoveBackend));
    let endpoints = installed.endpoints.difference(&target.endpoints);
    ops.extend(endpoints.copied().map(MapOp::RemoveEndpoint));
    let vips = installed.vips.iter().filter(|(vip, _)| !target.vips.contains_key(vip));
    ops.extend(vips.map(|(vip, index)| MapOp::RemoveVip { address: *vip, index: *index }));
    let set =
        ops.iter().find_map(|op| if let MapOp::SetFilter(set) = op { Some(**set) } else { None });
    if target.filter != set.unwrap_or(installed.filter) {
        ops.push(MapOp::SetFilter(Box::new(target.filter)));
    }
}
