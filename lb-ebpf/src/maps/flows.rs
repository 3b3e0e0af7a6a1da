//! The flows of both families, by one code.

use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::btf_maps::PerCpuArray;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::backend::BackendId;
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;
use lb_common::table::{self, First, Refusal};

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

type ScratchMap<A> = PerCpuArray<Scratch<A>, 1>;

/// A family's flows, and its room to make them in.
pub(crate) trait FlowMaps: Changes {
    fn scratch_map() -> &'static ScratchMap<Self>;

    #[inline(always)]
    fn half(key: &FlowKey<Self>) -> Option<&'static mut FlowHalf<Self>> {
        // SAFETY: the kernel keeps the memory of an element valid for the run of the program. Another
        // CPU may write the same element: all fields are plain integers, each stored whole.
        Self::in_table(key).map(|place| unsafe { &mut *place.half() })
    }

    /// Likewise, without a call for most of them.
    #[inline(always)]
    fn half_near(key: &FlowKey<Self>) -> Option<&'static mut FlowHalf<Self>> {
        match table::first(Table, key) {
            // SAFETY: as in `half`.
            First::Found(place) => Some(unsafe { &mut *place.half() }),
            First::Missing => None,
            First::Elsewhere => Self::half(key),
        }
    }

    /// A half with this key is looked for, or stored, a moment later.
    #[inline(always)]
    fn prefetch(key: &FlowKey<Self>) {
        table::prefetch(Table, key);
    }

    /// Stores a half.
    ///
    /// # Errors
    /// There is one already, or no room.
    #[inline(always)]
    fn insert_new(key: &FlowKey<Self>, half: &FlowHalf<Self>) -> Result<(), Refusal> {
        <Self as Changes>::store(key, half, false)
    }

    /// Stores a half in place of whatever is there.
    ///
    /// # Errors
    /// There is no room.
    #[inline(always)]
    fn replace(key: &FlowKey<Self>, half: &FlowHalf<Self>) -> Result<(), Refusal> {
        <Self as Changes>::store(key, half, true)
    }

    #[inline(always)]
    fn remove_half(key: &FlowKey<Self>) {
        // Absence is what the caller wants.
        <Self as Changes>::remove(key);
    }

    #[inline(always)]
    fn scratch() -> Option<&'static mut Scratch<Self>> {
        // SAFETY: an element of this CPU; each run of the program takes it for one purpose only.
        Self::scratch_map().get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }
}

impl FlowMaps for Ipv4Be {
    #[inline(always)]
    fn scratch_map() -> &'static ScratchMap<Self> {
        &super::SCRATCH
    }
}

impl FlowMaps for Ipv6Be {
    #[inline(always)]
    fn scratch_map() -> &'static ScratchMap<Self> {
        &super::SCRATCH6
    }
}
