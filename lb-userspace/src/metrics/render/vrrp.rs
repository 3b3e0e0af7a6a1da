//! Instances of VRRP, under RFC 6527's names where it has one. Pure.

use std::fmt;

use super::super::families::{self as family, Family};
use super::super::write::Writer;
use super::{MAX_OTHERS, milliseconds, seconds};
use crate::admin::model::{Vrrp, VrrpPeer};

const STATES: [&str; 4] = ["init", "backup", "active", "fault"];

/// The counters of `status --json`, and their families.
pub(super) const COUNTERS: [(&str, &Family); 20] = [
    ("master_transitions", &family::VRRP_MASTER_TRANSITIONS),
    ("advertisements_sent", &family::VRRP_SENT),
    ("advertisements_received", &family::VRRP_RCVD),
    ("priority_zero_packets_sent", &family::VRRP_SENT_PRI_ZERO),
    ("priority_zero_packets_received", &family::VRRP_RCVD_PRI_ZERO),
    ("send_errors", &family::VRRP_SEND_ERRORS),
    ("ip_ttl_errors", &family::VRRP_IP_TTL_ERRORS),
    ("packet_length_errors", &family::VRRP_PACKET_LENGTH_ERRORS),
    ("version_errors", &family::VRRP_VERSION_ERRORS),
    ("invalid_type_packets", &family::VRRP_INVALID_TYPE),
    ("checksum_errors", &family::VRRP_CHECKSUM_ERRORS),
    ("vrid_errors", &family::VRRP_VRID_ERRORS),
    ("address_list_errors", &family::VRRP_ADDRESS_LIST_ERRORS),
    ("adv_interval_errors", &family::VRRP_ADV_INTERVAL_ERRORS),
    ("auth_type_mismatches", &family::VRRP_AUTH_TYPE_MISMATCHES),
    ("auth_failures", &family::VRRP_AUTH_FAILURES),
    ("cast_errors", &family::VRRP_CAST_ERRORS),
    ("stranger_packets", &family::VRRP_STRANGERS),
    ("own_source_packets", &family::VRRP_OWN_SOURCE),
    ("not_running_packets", &family::VRRP_NOT_RUNNING),
];

pub(super) fn write(writer: &mut Writer<'_>, instances: &[Vrrp]) -> fmt::Result {
    if instances.is_empty() {
        return Ok(());
    }
    let instances = || instances.iter().take(MAX_OTHERS);
    let states = instances().map(|it| ([&*it.name, ""], &*it.state));
    writer.states(&family::VRRP_STATE, &STATES, states)?;
    let priorities = instances().map(|it| ([&*it.name], it.priority.into()));
    writer.gauges(&family::VRRP_PRIORITY, priorities)?;
    let since = instances().map(|it| ([&*it.name], seconds(&it.since)));
    writer.gauges(&family::VRRP_SINCE, since)?;
    let alarms =
        instances().flat_map(|it| it.alarms.iter().map(|alarm| ([&*it.name, &*alarm.kind], 1.0)));
    writer.gauges(&family::VRRP_ALARM, alarms)?;
    let of = |it: &Vrrp, counter: &str| it.counters.get(counter).copied().unwrap_or_default();
    for (counter, counted) in COUNTERS {
        writer.counters(counted, instances().map(|it| ([&*it.name], of(it, counter))))?;
    }
    let late = instances().map(|it| ([&*it.name], microseconds(of(it, "worst_lateness_us"))));
    writer.gauges(&family::VRRP_WORST_LATENESS, late)?;
    let peers: Vec<_> = instances()
        .flat_map(|it| it.peers.iter().map(|peer| (&*it.name, peer.address.to_string(), peer)))
        .take(MAX_OTHERS)
        .collect();
    let of = |value: fn(&VrrpPeer) -> f64| {
        peers.iter().map(move |(instance, address, peer)| ([instance, &**address], value(peer)))
    };
    writer.gauges(&family::VRRP_PEER_SILENCE, of(|peer| milliseconds(peer.last_seen_ms)))?;
    writer.gauges(&family::VRRP_PEER_LATENESS, of(|peer| microseconds(peer.jitter_us)))?;
    writer.gauges(&family::VRRP_PEER_INTERVAL, of(|peer| milliseconds(peer.advert_interval_ms)))?;
    writer.gauges(&family::VRRP_PEER_PRIORITY, of(|peer| peer.priority.into()))
}

const fn microseconds(span: u64) -> f64 {
    span as f64 / 1e6
}
