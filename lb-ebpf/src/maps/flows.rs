//! The flow maps of both families, by one code.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST, bpf_fib_lookup};
use aya_ebpf::btf_maps::{LruHashMap, PerCpuArray};
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::backend::BackendId;
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;
use lb_common::table::{self, First};

use super::table::Changes;
use crate::table::Table;

/// This CPU's room for the making of a flow, with the contents of the last use.
#[repr(C)]
pub(crate) struct Scratch<A> {
    pub(crate) half: FlowHalf<A>,
    /// Of the reply half.
    pub(crate) key: FlowKey<A>,
    pub(crate) choice: Choice,
    pub(crate) next_hop: NextHop,
    /// The backend that did not answer a client's earlier attempt.
    pub(crate) avoid: BackendId,
    /// What the kernel's FIB is asked with.
    pub(crate) fib: bpf_fib_lookup,
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

/// Which of a family's two flow maps a half is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowMap {
    HalfOpen,
    Established,
}

/// A half found by its key.
pub(crate) struct Found<A: 'static> {
    pub(crate) map: FlowMap,
    pub(crate) half: &'static mut FlowHalf<A>,
}

const HALF_OPEN_HALVES: usize = 131_072;

type HalfOpen<A> = LruHashMap<FlowKey<A>, FlowHalf<A>, HALF_OPEN_HALVES>;
type ScratchMap<A> = PerCpuArray<Scratch<A>, 1>;

/// A family's maps.
pub(crate) trait FlowMaps: Changes {
    fn half_open_map() -> &'static HalfOpen<Self>;
    fn scratch_map() -> &'static ScratchMap<Self>;

    /// Finds a half: established, half-open, and established again for one that moved meanwhile.
    #[inline(always)]
    fn find(key: &FlowKey<Self>) -> Option<Found<Self>> {
        match Self::established(key) {
            Some(half) => Some(Found { map: FlowMap::Established, half }),
            None => Self::flow(key, FlowMap::HalfOpen),
        }
    }

    /// Finds a half again that was in `map` just now. One of a half-open flow may have moved meanwhile,
    /// or since long: what it left behind says so.
    #[inline(always)]
    fn flow(key: &FlowKey<Self>, map: FlowMap) -> Option<Found<Self>> {
        if map == FlowMap::HalfOpen
            && let Some(half) = Self::half_open(key)
            && !half.has(flag::PROMOTED)
        {
            return Some(Found { map, half });
        }
        Self::established(key).map(|half| Found { map: FlowMap::Established, half })
    }

    #[inline(always)]
    fn established(key: &FlowKey<Self>) -> Option<&'static mut FlowHalf<Self>> {
        // SAFETY: the kernel keeps the memory of an element valid for the run of the program. Another
        // CPU may write the same element: all fields are plain integers, each stored whole.
        Self::in_table(key).map(|place| unsafe { &mut *place.half() })
    }

    /// Likewise, without a call for most of them.
    #[inline(always)]
    fn established_first(key: &FlowKey<Self>) -> Option<&'static mut FlowHalf<Self>> {
        match table::first(Table, key) {
            // SAFETY: as in `established`.
            First::Found(place) => Some(unsafe { &mut *place.half() }),
            First::Missing => None,
            First::Elsewhere => Self::established(key),
        }
    }

    #[inline(always)]
    fn half_open(key: &FlowKey<Self>) -> Option<&'static mut FlowHalf<Self>> {
        // SAFETY: as in `established`.
        Self::half_open_map().get_ptr_mut(key).map(|half| unsafe { &mut *half })
    }

    /// The half of `key` in the map its other half was found in.
    #[inline(always)]
    fn flow_in(map: FlowMap, key: &FlowKey<Self>) -> Option<&'static mut FlowHalf<Self>> {
        match map {
            FlowMap::HalfOpen => Self::half_open(key),
            FlowMap::Established => Self::established(key),
        }
    }

    /// Stores a half; `Err`: there is one already, or the map is full.
    #[inline(always)]
    fn insert_new(map: FlowMap, key: &FlowKey<Self>, half: &FlowHalf<Self>) -> Result<(), ()> {
        Self::put(map, key, half, false)
    }

    /// Stores a half in place of whatever is there; `Err`: the map is full.
    #[inline(always)]
    fn replace(map: FlowMap, key: &FlowKey<Self>, half: &FlowHalf<Self>) -> Result<(), ()> {
        Self::put(map, key, half, true)
    }

    #[inline(always)]
    fn put(
        map: FlowMap,
        key: &FlowKey<Self>,
        half: &FlowHalf<Self>,
        replace: bool,
    ) -> Result<(), ()> {
        match map {
            FlowMap::HalfOpen => {
                let flags = if replace { BPF_ANY } else { BPF_NOEXIST };
                Self::half_open_map().insert(key, half, u64::from(flags)).map_err(|_| ())
            }
            FlowMap::Established => match <Self as Changes>::store(key, half, u32::from(replace)) {
                0 => Ok(()),
                _ => Err(()),
            },
        }
    }

    /// Removes a half from both maps.
    #[inline(always)]
    fn remove_half(key: &FlowKey<Self>) {
        // Absence is what the caller wants.
        <Self as Changes>::remove(key);
        let _ = Self::half_open_map().remove(key);
    }

    #[inline(always)]
    fn scratch() -> Option<&'static mut Scratch<Self>> {
        // SAFETY: an element of this CPU; each run of the program takes it for one purpose only.
        Self::scratch_map().get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }
}

impl FlowMaps for Ipv4Be {
    #[inline(always)]
    fn half_open_map() -> &'static HalfOpen<Self> {
        &super::HALF_OPEN
    }

    #[inline(always)]
    fn scratch_map() -> &'static ScratchMap<Self> {
        &super::SCRATCH
    }
}

impl FlowMaps for Ipv6Be {
    #[inline(always)]
    fn half_open_map() -> &'static HalfOpen<Self> {
        &super::HALF_OPEN6
    }

    #[inline(always)]
    fn scratch_map() -> &'static ScratchMap<Self> {
        &super::SCRATCH6
    }
}
