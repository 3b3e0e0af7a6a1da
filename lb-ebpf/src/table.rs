//! Where the tables of flows are: for both programs.

use core::ptr::NonNull;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use lb_common::addr::{Address, Ipv4Be, Ipv6Be};
use lb_common::flow::FlowKey;
use lb_common::table::{self, FACTORS, Place, Slot, Slots};

/// Which hash function the tables have. Set by the controller before loading, like what follows.
#[unsafe(no_mangle)]
static TABLE_FACTORS: [u64; FACTORS] = [0; FACTORS];
/// Slots of each family's table that halves can be at home in.
#[unsafe(no_mangle)]
static TABLE_HOMES: u32 = 0;
#[unsafe(no_mangle)]
static TABLE_HOMES6: u32 = 0;

const SLOTS: usize = table::elements(2 * 262_144) as usize;

/// Of arrays that the controller maps into its memory, and that begin with a page therefore.
pub(crate) const MAPPED: usize = BPF_F_MMAPABLE as usize;

pub(crate) type Flows<A> = Array<Slot<A>, SLOTS, MAPPED>;

/// A family that has a table.
pub(crate) trait Tables: Address + 'static {
    fn table() -> &'static Flows<Self>;
    fn homes() -> u32;
    /// Index of a half's slot, or one that is none. A function that the verifier looks at once, and not once for each
    /// place that it is called from.
    fn locate(key: &FlowKey<Self>) -> u32;

    #[inline(always)]
    fn in_table(key: &FlowKey<Self>) -> Option<Place<Self>> {
        Table.slot(Self::locate(key))
    }
}

/// A pointer that is not null, of which the compiler knows nothing: or it would add an offset to it before it looks
/// whether it is null, which the verifier does not allow.
#[inline(always)]
fn known<T>(pointer: NonNull<T>) -> NonNull<T> {
    let known = pointer.as_ptr();
    #[cfg(target_arch = "bpf")]
    let known = {
        let mut known = known;
        // SAFETY: nothing is done.
        unsafe {
            core::arch::asm!("{0} = {0}", inlateout(reg) known, options(nostack, preserves_flags));
        }
        known
    };
    // SAFETY: it is what it was.
    unsafe { NonNull::new_unchecked(known) }
}

/// A family's table.
#[derive(Clone, Copy)]
pub(crate) struct Table;

impl<A: Tables> Slots<A> for Table {
    #[inline(always)]
    fn home(self, key: &FlowKey<A>) -> u32 {
        // SAFETY: a static of this program, which nobody writes after loading; there are so many.
        let factor = |index: usize| unsafe {
            core::ptr::read_volatile((&raw const TABLE_FACTORS).cast::<u64>().add(index))
        };
        table::home(key, A::homes(), factor)
    }

    #[inline(always)]
    fn slot(self, index: u32) -> Option<Place<A>> {
        let slot = NonNull::new(A::table().get_ptr_mut(index)?)?;
        // SAFETY: the kernel keeps the memory of an element valid for the run of the program.
        Some(unsafe { Place::new(known(slot)) })
    }
}

#[inline(always)]
fn locate<A: Tables>(key: *const FlowKey<A>) -> u32 {
    // SAFETY: the verifier lets no other pointers through.
    unsafe { key.as_ref() }.and_then(|key| table::locate(Table, key)).unwrap_or(u32::MAX)
}

#[unsafe(no_mangle)]
extern "C" fn table_locate4(key: *const FlowKey<Ipv4Be>) -> u32 {
    locate(key)
}

#[unsafe(no_mangle)]
extern "C" fn table_locate6(key: *const FlowKey<Ipv6Be>) -> u32 {
    locate(key)
}

impl Tables for Ipv4Be {
    #[inline(always)]
    fn table() -> &'static Flows<Self> {
        &crate::maps::FLOWS
    }

    #[inline(always)]
    fn homes() -> u32 {
        // SAFETY: a static of this program, which nobody writes after loading.
        unsafe { core::ptr::read_volatile(&raw const TABLE_HOMES) }
    }

    #[inline(always)]
    fn locate(key: &FlowKey<Self>) -> u32 {
        table_locate4(key)
    }
}

impl Tables for Ipv6Be {
    #[inline(always)]
    fn table() -> &'static Flows<Self> {
        &crate::maps::FLOWS6
    }

    #[inline(always)]
    fn homes() -> u32 {
        // SAFETY: likewise.
        unsafe { core::ptr::read_volatile(&raw const TABLE_HOMES6) }
    }

    #[inline(always)]
    fn locate(key: &FlowKey<Self>) -> u32 {
        table_locate6(key)
    }
}
