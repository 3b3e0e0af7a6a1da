//! Every map, and one typed function for each use of it. Nothing else touches a map.
//!
//! Capacities are those of a default configuration; the controller sets them before loading. What is
//! looked up for every packet of a flow is kept by family, everything else under either family's
//! [`IpBe`].

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::addr::{Endpoint, IpBe, Ipv4Be, Ipv6Be, PortBe};
use lb_common::backend::{Backend, BackendEvents, BackendId, BackendTraffic, SIGNAL_RING, Signal};
use lb_common::connect::{ConnectTimes, MAX_MEASURED};
use lb_common::event::{FLOW_RING, FlowEvent, FlowReport};
use lb_common::filter::{Filters, PortSet};
use lb_common::lease::Lease;
use lb_common::link::{Link, LinkId, MAX_LINKS, NextHop, Route, WaysChanged};
use lb_common::rate::{MAX_SOURCES, SourceKey};
use lb_common::service::{AllowKey, EndpointUse, Service, ServiceKey};
use lb_common::socket::Redirect;
use lb_common::vip::Vip;
use lb_common::{MAX_SERVICES, MAX_VIPS, counters, selection};

use crate::table::{Flows, MAPPED};

mod count;
mod flows;
mod report;
mod sockets;
mod table;

pub(crate) use count::{
    connect_stamp, count, count_connect, count_connection, count_evicted, count_flow,
    count_forwarded, signal, time_exceeded_is_due,
};
pub(crate) use flows::{Choice, FlowMaps, Scratch};
pub(crate) use report::tell;
pub(crate) use sockets::{count_local, redirect_of, remember};

/// Of `lb_common::table`: 2 slots × 2 halves × 131,072 flows × (8 + 16 + 64 bytes) = 46 MB.
#[btf_map]
pub(crate) static FLOWS: Flows<Ipv4Be> = Array::new();
/// 2 × 2 × 131,072 × (8 + 40 + 88) = 71 MB.
#[btf_map]
pub(crate) static FLOWS6: Flows<Ipv6Be> = Array::new();
/// 4,096 × (24 + 144).
#[btf_map]
static SERVICES: HashMap<ServiceKey, Service, { MAX_SERVICES as usize }> = HashMap::new();
/// Backends' endpoints, whose segments to a VIP's SNAT ports are not for the kernel, and their hosts.
/// 2,048 × (24 + 40).
#[btf_map]
static ENDPOINTS: HashMap<Endpoint, EndpointUse, 2048> = HashMap::new();
/// 1,024 × 48.
#[btf_map]
static BACKENDS: Array<Backend, 1024> = Array::new();
/// Of each CPU, one CPU's behind another's: see `lb_common::backend::place`. 1,024 × 64 for each.
#[btf_map]
static BACKEND_TRAFFIC: Array<BackendTraffic, 1024, MAPPED> = Array::new();
/// Likewise. 1,024 × 32.
#[btf_map]
static BACKEND_EVENTS: Array<BackendEvents, 1024, MAPPED> = Array::new();
/// 1,024 × 168 on each CPU.
#[btf_map]
static CONNECT_TIMES: PerCpuArray<ConnectTimes, { MAX_MEASURED as usize }> = PerCpuArray::new();
/// Of each CPU, and behind them the controller's: see `lb_common::counters::place`. 40 × 8 for each.
#[btf_map]
static COUNTERS: Array<u64, { counters::OF_CPU as usize }, MAPPED> = Array::new();
/// VIPs, and what is known of each. 1,024 × (16 + 4).
#[btf_map]
static VIPS: HashMap<IpBe, Vip, { MAX_VIPS as usize }> = HashMap::new();
/// 1,024 × 16.
#[btf_map]
static LEASES: Array<Lease, { MAX_VIPS as usize }> = Array::new();
/// 1,032 bytes.
#[btf_map]
static FILTERS: Array<Filters, 1> = Array::new();
/// Interfaces with our program: what frames leave by, and as whom. 64 × 32.
#[btf_map]
static LINKS: Array<Link, { MAX_LINKS as usize }> = Array::new();
/// The kernel's number of an interface → ours. 64 × (4 + 4).
#[btf_map]
static LINK_IDS: HashMap<u32, u32, { MAX_LINKS as usize }> = HashMap::new();
/// The same interfaces, for redirecting.
#[btf_map]
static DEVICES: DevMap<{ MAX_LINKS as usize }> = DevMap::new();
/// Prefix → gateway and interface, from the kernel's main tables. 4,096 × (20 + 24).
#[btf_map]
static ROUTES: LpmTrie<[u32; 4], Route, 4096, { BPF_F_NO_PREALLOC as usize }> = LpmTrie::new();
/// On-link address → next hop, from the kernel's neighbours. 8,192 × (16 + 12).
#[btf_map]
static NEIGHBOURS: HashMap<IpBe, NextHop, 8192> = HashMap::new();
/// When either of these changed. 4 bytes.
#[btf_map]
static WAYS_CHANGED: Array<WaysChanged, 1> = Array::new();
/// Prefixes that may open connections, by service. 16,384 × (24 + 1).
#[btf_map]
static ALLOWED: LpmTrie<AllowKey, u8, 16_384, { BPF_F_NO_PREALLOC as usize }> = LpmTrie::new();
/// When a source's next connection is due. 65,536 × (24 + 8 + 56) = 6 MB.
#[btf_map]
static SOURCES: LruHashMap<SourceKey, u64, { MAX_SOURCES as usize }> = LruHashMap::new();
/// What the controller is told of backends.
#[btf_map]
static SIGNALS: RingBuf<Signal, { SIGNAL_RING as usize }> = RingBuf::new();

/// Half-open flows that others took the place of. 8 bytes on each CPU.
#[btf_map]
static HALF_OPEN_EVICTED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// What the controller tells a peer of flows.
#[btf_map]
static FLOW_EVENTS: RingBuf<FlowEvent, { FLOW_RING as usize }> = RingBuf::new();
/// Whether it does.
#[btf_map]
static FLOW_REPORT: PerCpuArray<FlowReport, 1> = PerCpuArray::new();

/// Where sockets of this node really go: one for each that was led to a backend, as long as it is open.
#[btf_map]
static REDIRECTS: SkStorage<Redirect> = SkStorage::new();
/// Connections of this node's own clients, by backend. 1,024 × 8 on each CPU.
#[btf_map]
static LOCAL_CONNECTIONS: PerCpuArray<u64, 1024> = PerCpuArray::new();
/// Ports that backends on this node listen on. 8 KiB.
#[btf_map]
static LOCAL_PORTS: Array<PortSet, 1> = Array::new();

/// A selection table: length, then slots. The real ones have the size they need.
type Table = Array<u32, { selection::MAX_SLOTS as usize + 1 }, { BPF_F_INNER_MAP as usize }>;
#[btf_map]
static TABLES: ArrayOfMaps<Table, { MAX_SERVICES as usize }> = ArrayOfMaps::new();

/// What a new flow is put together in: two halves would not fit on the stack.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch<Ipv4Be>, 1> = PerCpuArray::new();
#[btf_map]
static SCRATCH6: PerCpuArray<Scratch<Ipv6Be>, 1> = PerCpuArray::new();

/// A number on its way through memory.
#[btf_map]
static FORGOTTEN: PerCpuArray<u64, 1> = PerCpuArray::new();

/// When this CPU may send the next ICMP error.
#[btf_map]
static TIME_EXCEEDED: PerCpuArray<u64, 1> = PerCpuArray::new();
/// When it may next look at the clock for how long a connection takes.
#[btf_map]
static TIMED: PerCpuArray<u64, 1> = PerCpuArray::new();
/// When it last told the controller of a backend. 1,024 × 8.
#[btf_map]
static SIGNALLED: PerCpuArray<u64, 1024> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn service(key: &ServiceKey) -> Option<&'static Service> {
    // SAFETY: the controller replaces elements whole; a reader may see old or new fields, both valid.
    SERVICES.get_ptr(key).map(|service| unsafe { &*service })
}

#[inline(always)]
pub(crate) fn endpoint(endpoint: &Endpoint) -> Option<&'static EndpointUse> {
    // SAFETY: as in `service`.
    ENDPOINTS.get_ptr(endpoint).map(|endpoint| unsafe { &*endpoint })
}

#[inline(always)]
pub(crate) fn backend(id: BackendId) -> Option<&'static Backend> {
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
pub(crate) fn filters() -> Option<&'static Filters> {
    FILTERS.get(0)
}

/// A backend on this node listens on the port, for all that is known: at some address of any.
#[inline(always)]
pub(crate) fn is_local_port(port: PortBe) -> bool {
    LOCAL_PORTS.get(0).is_some_and(|ports| ports.contains(port))
}

/// What is known of a VIP; `None`: it is none.
#[inline(always)]
pub(crate) fn vip(address: IpBe) -> Option<Vip> {
    VIPS.get_ptr(address).map(|vip| {
        // SAFETY: one aligned word, replaced whole.
        unsafe { *vip }
    })
}

#[inline(always)]
pub(crate) fn lease(vip: u32) -> Lease {
    LEASES.get(vip).copied().unwrap_or(Lease::EXPIRED)
}

#[inline(always)]
pub(crate) fn link(id: LinkId) -> Option<&'static Link> {
    LINKS.get(u32::from(id))
}

/// Our number of an interface; 0: it has none.
#[inline(always)]
pub(crate) fn link_id(ifindex: u32) -> LinkId {
    // SAFETY: one aligned word, replaced whole.
    LINK_IDS.get_ptr(ifindex).map_or(0, |id| unsafe { *id } as LinkId)
}

/// Likewise, of an interface that most likely is `guess`: an array lookup instead of a hash lookup.
#[inline(always)]
pub(crate) fn link_id_near(guess: LinkId, ifindex: u32) -> LinkId {
    match link(guess) {
        Some(link) if guess != 0 && link.ifindex == ifindex => guess,
        Some(_) | None => link_id(ifindex),
    }
}

/// Next hop towards any address: the longest prefix, then the neighbour.
#[inline(never)]
pub(crate) fn next_hop(address: &IpBe) -> Option<&'static NextHop> {
    let route = ROUTES.get(&Key::new(128, address.trie_data()))?;
    let neighbour = if route.gateway.is_unspecified() { address } else { &route.gateway };
    // SAFETY: the controller replaces elements whole, and a torn one would misdirect one frame.
    let next_hop = unsafe { NEIGHBOURS.get(neighbour) }?;
    (u32::from(next_hop.link) == route.link).then_some(next_hop)
}

/// When routes or neighbours last changed.
#[inline(always)]
pub(crate) fn ways_changed() -> WaysChanged {
    WAYS_CHANGED.get(0).copied().unwrap_or_default()
}

/// `source` is in a prefix that the service allows.
#[inline(always)]
pub(crate) fn is_allowed(service: u32, source: IpBe) -> bool {
    ALLOWED.get(&Key::new(AllowKey::BITS, AllowKey::new(service, source))).is_some()
}

/// When the next connection of a source is due; 0: nothing is remembered.
#[inline(always)]
pub(crate) fn source_due(key: &SourceKey) -> u64 {
    // SAFETY: one aligned word.
    SOURCES.get_ptr(key).map_or(0, |due| unsafe { *due })
}

#[inline(always)]
pub(crate) fn set_source_due(key: &SourceKey, due: u64) {
    // A map that evicts has room.
    let _ = SOURCES.insert(key, due, 0);
}

/// The same number, of which the verifier knows nothing: it follows the program once for all values
/// instead of once for each.
#[inline(always)]
pub(crate) fn forget(number: usize) -> Option<usize> {
    let memory = FORGOTTEN.get_ptr_mut(0)?;
    // SAFETY: an element of this CPU.
    unsafe {
        core::ptr::write_volatile(memory, number as u64);
        Some(core::ptr::read_volatile(memory) as usize)
    }
}

#[inline(always)]
pub(crate) fn redirect(link: LinkId) -> Result<u32, ()> {
    DEVICES.redirect(u32::from(link), 0).map_err(|_| ())
}
