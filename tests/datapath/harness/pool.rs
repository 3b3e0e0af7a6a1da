//! Programs that are loaded: verifying one takes longer than a test. A test that passed gives its own
//! back, with the maps emptied; but for devices, which cannot be removed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, PerCpuArray, PerCpuValues, RingBuf};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use fairlead::datapath::clock::Clock;
use fairlead::datapath::counts::{Counts, Layout, cpus};
use fairlead::datapath::table::{Design, FlowTable, homes};
use lb_common::addr::{Address, Endpoint, IpBe, Ipv4Be, Ipv6Be};
use lb_common::backend::Backend;
use lb_common::connect::ConnectTimes;
use lb_common::event::FlowReport;
use lb_common::filter::{Filters, PortSet};
use lb_common::lease::Lease;
use lb_common::link::{Link, NextHop, Route, WaysChanged};
use lb_common::map;
use lb_common::rate::SourceKey;
use lb_common::service::{AllowKey, EndpointUse, Service, ServiceKey};

use super::Sizes;

/// Elements that tests write of arrays.
const USED: u32 = 8;
/// Identifiers of backends that are counted.
pub(super) const MOST_BACKENDS: u32 = 64;
/// Of the program's own, which the controller has no use for: when something is due again.
const PACED: [&str; 2] = ["TIME_EXCEEDED", TIMED];
pub(super) const TIMED: &str = "TIMED";
const SIGNALLED: &str = "SIGNALLED";

static POOL: Mutex<Vec<(Sizes, Ebpf)>> = Mutex::new(Vec::new());

fn pool() -> MutexGuard<'static, Vec<(Sizes, Ebpf)>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program with empty maps.
pub(super) fn take(sizes: Sizes) -> Ebpf {
    let mut pool = pool();
    let found = pool.iter().position(|(of, _)| *of == sizes);
    match found {
        Some(index) => pool.swap_remove(index).1,
        None => {
            drop(pool);
            load(sizes)
        }
    }
}

pub(super) fn give_back(sizes: Sizes, mut ebpf: Ebpf) {
    empty(&mut ebpf);
    pool().push((sizes, ebpf));
}

fn load(sizes: Sizes) -> Ebpf {
    let clock = Clock::measure();
    let tables = Design::new([homes(sizes.established, sizes.half_open); 2]);
    let mut loader = EbpfLoader::new();
    clock.apply(&mut loader);
    tables.apply(&mut loader);
    let counts = Layout { cpus: cpus().unwrap(), backends: MOST_BACKENDS };
    counts.apply(&mut loader);
    let mut ebpf = loader.load(fairlead::datapath::OBJECT).unwrap();
    tables.begin(&ebpf).unwrap();
    let program: &mut Xdp = ebpf.program_mut(lb_common::PROGRAM).unwrap().try_into().unwrap();
    program.load().unwrap();
    let program: &mut SchedClassifier =
        ebpf.program_mut(lb_common::EGRESS_PROGRAM).unwrap().try_into().unwrap();
    program.load().unwrap();
    ebpf
}

fn empty(ebpf: &mut Ebpf) {
    clear_table::<Ipv4Be>(ebpf, map::FLOWS);
    clear_table::<Ipv6Be>(ebpf, map::FLOWS6);
    clear::<ServiceKey, Service>(ebpf, map::SERVICES);
    clear::<Endpoint, EndpointUse>(ebpf, map::ENDPOINTS);
    clear::<IpBe, u32>(ebpf, map::VIPS);
    clear::<u32, u32>(ebpf, map::LINK_IDS);
    clear::<IpBe, NextHop>(ebpf, map::NEIGHBOURS);
    clear::<SourceKey, u64>(ebpf, map::SOURCES);
    clear_trie::<[u32; 4], Route>(ebpf, map::ROUTES);
    clear_trie::<AllowKey, u8>(ebpf, map::ALLOWED);
    zero(ebpf, map::BACKENDS, Backend::default());
    zero(ebpf, map::LEASES, Lease::EXPIRED);
    zero(ebpf, map::LINKS, Link::default());
    let mut filters: Array<_, Filters> = ebpf.map_mut(map::FILTERS).unwrap().try_into().unwrap();
    filters.set(0, Filters::EMPTY, 0).unwrap();
    let mut ports: Array<_, PortSet> = ebpf.map_mut(map::LOCAL_PORTS).unwrap().try_into().unwrap();
    ports.set(0, PortSet::EMPTY, 0).unwrap();
    let counts = counts(ebpf);
    for index in 0..USED {
        counts.clear(index);
        set_each(ebpf, map::CONNECT_TIMES, index, ConnectTimes::default());
        set_each(ebpf, SIGNALLED, index, 0u64);
    }
    let mut changed: Array<_, WaysChanged> =
        ebpf.map_mut(map::WAYS_CHANGED).unwrap().try_into().unwrap();
    changed.set(0, WaysChanged::default(), 0).unwrap();
    for name in PACED {
        set_each(ebpf, name, 0, 0u64);
    }
    set_each(ebpf, map::HALF_OPEN_EVICTED, 0, 0u64);
    set_each(ebpf, map::FLOW_REPORT, 0, FlowReport::default());
    let mut events: RingBuf<_> = ebpf.map_mut(map::FLOW_EVENTS).unwrap().try_into().unwrap();
    while events.next().is_some() {}
}

/// What is counted.
pub(super) fn counts(ebpf: &Ebpf) -> Counts {
    let map = |name: &str| {
        let Map::Array(map) = ebpf.map(name).unwrap() else { panic!("{name} is no array") };
        Ok(map)
    };
    Counts::open(map).unwrap()
}

/// The flows in a map.
pub(super) fn table(map: &Map) -> FlowTable {
    let Map::Array(map) = map else { panic!("no table") };
    FlowTable::open(map).unwrap()
}

fn clear_table<A: Address>(ebpf: &Ebpf, name: &str) {
    let table = table(ebpf.map(name).unwrap());
    let mut keys = Vec::new();
    table.all::<A>(|key, _| keys.push(*key));
    assert!(keys.iter().all(|key| table.remove(key)));
}

fn clear<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) {
    let mut map: HashMap<_, K, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    let keys: Vec<K> = map.keys().map(Result::unwrap).collect();
    keys.iter().for_each(|key| map.remove(key).unwrap());
}

fn clear_trie<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) {
    let mut map: LpmTrie<_, K, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    let keys: Vec<Key<K>> = map.keys().map(Result::unwrap).collect();
    keys.iter().for_each(|key| map.remove(key).unwrap());
}

fn zero<V: Pod>(ebpf: &mut Ebpf, name: &str, value: V) {
    let mut array: Array<_, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    (0..USED).for_each(|index| array.set(index, value, 0).unwrap());
}

pub(super) fn set_each<V: Pod>(ebpf: &mut Ebpf, name: &str, index: u32, value: V) {
    let mut array: PerCpuArray<_, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    let cpus = array.get(&index, 0).unwrap().len();
    array.set(index, PerCpuValues::try_from(vec![value; cpus]).unwrap(), 0).unwrap();
}
