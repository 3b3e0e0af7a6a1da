//! Every map, and one typed function for each use of it. Nothing else touches a map.
//!
//! Capacities are those of a default configuration; the controller sets them before loading.

use aya_ebpf::bindings::{BPF_ANY, BPF_F_INNER_MAP, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::addr::{Endpoint, Ipv4Be, NextHop, Route};
use lb_common::backend::{Backend, BackendCounters, BackendId};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::counters::{COUNTERS as COUNTER_COUNT, Counter};
use lb_common::flow::{Direction, FlowKey};
use lb_common::lease::Lease;
use lb_common::service::{Service, ServiceKey, VipFilter};
use lb_common::{MAX_SERVICES, MAX_VIPS, selection};

/// The address family of this build of the flow code.
pub(crate) type Ip = Ipv4Be;

/// 2 × 131,072 flows × (16 + 88 bytes and the kernel's 48) = 40 MB.
#[btf_map]
static ESTABLISHED: HashMap<FlowKey<Ip>, FlowHalf<Ip>, 262_144> = HashMap::new();
/// 2 × 65,536 flows × (16 + 88 + 56) = 21 MB.
#[btf_map]
static HALF_OPEN: LruHashMap<FlowKey<Ip>, FlowHalf<Ip>, 131_072> = LruHashMap::new();
/// 1,024 × (8 + 72).
#[btf_map]
static SERVICES: HashMap<ServiceKey<Ip>, Service<Ip>, { MAX_SERVICES as usize }> = HashMap::new();
/// Backends' endpoints and how many services each has: segments from there to a VIP's SNAT ports
/// are not for the kernel. 1,024 × (8 + 4).
#[btf_map]
static ENDPOINTS: HashMap<Endpoint<Ip>, u32, 1024> = HashMap::new();
/// 1,024 × 40.
#[btf_map]
static BACKENDS: Array<Backend<Ip>, 1024> = Array::new();
/// 1,024 × 48 on each CPU.
#[btf_map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters, 1024> = PerCpuArray::new();
/// 8 bytes a counter on each CPU.
#[btf_map]
static COUNTERS: PerCpuArray<u64, { COUNTER_COUNT as usize }> = PerCpuArray::new();
/// VIPs, and the index of each one's lease. 1,024 × (4 + 4).
#[btf_map]
static VIPS: HashMap<Ip, u32, { MAX_VIPS as usize }> = HashMap::new();
/// 1,024 × 16.
#[btf_map]
static LEASES: Array<Lease, { MAX_VIPS as usize }> = Array::new();
/// 512 bytes.
#[btf_map]
static VIP_FILTER: Array<VipFilter, 1> = Array::new();
/// Interfaces that frames may leave by: those with our program.
#[btf_map]
static DEVICES: DevMapHash<64> = DevMapHash::new();
/// Prefix → gateway and interface, from the kernel's main table. 4,096 × (8 + 8).
#[btf_map]
static ROUTES: LpmTrie<Ip, Route<Ip>, 4096, { BPF_F_NO_PREALLOC as usize }> = LpmTrie::new();
/// On-link address → next hop, from the kernel's neighbours. 8,192 × (4 + 20).
#[btf_map]
static NEIGHBOURS: HashMap<Ip, NextHop, 8192> = HashMap::new();

/// A selection table: length, then slots. The real ones have the size they need.
type Table = Array<u32, { selection::MAX_SLOTS as usize + 1 }, { BPF_F_INNER_MAP as usize }>;
#[btf_map]
static TABLES: ArrayOfMaps<Table, { MAX_SERVICES as usize }> = ArrayOfMaps::new();

/// What a new flow is put together in: two halves would not fit on the stack.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// This CPU's room for the making of a flow, with the contents of the last use.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) half: FlowHalf<Ip>,
    pub(crate) choice: Choice,
    pub(crate) next_hop: NextHop,
    _pad: u32,
}

/// The best SNAT port so far. In memory, and accessed as volatile, so that the verifier forgets what
/// it knows of the values: it would follow each of their combinations through the rest of the program.
#[repr(C)]
pub(crate) struct Choice {
    occupancy: u64,
    attempt: u64,
}

impl Choice {
    #[inline(always)]
    pub(crate) fn set(&mut self, attempt: u32, occupancy: u64) {
        // SAFETY: references are valid for writes.
        unsafe {
            core::ptr::write_volatile(&raw mut self.attempt, u64::from(attempt));
            core::ptr::write_volatile(&raw mut self.occupancy, occupancy);
        }
    }

    #[inline(always)]
    pub(crate) fn attempt(&self) -> u32 {
        // SAFETY: references are valid for reads.
        unsafe { core::ptr::read_volatile(&raw const self.attempt) as u32 }
    }

    #[inline(always)]
    pub(crate) fn occupancy(&self) -> u64 {
        // SAFETY: references are valid for reads.
        unsafe { core::ptr::read_volatile(&raw const self.occupancy) }
    }
}

/// Which of the two flow maps a half is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowMap {
    HalfOpen,
    Established,
}

/// A half found by its key.
pub(crate) struct Found {
    pub(crate) map: FlowMap,
    pub(crate) half: &'static mut FlowHalf<Ip>,
}

/// Finds a half: established, half-open, and established again for one that moved meanwhile.
#[inline(always)]
pub(crate) fn flow(key: &FlowKey<Ip>) -> Option<Found> {
    if let Some(half) = established(key) {
        return Some(Found { map: FlowMap::Established, half });
    }
    let half = half_open(key)?;
    if !half.has(flag::PROMOTED) {
        return Some(Found { map: FlowMap::HalfOpen, half });
    }
    established(key).map(|half| Found { map: FlowMap::Established, half })
}

#[inline(always)]
pub(crate) fn established(key: &FlowKey<Ip>) -> Option<&'static mut FlowHalf<Ip>> {
    // SAFETY: the kernel keeps the memory of an element valid for the run of the program. Another CPU
    // may write the same element: all fields are plain integers, each stored whole.
    ESTABLISHED.get_ptr_mut(key).map(|half| unsafe { &mut *half })
}

#[inline(always)]
pub(crate) fn half_open(key: &FlowKey<Ip>) -> Option<&'static mut FlowHalf<Ip>> {
    // SAFETY: as in `established`.
    HALF_OPEN.get_ptr_mut(key).map(|half| unsafe { &mut *half })
}

/// The half of `key` in the map its other half was found in.
#[inline(always)]
pub(crate) fn flow_in(map: FlowMap, key: &FlowKey<Ip>) -> Option<&'static mut FlowHalf<Ip>> {
    match map {
        FlowMap::HalfOpen => half_open(key),
        FlowMap::Established => established(key),
    }
}

/// Stores a half; `Err`: there is one already, or the map is full.
#[inline(always)]
pub(crate) fn insert_new(map: FlowMap, key: &FlowKey<Ip>, half: &FlowHalf<Ip>) -> Result<(), ()> {
    insert(map, key, half, BPF_NOEXIST as u64)
}

/// Stores a half in place of whatever is there; `Err`: the map is full.
#[inline(always)]
pub(crate) fn replace(map: FlowMap, key: &FlowKey<Ip>, half: &FlowHalf<Ip>) -> Result<(), ()> {
    insert(map, key, half, BPF_ANY as u64)
}

#[inline(always)]
fn insert(map: FlowMap, key: &FlowKey<Ip>, half: &FlowHalf<Ip>, flags: u64) -> Result<(), ()> {
    match map {
        FlowMap::HalfOpen => HALF_OPEN.insert(key, half, flags),
        FlowMap::Established => ESTABLISHED.insert(key, half, flags),
    }
    .map_err(|_| ())
}

/// Removes a half from both maps.
#[inline(always)]
pub(crate) fn remove_half(key: &FlowKey<Ip>) {
    // Absence is what the caller wants.
    let _ = ESTABLISHED.remove(key);
    let _ = HALF_OPEN.remove(key);
}

#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: an element of this CPU; each run of the program takes it for one purpose only.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// Its room for one next hop; not in use while a flow is being made.
#[inline(always)]
pub(crate) fn scratch_next_hop() -> Option<&'static mut NextHop> {
    scratch().map(|scratch| &mut scratch.next_hop)
}

#[inline(always)]
pub(crate) fn service(key: &ServiceKey<Ip>) -> Option<&'static Service<Ip>> {
    // SAFETY: the controller replaces elements whole; a reader may see old or new fields, both valid.
    SERVICES.get_ptr(key).map(|service| unsafe { &*service })
}

#[inline(always)]
pub(crate) fn is_backend_endpoint(endpoint: &Endpoint<Ip>) -> bool {
    ENDPOINTS.get_ptr(endpoint).is_some()
}

#[inline(always)]
pub(crate) fn backend(id: BackendId) -> Option<&'static Backend<Ip>> {
    BACKENDS.get(id)
}

/// The backend in `slot` of a service's table, the slot being chosen for the table's length.
///
/// `None`: the table is empty, or there is none.
#[inline(always)]
pub(crate) fn table_entry(service: u32, hash: u64) -> Option<BackendId> {
    let table = TABLES.get(service)?;
    let slot = selection::slot(hash, *table.get(0)?)?;
    table.get(slot + 1).copied()
}

#[inline(always)]
pub(crate) fn may_be_vip(address: Ip) -> bool {
    VIP_FILTER.get(0).is_some_and(|filter| filter.may_contain(address))
}

/// Index of a VIP's lease; `None`: no VIP.
#[inline(always)]
pub(crate) fn vip(address: Ip) -> Option<u32> {
    VIPS.get_ptr(address).map(|index| {
        // SAFETY: one aligned word, replaced whole.
        unsafe { *index }
    })
}

#[inline(always)]
pub(crate) fn lease(vip: u32) -> Lease {
    LEASES.get(vip).copied().unwrap_or(Lease::EXPIRED)
}

/// Next hop towards any address: the longest prefix, then the neighbour.
#[inline(always)]
pub(crate) fn next_hop(address: Ip) -> Option<&'static NextHop> {
    let route = ROUTES.get(&Key::new(32, address))?;
    let neighbour = if route.gateway == Ip::UNSPECIFIED { address } else { route.gateway };
    // SAFETY: the controller replaces elements whole, and a torn one would misdirect one frame.
    let next_hop = unsafe { NEIGHBOURS.get(neighbour) }?;
    (next_hop.ifindex == route.ifindex).then_some(next_hop)
}

#[inline(always)]
pub(crate) fn redirect(ifindex: u32) -> Result<u32, ()> {
    DEVICES.redirect(ifindex, 0).map_err(|_| ())
}

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: an element of this CPU; programs on one CPU do not interrupt each other here.
        unsafe { *value += 1 };
    }
}

/// This CPU's counters of a backend.
#[inline(always)]
fn backend_counters(id: BackendId) -> Option<&'static mut BackendCounters> {
    // SAFETY: as in `count`.
    BACKEND_COUNTERS.get_ptr_mut(id).map(|counters| unsafe { &mut *counters })
}

#[inline(always)]
pub(crate) fn count_traffic(id: BackendId, direction: Direction, bytes: u64) {
    let Some(counters) = backend_counters(id) else {
        return;
    };
    match direction {
        Direction::Original => {
            counters.request_packets += 1;
            counters.request_bytes += bytes;
        }
        Direction::Reply => {
            counters.reply_packets += 1;
            counters.reply_bytes += bytes;
        }
    }
}

#[inline(always)]
pub(crate) fn count_flow(id: BackendId) {
    if let Some(counters) = backend_counters(id) {
        counters.flows += 1;
    }
}

#[inline(always)]
pub(crate) fn count_connection(id: BackendId) {
    if let Some(counters) = backend_counters(id) {
        counters.connections += 1;
    }
}
