//! Keeps a peer's flows in this node's maps, ready for the moment that its VIPs come here. I/O.
//!
//! The peer serves them and knows better; what this node serves itself is left as it is.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use aya::Pod;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::{FlowHalf, PortHold, Timeouts, flag};
use lb_common::flow::FlowKey;
use lb_common::time::Ticks;

use super::maps::Maps;
use super::now;
use super::served::Served;
use super::sweep::{Family, rules};
use super::sys;
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

/// A peer's flows, by descriptors of its own: for the thread that speaks with the peer.
pub struct Replica {
    families: [OwnedFd; 2],
    served: Served,
    shared: SharedPlaces,
}

impl Replica {
    /// Goes on working after `maps` are gone.
    pub fn new(maps: &Maps, shared: SharedPlaces) -> io::Result<Self> {
        Ok(Self::of(maps.established()?, Served::of(maps.leases()?), shared))
    }

    /// Of the established flows of each family.
    pub const fn of(families: [OwnedFd; 2], served: Served, shared: SharedPlaces) -> Self {
        Self { families, served, shared }
    }

    /// Keeps a flow as the peer says it is. What is refused is not kept at all.
    pub fn put(&mut self, record: &FlowRecord) -> io::Result<Result<(), Refusal>> {
        if record.id.client.is_ipv4() {
            self.put_as::<Ipv4Be>(record)
        } else {
            self.put_as::<Ipv6Be>(record)
        }
    }

    /// Forgets a flow that the peer says is over. `false`: there is none, or this node serves it.
    pub fn remove(&mut self, id: &FlowId) -> io::Result<bool> {
        if id.client.is_ipv4() != id.vip.is_ipv4() {
            return Ok(false);
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

    fn put_as<A: Family>(&mut self, record: &FlowRecord) -> io::Result<Result<(), Refusal>>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let places = self.shared.get();
        let halves = match places.halves::<A>(record, now::ticks()) {
            Ok(halves) => halves,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let served = self.is_served(places.lease(&record.id));
        let map = Map { map: self.families[A::INDEX].as_fd(), served };
        map.put(&halves)
    }

    fn remove_as<A: Family>(&mut self, id: &FlowId) -> io::Result<bool>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let served = self.is_served(self.shared.get().lease(id));
        let map = Map { map: self.families[A::INDEX].as_fd(), served };
        let key = placement::key::<A>(id.client, id.vip);
        let Some(half) = rules::find::<_, FlowHalf<A>>(map.map, &key)? else { return Ok(false) };
        if map.is_own(&half) {
            return Ok(false);
        }
        map.remove(&key, &half)
    }
}

/// The established flows of a family.
struct Map<'a> {
    map: BorrowedFd<'a>,
    /// This node serves the flow's VIP.
    served: bool,
}

/// What came of storing a half where there may be another.
enum Stored {
    New,
    Taken,
    Full,
}

impl Map<'_> {
    /// Its segments come by here.
    const fn is_own<A>(&self, half: &FlowHalf<A>) -> bool {
        self.served && !half.has(flag::REPLICA)
    }

    /// The reply half first: whoever finds the original half finds the other one too.
    fn put<A: Family>(&self, halves: &Halves<A>) -> io::Result<Result<(), Refusal>>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        if let Some((reply_key, reply)) = &halves.reply {
            match self.store(reply_key, reply, sys::NOEXIST)? {
                Stored::New => {}
                Stored::Taken => {
                    if let Err(refusal) = self.replace_reply(halves, reply_key, reply)? {
                        return Ok(Err(refusal));
                    }
                }
                Stored::Full => return Ok(Err(Refusal::NoRoom)),
            }
        }
        let (key, original) = &halves.original;
        match self.store(key, original, sys::NOEXIST)? {
            Stored::New => Ok(Ok(())),
            Stored::Taken => self.replace_original(key, original),
            Stored::Full => {
                if let Some((reply_key, _)) = &halves.reply {
                    sys::delete(self.map, sys::as_bytes(reply_key))?;
                }
                Ok(Err(Refusal::NoRoom))
            }
        }
    }

    /// There is a half where replies are to be found: of the same flow, or of another that had its port.
    fn replace_reply<A: Family>(
        &self,
        halves: &Halves<A>,
        reply_key: &FlowKey<A>,
        reply: &FlowHalf<A>,
    ) -> io::Result<Result<(), Refusal>>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let (key, _) = &halves.original;
        let mut reply = *reply;
        if let Some(found) = rules::find::<_, FlowHalf<A>>(self.map, reply_key)? {
            if found.translation.answers(key) {
                if self.is_own(&found) {
                    return Ok(Err(Refusal::Own));
                }
                // Where what still comes here is to go.
                reply.next_hop = found.next_hop;
            } else if self.is_own(&found) && holds_its_port(&found, reply.last_seen) {
                return Ok(Err(Refusal::PortTaken));
            } else {
                self.evict(reply_key, &found)?;
            }
        }
        Ok(match self.store(reply_key, &reply, 0)? {
            Stored::New | Stored::Taken => Ok(()),
            Stored::Full => Err(Refusal::NoRoom),
        })
    }

    /// Removes the original half of another flow that replies were for.
    fn evict<A: Family>(&self, reply_key: &FlowKey<A>, reply: &FlowHalf<A>) -> io::Result<()>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let key = reply.translation.peer_key();
        let is_its = |half: &FlowHalf<A>| half.translation.answers(reply_key);
        rules::remove_if(self.map, &key, is_its).map(drop)
    }

    fn replace_original<A: Family>(
        &self,
        key: &FlowKey<A>,
        original: &FlowHalf<A>,
    ) -> io::Result<Result<(), Refusal>>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let mut original = *original;
        if let Some(found) = rules::find::<_, FlowHalf<A>>(self.map, key)? {
            if self.is_own(&found) {
                return Ok(Err(Refusal::Own));
            }
            original.next_hop = found.next_hop;
            if found.translation != original.translation {
                self.remove_reply(key, &found)?;
            }
        }
        Ok(match self.store(key, &original, 0)? {
            Stored::New | Stored::Taken => Ok(()),
            Stored::Full => Err(Refusal::NoRoom),
        })
    }

    fn remove<A: Family>(&self, key: &FlowKey<A>, half: &FlowHalf<A>) -> io::Result<bool>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        let removed = rules::remove_if(self.map, key, |found: &FlowHalf<A>| !self.is_own(found))?;
        if removed {
            self.remove_reply(key, half)?;
        }
        Ok(removed)
    }

    fn remove_reply<A: Family>(&self, key: &FlowKey<A>, half: &FlowHalf<A>) -> io::Result<()>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        if half.is_alone() {
            return Ok(());
        }
        let is_its = |reply: &FlowHalf<A>| reply.translation.answers(key);
        rules::remove_if(self.map, &half.translation.peer_key(), is_its).map(drop)
    }

    fn store<A: Family>(
        &self,
        key: &FlowKey<A>,
        half: &FlowHalf<A>,
        flags: u64,
    ) -> io::Result<Stored>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        match sys::update(self.map, sys::as_bytes(key), sys::as_bytes(half), flags) {
            Ok(()) => Ok(Stored::New),
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => Ok(Stored::Taken),
                Some(libc::E2BIG) => Ok(Stored::Full),
                _ => Err(error),
            },
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
