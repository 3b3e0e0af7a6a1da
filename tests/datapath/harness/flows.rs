//! The flows of a family, read and written by names.

use std::net::SocketAddrV4;

use fairlead::datapath::table::FlowTable;
use lb_common::addr::{Address, IpBe, Ipv4Be, Ipv6Be, PortBe, Ports};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::map;
use lb_common::nat::Translation;
use lb_common::selection::{client_hash, flow_hash};
use lb_common::time::Ticks;
use lb_tests::family::Family;

use super::Harness;
use super::names::{local, name_of};
use super::pool::table;

/// A half of either family.
pub(crate) type Half = FlowHalf<IpBe>;

/// Source and destination of a flow's packets, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowId {
    src: SocketAddrV4,
    dst: SocketAddrV4,
}

pub(crate) const fn key(src: SocketAddrV4, dst: SocketAddrV4) -> FlowId {
    FlowId { src, dst }
}

/// Key of the half of the other direction.
pub(crate) fn peer_key(half: &Half) -> FlowId {
    let end = |address: IpBe, port: PortBe| name_of((address.get(), port.get()).into());
    let to = &half.translation;
    key(end(to.dst, to.ports.dst()), end(to.src, to.ports.src()))
}

/// Hash of a client's first choice of a SNAT port.
pub(crate) fn client_hash_of(family: Family, id: &FlowId) -> u64 {
    match family {
        Family::V4 => client_hash(&id.key::<Ipv4Be>(family)),
        Family::V6 => client_hash(&id.key::<Ipv6Be>(family)),
    }
}

/// Hash that chooses a backend.
pub(crate) fn flow_hash_of(family: Family, id: &FlowId, attempt: u8) -> u64 {
    match family {
        Family::V4 => flow_hash(&id.key::<Ipv4Be>(family), attempt),
        Family::V6 => flow_hash(&id.key::<Ipv6Be>(family), attempt),
    }
}

impl FlowId {
    pub(super) fn key<A: Address>(&self, family: Family) -> FlowKey<A> {
        let [src, dst] = [self.src, self.dst].map(|name| local(family, name));
        let address = |at: std::net::SocketAddr| A::from_ip(IpBe::new(at.ip()));
        let ports = Ports::new(PortBe::new(src.port()), PortBe::new(dst.port()));
        FlowKey::new(address(src), address(dst), ports)
    }

    fn of<A: Address>(key: &FlowKey<A>) -> Self {
        let end = |address: A, port: PortBe| name_of((address.ip().get(), port.get()).into());
        Self { src: end(key.src, key.ports.src()), dst: end(key.dst, key.ports.dst()) }
    }
}

/// The same half with addresses of another kind.
fn convert<A, B>(half: FlowHalf<A>, address: impl Fn(A) -> B) -> FlowHalf<B> {
    let Translation { src, dst, ports, ip_delta, l4_delta } = half.translation;
    FlowHalf {
        translation: Translation {
            src: address(src),
            dst: address(dst),
            ports,
            ip_delta,
            l4_delta,
        },
        kind: half.kind,
        attempts: half.attempts,
        flags: half.flags,
        seq_end: half.seq_end,
        ack: half.ack,
        fin_end: half.fin_end,
        backend: half.backend,
        epoch: half.epoch,
        vip: half.vip,
        service: half.service,
        last_seen: half.last_seen,
        checked: half.checked,
        next_hop: half.next_hop,
    }
}

impl Harness {
    /// A half of a flow that is established.
    pub(crate) fn established(&self, id: &FlowId) -> Option<Half> {
        self.half(id).filter(Half::is_confirmed)
    }

    /// One of a flow that is not yet.
    pub(crate) fn half_open(&self, id: &FlowId) -> Option<Half> {
        self.half(id).filter(|half| !half.is_confirmed())
    }

    pub(crate) fn half(&self, id: &FlowId) -> Option<Half> {
        self.snapshot().into_iter().find(|(key, _)| key == id).map(|(_, half)| half)
    }

    pub(crate) fn store(&mut self, id: &FlowId, half: Half) {
        match self.family {
            Family::V4 => self.store_as::<Ipv4Be>(id, half),
            Family::V6 => self.store_as::<Ipv6Be>(id, half),
        }
    }

    fn store_as<A: Address>(&mut self, id: &FlowId, half: Half) {
        let half = convert(half, A::from_ip);
        self.table().store(&id.key::<A>(self.family), &half, true).unwrap();
    }

    /// Stores copies of an established half until there is no more room for any.
    pub(crate) fn crowd(&self, id: &FlowId) {
        match self.family {
            Family::V4 => self.crowd_as::<Ipv4Be>(id),
            Family::V6 => self.crowd_as::<Ipv6Be>(id),
        }
    }

    fn crowd_as<A: Address>(&self, id: &FlowId) {
        let table = self.table();
        let half = table.find(&id.key::<A>(self.family)).unwrap();
        for port in 1..=u16::MAX {
            let filler = FlowId { src: SocketAddrV4::new(*id.src.ip(), port), dst: id.dst };
            // Not a half that is there already: those that others have are no more than a few.
            let _ = table.store(&filler.key::<A>(self.family), &half, false);
        }
    }

    pub(crate) fn forget(&mut self, id: &FlowId) {
        let removed = match self.family {
            Family::V4 => self.table().remove(&id.key::<Ipv4Be>(self.family)),
            Family::V6 => self.table().remove(&id.key::<Ipv6Be>(self.family)),
        };
        assert!(removed, "no half of {id:?}");
    }

    pub(crate) fn forget_all(&mut self) {
        for (id, _) in self.snapshot() {
            self.forget(&id);
        }
    }

    /// Changes a half.
    pub(crate) fn patch(&mut self, id: &FlowId, change: impl Fn(&mut Half)) {
        let mut half = self.half(id).unwrap_or_else(|| panic!("no half of {id:?}"));
        change(&mut half);
        self.store(id, half);
    }

    /// As if so many nanoseconds had passed for a half.
    pub(crate) fn age(&mut self, id: &FlowId, nanoseconds: u64) {
        let ticks = Ticks::in_ns(nanoseconds);
        self.patch(id, |half| {
            half.checked = half.checked.minus(ticks);
            half.last_seen = half.last_seen.minus(ticks);
        });
    }

    /// Halves of flows that are established, and of those that are not yet.
    pub(crate) fn flows(&self) -> (usize, usize) {
        let all = self.snapshot();
        let established = all.iter().filter(|(_, half)| half.is_confirmed()).count();
        (established, all.len() - established)
    }

    /// All halves, in a fixed order.
    pub(crate) fn snapshot(&self) -> Vec<(FlowId, Half)> {
        match self.family {
            Family::V4 => self.all_as::<Ipv4Be>(),
            Family::V6 => self.all_as::<Ipv6Be>(),
        }
    }

    fn all_as<A: Address>(&self) -> Vec<(FlowId, Half)> {
        let mut all = Vec::new();
        self.table()
            .all(|key: &FlowKey<A>, half| all.push((FlowId::of(key), convert(*half, A::ip))));
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// The flows of the harness's family.
    pub(super) fn table(&self) -> FlowTable {
        table(self.map(self.family.pick(map::FLOWS, map::FLOWS6)))
    }
}
