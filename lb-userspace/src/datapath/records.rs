//! Reads confirmed flows for a peer: all of them in slices, on whatever thread speaks with the peer. I/O.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::nat::Kind;

use super::flows::{Reader, Seen, Visit};
use super::maps::Maps;
use super::stale::Found;
use super::sweep::Family;
use super::sys;
use super::table::FlowTable;
use crate::sync::placement;
use crate::sync::record::{FlowId, FlowRecord};

/// How much of each flow is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All but what the backend has sent, of which it says whether it is closing: for comparing. Half the
    /// work.
    Outline,
    Whole,
}

/// The confirmed flows of both families. One walk at a time.
pub struct RecordReader {
    reader: Reader,
    backends: Backends,
}

impl RecordReader {
    /// Goes on working after `maps` are gone.
    pub fn new(maps: &Maps) -> io::Result<Self> {
        Ok(Self::of(maps.flows.clone(), maps.backends()?))
    }

    /// Of the table of each family.
    pub fn of(tables: [Arc<FlowTable>; 2], backends: OwnedFd) -> Self {
        let backends = Backends { map: backends, known: BTreeMap::new() };
        Self { reader: Reader::new(tables), backends }
    }

    /// The next slice is the first one.
    pub fn restart(&mut self) {
        self.reader.restart();
        self.backends.known.clear();
    }

    /// Appends those flows of the next slice that are `wanted`, up to some thousands. `true`: it was the
    /// last one.
    ///
    /// What comes or goes during a walk may be missed: its changes are told as events.
    pub fn slice(
        &mut self,
        detail: Detail,
        wanted: impl Fn(&FlowId) -> bool,
        records: &mut Vec<FlowRecord>,
    ) -> bool {
        let backends = &mut self.backends;
        let complete = self.reader.slice(&mut Visitor { detail, wanted, backends, records });
        if complete {
            // Numbers may have got another meaning by the next walk.
            self.backends.known.clear();
        }
        complete
    }
}

struct Visitor<'a, W> {
    detail: Detail,
    wanted: W,
    backends: &'a mut Backends,
    records: &'a mut Vec<FlowRecord>,
}

impl<A: Family, W: Fn(&FlowId) -> bool> Visit<A> for Visitor<'_, W> {
    fn wants(&mut self, key: &FlowKey<A>, half: &FlowHalf<A>) -> bool {
        if !half.is_confirmed() || !(self.wanted)(&placement::id(key)) {
            return false;
        }
        match self.detail {
            Detail::Outline => {
                let backend = self.backends.of(half);
                self.records.extend(placement::outline(key, half, backend));
                false
            }
            Detail::Whole => true,
        }
    }

    fn see(&mut self, seen: Seen<A>) {
        let Found { key, half } = seen.found;
        let backend = self.backends.of(&half);
        self.records.extend(placement::record(&key, &half, seen.reply.as_ref(), backend));
    }
}

/// Where backends listen, read as they are met.
struct Backends {
    map: OwnedFd,
    known: BTreeMap<BackendId, SocketAddr>,
}

impl Backends {
    /// Only packets of `dsr` don't tell it themselves.
    fn of<A>(&mut self, half: &FlowHalf<A>) -> SocketAddr {
        const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        if half.kind != Kind::Dsr as u8 {
            return UNKNOWN;
        }
        *self.known.entry(half.backend).or_insert_with(|| {
            let mut bytes = [0; size_of::<Backend>()];
            let key = half.backend.to_ne_bytes();
            let found = sys::lookup(self.map.as_fd(), &key, &mut bytes).is_ok_and(|found| found);
            let backend = found.then(|| sys::from_bytes::<Backend>(&bytes)).flatten();
            backend.map_or(UNKNOWN, |backend| {
                let endpoint = backend.endpoint;
                SocketAddr::new(endpoint.address.get(), endpoint.port.get())
            })
        })
    }
}
