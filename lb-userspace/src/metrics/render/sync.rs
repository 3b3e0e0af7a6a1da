//! Nodes that share flows with this one. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::super::families as family;
use super::super::write::{Writer, truth};
use super::{MAX_OTHERS, milliseconds, one};
use crate::admin::model::{Sync, SyncPeer};

const STATES: [&str; 3] = ["connecting", "syncing", "synced"];

pub(super) fn write(writer: &mut Writer<'_>, sync: &Sync) -> fmt::Result {
    writer.gauges(&family::SYNC_WARM, one(truth(sync.warm)))?;
    let peers = || sync.peers.iter().take(MAX_OTHERS);
    let states = peers().map(|peer| ([&*peer.address, ""], &*peer.state));
    writer.states(&family::SYNC_PEER_STATE, &STATES, states)?;
    let gauge =
        |value: fn(&SyncPeer) -> f64| peers().map(move |peer| ([&*peer.address], value(peer)));
    writer.gauges(&family::SYNC_HELD, gauge(|peer| peer.held as f64))?;
    writer.gauges(&family::SYNC_HELD_BY_PEER, gauge(|peer| peer.held_by_peer as f64))?;
    writer.gauges(&family::SYNC_LAG, gauge(|peer| milliseconds(peer.lag_ms)))?;
    let compared = || peers().filter_map(|peer| Some((&*peer.address, peer.last_digest?)));
    let ages = compared().map(|(peer, last)| ([peer], milliseconds(last.ago_ms)));
    writer.gauges(&family::SYNC_COMPARED, ages)?;
    let differing = compared().map(|(peer, last)| ([peer], last.differing as f64));
    writer.gauges(&family::SYNC_DIFFERING, differing)?;
    let counter =
        |value: fn(&SyncPeer) -> u64| peers().map(move |peer| ([&*peer.address], value(peer)));
    writer.counters(&family::SYNC_SENT, counter(|peer| peer.sent))?;
    writer.counters(&family::SYNC_RECEIVED, counter(|peer| peer.received))?;
    writer.counters(&family::SYNC_RESYNCS, counter(|peer| peer.resyncs))?;
    writer.counters(&family::SYNC_IGNORED, counter(|peer| peer.ignored))?;
    writer.counters(&family::SYNC_DISCARDED, counter(|peer| peer.discarded))?;
    writer.counters(&family::SYNC_REFUSED, by_reason(&sync.refused))?;
    writer.counters(&family::SYNC_NOT_KEPT, by_reason(&sync.not_kept))?;
    writer.counters(&family::SYNC_LOST, [([""; 0], sync.lost_changes)])
}

/// Reasons are few: `sync::refusal` has a fixed list of each.
fn by_reason(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = ([&str; 1], u64)> {
    counts.iter().map(|(reason, count)| ([&**reason], *count))
}
