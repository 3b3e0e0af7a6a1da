//! What a check says of flows that nodes share. Pure.

use lb_common::event::FLOW_RING;

use crate::config::{Limits, Sync};
use crate::sync::driver::READ;
use crate::sync::fsm::{BATCH, MAX_QUEUED, ROUND};

/// Bytes of a flow's name while a round is under way: a hash, in a table that is half full at worst.
const SEEN: u64 = 18;

pub(super) fn describe(sync: &Sync, limits: Limits) -> String {
    let peers: Vec<String> = sync.peers.iter().map(ToString::to_string).collect();
    let megabytes = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
    let (queued, flows) = (MAX_QUEUED as u64, u64::from(limits.flows));
    format!(
        "\nsync: listens on {}, shares flows with {}\n  \
         memory: ring of changes {}; for each peer at most {} that wait for it, and {flows} x {SEEN} = {} \
         while it sends all of its flows\n  \
         a change is sent within {} ms, everything is compared every {} s\n",
        sync.listen,
        peers.join(", "),
        megabytes(FLOW_RING.into()),
        megabytes(queued),
        megabytes(flows * SEEN),
        (BATCH + READ).as_millis(),
        ROUND.as_secs()
    )
}
