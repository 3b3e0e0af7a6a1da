//! The ways to clients that only another node hears of so far: asked for before their flows come here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Controller;
use crate::datapath::maps::MAX_NEIGHBOURS;
use crate::netlink::snapshot::{Resolution, Snapshot};

/// A neighbour that does not answer is asked again after so long.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// Neighbours asked at a time: each costs the kernel an entry, of which it has a thousand by default.
const MOST: usize = 128;

/// Clients whose flows another node serves, and the neighbours that were asked for on their behalf.
#[derive(Debug, Default)]
pub(super) struct Clients {
    known: BTreeSet<IpAddr>,
    /// Of them those that a peer told of since the last pass: the one under way may be past them.
    told: BTreeSet<IpAddr>,
    asked: BTreeMap<(u32, IpAddr), Instant>,
}

impl Clients {
    /// What a pass of the sweep came by.
    pub(super) fn note(&mut self, clients: BTreeSet<IpAddr>) {
        self.known = clients;
        self.known.append(&mut self.told);
    }

    /// What a peer has just told of, before a pass comes by it.
    pub(super) fn add(&mut self, clients: BTreeSet<IpAddr>) {
        let room = (MAX_NEIGHBOURS as usize).saturating_sub(self.known.len());
        let clients: BTreeSet<IpAddr> = clients.into_iter().take(room).collect();
        self.known.extend(&clients);
        self.told.extend(clients);
    }

    /// The neighbours on the way to clients that the kernel does not know and that were not asked lately, by
    /// their interfaces.
    fn unresolved(&self, snapshot: &Snapshot, now: Instant) -> BTreeSet<(u32, IpAddr)> {
        let is_due = |hop: &(u32, IpAddr)| {
            self.asked.get(hop).is_none_or(|asked| now.duration_since(*asked) >= ASK_INTERVAL)
        };
        let hop = |client: &IpAddr| match snapshot.next_hop(*client) {
            Resolution::Unresolved { neighbour, ifindex }
            | Resolution::Failed { neighbour, ifindex } => Some((ifindex, neighbour)),
            Resolution::Known(_) | Resolution::NoRoute | Resolution::Local => None,
        };
        self.known.iter().filter_map(hop).filter(is_due).take(MOST).collect()
    }
}

impl Controller {
    /// Whether `resolve_clients` has somebody to ask for.
    pub fn has_unresolved_clients(&self, now: Instant) -> bool {
        !self.clients.unresolved(&self.snapshot, now).is_empty()
    }

    /// Asks the kernel for the neighbours on the way to clients; its answers come as events.
    pub(super) async fn resolve_clients(&mut self, now: Instant) {
        let Clients { asked, .. } = &mut self.clients;
        asked.retain(|_, asked| now.duration_since(*asked) < ASK_INTERVAL);
        for (ifindex, neighbour) in self.clients.unresolved(&self.snapshot, now) {
            self.clients.asked.insert((ifindex, neighbour), now);
            if let Err(error) = self.netlink.resolve(ifindex, neighbour).await {
                log::debug!("resolving {neighbour}: {error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_of_during_a_pass_is_known_until_the_next_one_has_come_by() {
        let set = |numbers: &[u8]| -> BTreeSet<IpAddr> {
            numbers.iter().map(|number| IpAddr::from([10, 0, 0, *number])).collect()
        };
        let mut clients = Clients::default();
        clients.add(set(&[1]));
        clients.note(set(&[2]));
        assert_eq!(clients.known, set(&[1, 2]));
        clients.note(set(&[2]));
        assert_eq!(clients.known, set(&[2]));
    }
}
