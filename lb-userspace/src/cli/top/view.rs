//! What one frame says, whether it is drawn or printed as JSON. Names are those of `status --json`. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::rates::{Rate, Rates};
use crate::admin::model::{Admin, Backend, Event, State, Status, Vrrp};

/// A frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct View {
    pub(super) version: String,
    /// When it was measured.
    pub(super) time: String,
    pub(super) started: String,
    /// Established flows, and how many there may be.
    pub(super) connections: u64,
    pub(super) capacity: u64,
    /// Of all backends; null: nothing to compare with.
    pub(super) rate: Option<Rate>,
    pub(super) backends: Vec<Row>,
    pub(super) vips: Vec<VipRow>,
    pub(super) vrrp: Vec<VrrpRow>,
    pub(super) sync: Vec<SyncRow>,
    /// Frames dropped, and clients reset, by counter.
    pub(super) drops: Vec<DropRow>,
    /// The newest last.
    pub(super) events: Vec<Event>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) service: String,
    pub(super) backend: String,
    pub(super) address: SocketAddr,
    pub(super) state: State,
    pub(super) admin: Admin,
    pub(super) reason: String,
    pub(super) since: String,
    pub(super) weight: u16,
    pub(super) effective_weight: u16,
    pub(super) connections: u64,
    /// Of the service's connections, from 0 to 1.
    pub(super) share: f64,
    pub(super) unanswered: u64,
    pub(super) refused: u64,
    /// How long the last probe took.
    pub(super) probe_us: Option<u64>,
    pub(super) rate: Option<Rate>,
}

/// A VIP, and who has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct VipRow {
    pub(super) address: IpAddr,
    pub(super) owner: bool,
    pub(super) lease_ms: Option<u64>,
    /// The peer that advertises it, as far as this node hears.
    pub(super) holder: Option<IpAddr>,
}

/// An instance of VRRP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct VrrpRow {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) priority: u8,
    pub(super) since: String,
}

/// A node that shares flows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SyncRow {
    pub(super) address: String,
    pub(super) state: String,
    pub(super) lag_ms: u64,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DropRow {
    pub(super) name: String,
    pub(super) count: u64,
    /// By the second.
    pub(super) rate: Option<f64>,
}

impl View {
    pub(super) fn new(status: &Status, rates: Option<&Rates>, events: &[Event]) -> Self {
        Self {
            version: status.version.clone(),
            time: status.time.clone(),
            started: status.started.clone(),
            connections: status.flows.established,
            capacity: status.flows.capacity.established,
            rate: rates.map(|rates| rates.total),
            backends: rows(status, rates),
            vips: vips(status),
            vrrp: status.vrrp.iter().map(vrrp).collect(),
            sync: sync(status),
            drops: drops(status, rates),
            events: events.to_vec(),
        }
    }
}

fn rows(status: &Status, rates: Option<&Rates>) -> Vec<Row> {
    let services = status.services.iter().flat_map(|service| {
        let total: u64 = service.backends.iter().map(|backend| backend.connections).sum();
        service.backends.iter().map(move |backend| (&service.name, backend, total))
    });
    let row = |(service, backend, total): (&String, &Backend, u64)| {
        let name = (service.clone(), backend.name.clone());
        Row {
            address: backend.address,
            state: backend.state,
            admin: backend.admin,
            reason: backend.reason.clone(),
            since: backend.since.clone(),
            weight: backend.weight,
            effective_weight: backend.effective_weight,
            connections: backend.connections,
            share: part(backend.connections, total),
            unanswered: backend.unanswered,
            refused: backend.refused,
            probe_us: backend.probe_us,
            rate: rates.and_then(|rates| rates.backends.get(&name).copied()),
            service: name.0,
            backend: name.1,
        }
    };
    services.map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with two digits")]
fn part(of: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { of as f64 / total as f64 }
}

fn vips(status: &Status) -> Vec<VipRow> {
    let rows = status.vips.iter().map(|vip| VipRow {
        address: vip.address,
        owner: vip.owner,
        lease_ms: vip.lease_ms,
        holder: status.vrrp.iter().find(|it| it.vips.contains(&vip.address)).and_then(holder),
    });
    rows.collect()
}

/// Whom a node that stands by hears.
fn holder(instance: &Vrrp) -> Option<IpAddr> {
    let limit = 3 * (instance.advert_interval_ms + 1000);
    let peers = instance.peers.iter().filter(|peer| peer.last_seen_ms < limit);
    let nearest = peers.min_by_key(|peer| peer.last_seen_ms);
    nearest.filter(|_| instance.state == "backup").map(|peer| peer.address)
}

fn vrrp(instance: &Vrrp) -> VrrpRow {
    let Vrrp { name, state, priority, since, .. } = instance.clone();
    VrrpRow { name, state, priority, since }
}

fn sync(status: &Status) -> Vec<SyncRow> {
    let peers = status.sync.iter().flat_map(|sync| &sync.peers);
    let row = |peer: &crate::admin::model::SyncPeer| SyncRow {
        address: peer.address.clone(),
        state: peer.state.clone(),
        lag_ms: peer.lag_ms,
    };
    peers.map(row).collect()
}

/// The most first.
fn drops(status: &Status, rates: Option<&Rates>) -> Vec<DropRow> {
    let none = BTreeMap::new();
    let moved = rates.map_or(&none, |rates| &rates.counters);
    let is_refusal = |name: &str| name.starts_with("drop_") || name.starts_with("reset_");
    let found = status.counters.iter().filter(|(name, count)| **count > 0 && is_refusal(name));
    let mut rows: Vec<DropRow> = found
        .map(|(name, count)| {
            let rate = rates.map(|_| moved.get(name).copied().unwrap_or(0.0));
            DropRow { name: name.clone(), count: *count, rate }
        })
        .collect();
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    rows
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    /// Every figure of a row is that of `status --json`.
    #[test]
    fn a_frame_agrees_with_the_status() {
        let status = fixture();
        let view = serde_json::to_value(View::new(&status, None, &[])).unwrap();
        let status = serde_json::to_value(&status).unwrap();
        let backends = status["services"][0]["backends"].as_array().unwrap();
        let rows = view["backends"].as_array().unwrap();
        assert_eq!(rows.len(), backends.len());
        for (row, backend) in rows.iter().zip(backends) {
            assert_eq!(row["backend"], backend["name"]);
            for key in [
                "address",
                "state",
                "admin",
                "reason",
                "since",
                "weight",
                "effective_weight",
                "connections",
                "unanswered",
                "refused",
                "probe_us",
            ] {
                assert_eq!(row[key], backend[key], "{key}");
            }
        }
        for (row, vip) in
            view["vips"].as_array().unwrap().iter().zip(status["vips"].as_array().unwrap())
        {
            assert_eq!((&row["address"], &row["owner"]), (&vip["address"], &vip["owner"]));
        }
        assert_eq!(view["connections"], status["flows"]["established"]);
        assert_eq!(view["drops"][0]["name"], "drop_malformed");
        assert_eq!(view["drops"][0]["count"], status["counters"]["drop_malformed"]);
        assert_eq!(view["rate"], serde_json::Value::Null);
    }

    #[test]
    fn a_node_that_stands_by_says_whom_it_hears() {
        let instance = |state: &str, seen| {
            let peer =
                serde_json::json!({ "address": "10.0.0.3", "priority": 1, "last_seen_ms": seen });
            let instance = serde_json::json!({ "vips": ["10.0.0.100"], "state": state, "advert_interval_ms": 1000, "peers": [peer] });
            let vrrp = vec![serde_json::from_value(instance).unwrap()];
            View::new(&Status { vrrp, ..fixture() }, None, &[]).vips[0].holder
        };
        assert_eq!(instance("backup", 300), Some("10.0.0.3".parse().unwrap()));
        assert_eq!(instance("backup", 90_000), None);
        assert_eq!(instance("active", 300), None);
    }
}
