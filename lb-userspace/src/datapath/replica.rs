//! Keeps a peer's flows in this node's tables, ready for the moment that its VIPs come here. I/O.
//!
//! The peer serves them and knows better; what this node serves itself is left as it is.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::{FlowHalf, PortHold, Timeouts, flag};
use lb_common::flow::FlowKey;
use lb_common::table;
use lb_common::time::Ticks;

use super::maps::Maps;
use super::now;
use super::served::Served;
use super::sweep::Family;
use super::table::FlowTable;
use crate::sync::placement::{self, Halves, Places, Refusal};
use crate::sync::record::{FlowId, FlowRecord};

/// What is installed here, as the controller last wrote it.
#[derive(Clone, Debug, Default)]
pub struct SharedPlaces(Arc<RwLock<Arc<Places>>>);

impl SharedPlaces {
    pub fn get(&self) -> Arc<Places> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, places: Places) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(places);
    }
}

/// A peer's flows: for the thread that speaks with the peer.
pub struct Replica {
    tables: [Arc<FlowTable>; 2],
    served: Served,
    shared: SharedPlaces,
}

impl Replica {
    /// Goes on working after `maps` are gone.
    pub fn new(maps: &Maps, shared: SharedPlaces) -> io::Result<Self> {
        Ok(Self::of(maps.flows.clone(), Served::of(maps.leases()?), shared))
    }

    /// Of the table of each family.
    pub const fn of(tables: [Arc<FlowTable>; 2], served: Served, shared: SharedPlaces) -> Self {
        Self { tables, served, shared }
    }

    /// Keeps a flow as the peer says it is.
    ///
    /// # Errors
    /// What is refused is not kept at all.
    pub fn put(&mut self, record: &FlowRecord) -> Result<(), Refusal> {
        if record.id.client.is_ipv4() {
            self.put_as::<Ipv4Be>(record)
        } else {
            self.put_as::<Ipv6Be>(record)
        }
    }

    /// Forgets a flow that the peer says is over. `false`: there is none, or this node serves it.
    pub fn remove(&mut self, id: &FlowId) -> bool {
        if id.client.is_ipv4() != id.vip.is_ipv4() {
            return false;
        }
        if id.client.is_ipv4() {
            self.remove_as::<Ipv4Be>(id)
        } else {
            self.remove_as::<Ipv6Be>(id)
        }
    }

    fn is_served(&mut self, lease: Option<u16>) -> bool {
        lease.is_some_and(|lease| self.served.may_answer(lease.into(), now::monotonic()))
    }

    fn put_as<A: Family>(&mut self, record: &FlowRecord) -> Result<(), Refusal> {
        let places = self.shared.get();
        let halves = places.halves::<A>(record, now::ticks())?;
        let served = self.is_served(places.lease(&record.id));
        Peers { table: &self.tables[A::INDEX], served }.put(&halves)
    }

    fn remove_as<A: Family>(&mut self, id: &FlowId) -> bool {
        let served = self.is_served(self.shared.get().lease(id));
        Peers { table: &self.tables[A::INDEX], served }
            .remove(&placement::key::<A>(id.client, id.vip))
    }
}

/// What a peer tells of a family's flows.
struct Peers<'a> {
    table: &'a FlowTable,
    /// This node serves the flow's VIP.
    served: bool,
}

impl Peers<'_> {
    /// It is confirmed, and its segments come by here: a guess of this node's gives way to what a peer tells.
    const fn is_own<A>(&self, half: &FlowHalf<A>) -> bool {
        self.served && half.is_confirmed() && !half.has(flag::REPLICA)
    }

    /// The reply half first: whoever finds the original half finds the other one too.
    fn put<A: Family>(&self, halves: &Halves<A>) -> Result<(), Refusal> {
        if let Some((reply_key, reply)) = &halves.reply {
            match self.table.store(reply_key, reply, false) {
                Ok(()) => {}
                Err(table::Refusal::Exists) => self.replace_reply(halves, reply_key, reply)?,
                Err(table::Refusal::Full) => return Err(Refusal::NoRoom),
            }
        }
        let (key, original) = &halves.original;
        match self.table.store(key, original, false) {
            Ok(()) => Ok(()),
            Err(table::Refusal::Exists) => self.replace_original(key, original),
            Err(table::Refusal::Full) => {
                if let Some((reply_key, _)) = &halves.reply {
                    self.table.remove(reply_key);
                }
                Err(Refusal::NoRoom)
            }
        }
    }

    /// There is a half where replies are to be found: of the same flow, or of another that had its port.
    fn replace_reply<A: Family>(
        &self,
        halves: &Halves<A>,
        reply_key: &FlowKey<A>,
        reply: &FlowHalf<A>,
    ) -> Result<(), Refusal> {
        let (key, _) = &halves.original;
        let mut reply = *reply;
        if let Some(found) = self.table.find(reply_key) {
            if found.translation.answers(key) {
                if self.is_own(&found) {
                    return Err(Refusal::Own);
                }
                // Where what still comes here is to go.
                reply.next_hop = found.next_hop;
            } else if self.is_own(&found) && holds_its_port(&found, reply.last_seen) {
                return Err(Refusal::PortTaken);
            } else {
                self.evict(reply_key, &found);
            }
        }
        self.replace(reply_key, &reply)
    }

    /// Removes the original half of another flow that replies were for.
    fn evict<A: Family>(&self, reply_key: &FlowKey<A>, reply: &FlowHalf<A>) {
        let key = reply.translation.peer_key();
        self.table.remove_if(&key, |half| half.translation.answers(reply_key));
    }

    fn replace_original<A: Family>(
        &self,
        key: &FlowKey<A>,
        original: &FlowHalf<A>,
    ) -> Result<(), Refusal> {
        let mut original = *original;
        if let Some(found) = self.table.find(key) {
            if self.is_own(&found) {
                return Err(Refusal::Own);
            }
            original.next_hop = found.next_hop;
            if found.translation != original.translation {
                self.remove_reply(key, &found);
            }
        }
        self.replace(key, &original)
    }

    fn replace<A: Family>(&self, key: &FlowKey<A>, half: &FlowHalf<A>) -> Result<(), Refusal> {
        self.table.store(key, half, true).map_err(|_| Refusal::NoRoom)
    }

    fn remove<A: Family>(&self, key: &FlowKey<A>) -> bool {
        // A handshake here is not what the peer says is over.
        let is_it = |half: &FlowHalf<A>| half.is_confirmed() && !self.is_own(half);
        let Some(half) = self.table.find(key).filter(is_it) else { return false };
        let removed = self.table.remove_if(key, is_it);
        if removed {
            self.remove_reply(key, &half);
        }
        removed
    }

    fn remove_reply<A: Family>(&self, key: &FlowKey<A>, half: &FlowHalf<A>) {
        if !half.is_alone() {
            let peer_key = half.translation.peer_key();
            self.table.remove_if(&peer_key, |reply| reply.translation.answers(key));
        }
    }
}

/// Whether a flow of this node keeps a peer's from its SNAT port.
fn holds_its_port<A>(reply: &FlowHalf<A>, now: Ticks) -> bool {
    match reply.port_hold(&Timeouts::default(), now) {
        PortHold::Live => true,
        PortHold::TimeWait | PortHold::Free => false,
    }
}
