//! The program, loaded, with maps filled as the controller fills them.

use std::net::{Ipv4Addr, SocketAddrV4};

use aya::maps::{Array, HashMap, Map};
use aya::{Ebpf, Pod};
use fairlead::datapath::counts::Counts;
use lb_common::backend::Backend;
use lb_common::lease::Lease;
use lb_common::link::{LinkId, Mac, NextHop};
use lb_common::map;
use lb_common::nat::Kind;
use lb_common::service::{SNAT_PORTS, Service, SnatAddress};
use lb_tests::family::Family;

mod connection;
mod control;
mod flows;
mod frames;
mod local;
mod names;
mod packets;
mod pool;
mod sync;
mod world;

pub(crate) use self::connection::{Connection, IRS, ISS, from_client, rst_to, syn};
pub(crate) use self::control::insert;
pub(crate) use self::flows::{FlowId, Half, client_hash_of, flow_hash_of, key, peer_key};
pub(crate) use self::frames::Action;
pub(crate) use self::local::{Left, LocalConnection};
pub(crate) use self::names::{local, local_frame, local_ip, name_of};
pub(crate) use self::packets::Followed;

/// The interface that test runs come in by is the loopback one of the namespace.
pub(crate) const INGRESS: u32 = 1;
pub(crate) const LINK: LinkId = 1;
/// Another interface.
pub(crate) const OTHER_LINK: LinkId = 2;
const OTHER_INTERFACE: u32 = 77;

const fn at(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port)
}

pub(crate) const SERVICE: SocketAddrV4 = at(100, 6443);
pub(crate) const CLIENT: SocketAddrV4 = at(2, 40_000);
pub(crate) const OTHER_CLIENT: SocketAddrV4 = at(3, 40_000);
pub(crate) const BACKENDS: [SocketAddrV4; 3] = [at(11, 6443), at(12, 6443), at(13, 6443)];
/// The node itself.
pub(crate) const NODE: Ipv4Addr = *at(1, 0).ip();

pub(crate) const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 100];
pub(crate) const OTHER_LB_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Of the backend with this identifier.
pub(crate) fn backend_mac(id: u32) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(id).unwrap()]
}

/// Halves that the tables of flows are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) established: u32,
    pub(crate) half_open: u32,
}

/// What to load.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) family: Family,
    pub(crate) mode: Kind,
    pub(crate) sizes: Sizes,
    /// Numbered from 1.
    pub(crate) backends: &'a [SocketAddrV4],
}

impl Setup<'_> {
    /// A `nat` service with three backends.
    pub(crate) const fn new(family: Family) -> Self {
        let sizes = Sizes { established: 4096, half_open: 4096 };
        Self { family, mode: Kind::Nat, sizes, backends: &BACKENDS }
    }
}

pub(crate) struct Harness {
    /// Until it is given back.
    ebpf: Option<Ebpf>,
    counts: Counts,
    sizes: Sizes,
    pub(crate) family: Family,
    pub(crate) service: Service,
    before: Vec<u64>,
    /// In front of the program, if packets are followed.
    traced: Option<packets::Traced>,
}

impl Harness {
    /// A `nat` service with three backends, all of them resolved.
    pub(crate) fn new(family: Family) -> Self {
        Self::build(&Setup::new(family))
    }

    /// One of another mode.
    pub(crate) fn of(family: Family, mode: Kind) -> Self {
        Self::build(&Setup { mode, ..Setup::new(family) })
    }

    /// A `nat` service with these backends.
    pub(crate) fn with(family: Family, backends: &[SocketAddrV4]) -> Self {
        Self::build(&Setup { family, backends, mode: Kind::Nat, sizes: Setup::new(family).sizes })
    }

    pub(crate) fn sized(family: Family, sizes: Sizes) -> Self {
        Self::build(&Setup { sizes, ..Setup::new(family) })
    }

    pub(crate) fn build(setup: &Setup<'_>) -> Self {
        let &Setup { family, mode, sizes, backends } = setup;
        let service = Service {
            snat_count: 1,
            kind: mode as u8,
            snat_port_min: *SNAT_PORTS.start(),
            snat_port_max: *SNAT_PORTS.end(),
            ..Service::default()
        };
        let ebpf = pool::take(sizes);
        let (counts, ebpf) = (pool::counts(&ebpf), Some(ebpf));
        // As the controller does with each that it gives a meaning.
        (0..pool::MOST_BACKENDS).for_each(|id| counts.clear(id));
        let mut harness =
            Self { ebpf, counts, sizes, family, service, before: vec![], traced: None };
        harness.forget_counts();
        harness.fill(backends);
        harness
    }

    fn fill(&mut self, backends: &[SocketAddrV4]) {
        self.add_link(LINK, INGRESS, LB_MAC, NODE);
        self.add_link(OTHER_LINK, OTHER_INTERFACE, OTHER_LB_MAC, NODE);
        self.add_vip(*SERVICE.ip(), 0);
        self.set_lease(0, Lease::FOREVER);
        let address = self.ip(*SERVICE.ip());
        self.change_service(|service| {
            service.snat[0] = SnatAddress { address, ..SnatAddress::default() };
        });
        let mut ids = vec![];
        for (id, name) in (1..).zip(backends) {
            let next_hop = NextHop { link: LINK, mac: Mac(backend_mac(id)), ..NextHop::default() };
            let endpoint = self.endpoint(*name);
            self.set(map::BACKENDS, id, Backend { endpoint, next_hop, ..Backend::default() });
            self.add_endpoint(*name, false);
            ids.push(id);
        }
        self.set_table(&ids);
    }

    fn ebpf(&self) -> &Ebpf {
        self.ebpf.as_ref().unwrap()
    }

    // aya's map types.

    fn map(&self, name: &str) -> &Map {
        self.ebpf().map(name).unwrap()
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.ebpf.as_mut().unwrap().map_mut(name).unwrap()
    }

    fn insert<K: Pod, V: Pod>(&mut self, name: &str, key: &K, value: V) {
        // One type for both kinds of hash, plain and LRU.
        let mut map: HashMap<_, K, V> = self.map_mut(name).try_into().unwrap();
        map.insert(key, value, 0).unwrap();
    }

    fn get<V: Pod>(&self, name: &str, index: u32) -> V {
        let array: Array<_, V> = self.map(name).try_into().unwrap();
        array.get(&index, 0).unwrap()
    }

    fn set<V: Pod>(&mut self, name: &str, index: u32, value: V) {
        let mut array: Array<_, V> = self.map_mut(name).try_into().unwrap();
        array.set(index, value, 0).unwrap();
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(ebpf) = self.ebpf.take()
            && !std::thread::panicking()
        {
            pool::give_back(self.sizes, ebpf);
        }
    }
}
