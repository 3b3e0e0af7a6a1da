//! The maps of this program: some are the XDP program's, some its own. Nothing else touches one.

use core::ptr::{read_volatile, write_volatile};

#[cfg(target_arch = "bpf")]
use core::arch::asm;

use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::FlowHalf;
use lb_common::counters::{self, COUNTERS as COUNTER_COUNT};
use lb_common::flow::FlowKey;
use lb_common::trace::{MAX_SNAP, RING, Record, Tally};

use crate::filter;
use crate::table::{Flows, MAPPED, Tables};

#[btf_map]
pub(crate) static FLOWS: Flows<Ipv4Be> = Array::new();
#[btf_map]
pub(crate) static FLOWS6: Flows<Ipv6Be> = Array::new();
#[btf_map]
static COUNTERS: Array<u64, { counters::OF_CPU as usize }, MAPPED> = Array::new();

/// The XDP program. Pinned, or the kernel would empty it when the controller ends.
#[btf_map]
static TRACE_DATAPATH: ProgramArray<1> = ProgramArray::new();
/// What is told.
#[btf_map]
static TRACE_RING: RingBuf<Record, { RING as usize }> = RingBuf::new();
#[btf_map]
static TRACE_TALLY: Array<Tally, 1> = Array::new();
/// 19 KB on each CPU, of the 32 KB that the kernel gives.
#[btf_map]
static TRACE_PENDING: PerCpuArray<Pending, 1> = PerCpuArray::new();

/// Bytes of two frames.
pub(crate) type Bytes = [u8; 2 * MAX_SNAP];

/// This CPU's packet, between what comes before the XDP program and what comes behind it.
#[repr(C)]
pub(crate) struct Pending {
    /// A number on its way through memory.
    pub(crate) start: u64,
    /// The half of the flow that was known is a client's: 1, or 0.
    pub(crate) original: u64,
    /// As they were before the packet.
    pub(crate) counters: [u64; COUNTER_COUNT as usize],
    pub(crate) record: Record,
    pub(crate) bytes: Bytes,
}

const _: () = assert!(size_of::<Pending>() < 32 * 1024);

/// A number of which the compiler knows nothing, so that it leaves the comparisons to the verifier that
/// this one needs to see.
#[inline(always)]
pub(crate) fn opaque(number: &u32) -> u32 {
    // SAFETY: a reference is valid.
    unsafe { read_volatile(number) }
}

/// Copies what is made of aligned words. The compiler's own way is a loop over bytes, which the verifier
/// would follow byte by byte.
#[inline(always)]
pub(crate) fn copy<T>(to: &mut T, from: &T) {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() >= 4) };
    let (to, from) =
        (core::ptr::from_mut(to).cast::<u32>(), core::ptr::from_ref(from).cast::<u32>());
    let mut word = 0;
    while word < size_of::<T>() / 4 {
        // SAFETY: as many words as both references have.
        unsafe { write_volatile(to.add(word), read_volatile(from.add(word))) };
        word += 1;
    }
}

/// Likewise of a pointer, which is a number from then on.
#[inline(always)]
pub(crate) fn opaque_long(memory: &mut u64, number: u64) -> u64 {
    // SAFETY: a reference is valid.
    unsafe {
        write_volatile(memory, number);
        read_volatile(memory)
    }
}

/// Does not return if there is an XDP program.
#[inline(always)]
pub(crate) fn call(ctx: &XdpContext) {
    // SAFETY: nothing here has to be dropped.
    unsafe { TRACE_DATAPATH.tail_call(ctx, 0) };
}

impl Pending {
    /// `false`: there is no room.
    #[inline(always)]
    pub(crate) fn tell(&self) -> bool {
        let captured = opaque(&self.record.captured_in) as usize;
        let captured = captured + opaque(&self.record.captured_out) as usize;
        if captured > 2 * MAX_SNAP {
            return false;
        }
        // SAFETY: record and bytes are one behind the other, and so many are there.
        let told = unsafe {
            let start = (&raw const self.record).cast::<u8>();
            core::slice::from_raw_parts(start, size_of::<Record>() + captured)
        };
        TRACE_RING.output_untyped::<[u8]>(told, 0).is_ok()
    }
}

#[inline(always)]
pub(crate) fn pending() -> Option<&'static mut Pending> {
    // SAFETY: an element of this CPU, which handles one packet at a time.
    TRACE_PENDING.get_ptr_mut(0).map(|pending| unsafe { &mut *pending })
}

#[inline(always)]
fn counter(cpu: u32, index: u32) -> u64 {
    let value = COUNTERS.get_ptr(counters::place(cpu, index));
    // SAFETY: one aligned word of this CPU.
    value.map_or(0, |value| unsafe { read_volatile(value) })
}

/// Which one this is, and stays: the XDP program is called from this one.
#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: a helper without arguments, in every kernel.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
pub(crate) fn remember_counters(counters: &mut [u64; COUNTER_COUNT as usize]) {
    let cpu = cpu();
    for (index, known) in (0..).zip(counters) {
        // SAFETY: a reference is valid.
        unsafe { write_volatile(known, counter(cpu, index)) };
    }
}

/// Each packet moves one, but for those that are forwarded.
#[inline(always)]
pub(crate) fn counter_that_moved(counters: &[u64; COUNTER_COUNT as usize]) -> Option<u32> {
    let cpu = cpu();
    for (index, known) in (0..).zip(counters) {
        // SAFETY: a reference is valid.
        if unsafe { read_volatile(known) } != counter(cpu, index) {
            return Some(index);
        }
    }
    None
}

/// What is found under a key of either family.
#[inline(always)]
pub(crate) fn half<A: Tables>(key: &FlowKey<A>) -> Option<&'static FlowHalf<A>> {
    // SAFETY: elements are replaced field by field; a reader may see old and new ones, all valid.
    A::in_table(key).map(|place| unsafe { &*place.half() })
}

/// Whether a record may be told now, which then is.
#[inline(always)]
pub(crate) fn is_due(now: u64) -> bool {
    let limit = filter::limit();
    if limit.is_none() {
        return true;
    }
    let Some(tally) = TRACE_TALLY.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: one aligned word.
    let due = unsafe { read_volatile(&raw const (*tally).due) };
    // Another CPU's record may take its turn: then this one is above the rate.
    // SAFETY: likewise.
    limit.next(due, now).is_some_and(|next| unsafe { exchange(&raw mut (*tally).due, due, next) })
}

#[inline(always)]
pub(crate) fn matched() {
    if let Some(tally) = TRACE_TALLY.get_ptr_mut(0) {
        // SAFETY: an element of the map.
        unsafe { add_one(&raw mut (*tally).matched) };
    }
}

#[inline(always)]
pub(crate) fn suppressed() {
    if let Some(tally) = TRACE_TALLY.get_ptr_mut(0) {
        // SAFETY: an element of the map.
        unsafe { add_one(&raw mut (*tally).suppressed) };
    }
}

#[inline(always)]
pub(crate) fn lost() {
    if let Some(tally) = TRACE_TALLY.get_ptr_mut(0) {
        // SAFETY: an element of the map.
        unsafe { add_one(&raw mut (*tally).lost) };
    }
}

/// # Safety
/// `word` is aligned, writable, and in a map.
#[inline(always)]
unsafe fn add_one(word: *mut u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller vouches for the word.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {one}", word = in(reg) word, one = in(reg) 1u64,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: likewise.
    unsafe {
        *word += 1;
    }
}

/// Writes `new` where `old` still is; `false`: it is not.
///
/// # Safety
/// As for [`add_one`].
#[inline(always)]
unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    #[cfg(target_arch = "bpf")]
    {
        let found: u64;
        // SAFETY: the caller vouches for the word.
        unsafe {
            asm!("r0 = cmpxchg_64({word} + 0, r0, {new})", word = in(reg) word, new = in(reg) new,
                inlateout("r0") old => found, options(nostack, preserves_flags));
        }
        found == old
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: likewise.
    unsafe {
        let is_it = *word == old;
        if is_it {
            *word = new;
        }
        is_it
    }
}
