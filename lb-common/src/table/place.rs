//! A slot in memory that others change at the same time. Pure.

use core::ptr::NonNull;

use super::{Control, Slot, word};
use crate::addr::{Address, Ports};
use crate::conntrack::{FlowHalf, flag};
use crate::flow::FlowKey;
use crate::time::Ticks;

/// Where a slot is.
#[repr(transparent)]
#[derive(Debug, PartialEq, Eq)]
pub struct Place<A>(NonNull<Slot<A>>);

impl<A> Clone for Place<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Place<A> {}

impl<A> Place<A> {
    /// # Safety
    /// Valid for reads and writes as long as it is used, by others at the same time, who use this type too; aligned.
    #[inline(always)]
    pub const unsafe fn new(slot: NonNull<Slot<A>>) -> Self {
        Self(slot)
    }

    /// The half in it. Another may be writing to it: fields are plain integers.
    #[inline(always)]
    pub const fn half(self) -> *mut FlowHalf<A> {
        // SAFETY: `new`'s caller vouches for it.
        unsafe { &raw mut (*self.0.as_ptr()).half }
    }

    /// Of the half in it, as they are now.
    #[inline(always)]
    pub(super) fn flags(self) -> u32 {
        // SAFETY: `new`'s caller vouches for it.
        unsafe { core::ptr::read_volatile(&raw const (*self.half()).flags) }
    }

    /// Likewise.
    #[inline(always)]
    pub(super) fn last_seen(self) -> Ticks {
        // SAFETY: `new`'s caller vouches for it.
        unsafe { core::ptr::read_volatile(&raw const (*self.half()).last_seen) }
    }

    /// Of the packets that its half's other direction brings.
    #[inline(always)]
    pub(super) fn peer_ports(self) -> Ports {
        // SAFETY: `new`'s caller vouches for it.
        let ports = unsafe { &raw const (*self.half()).translation.ports };
        // SAFETY: likewise.
        unsafe { core::ptr::read_volatile(ports) }.swapped()
    }

    /// It was taken: until it is filled nobody takes it for the half of a flow that gives way.
    #[inline(always)]
    pub(super) fn hold(self) {
        // SAFETY: `new`'s caller vouches for it, and nobody else writes to what has been taken.
        unsafe { core::ptr::write_volatile(&raw mut (*self.half()).flags, flag::CONFIRMED) }
    }

    /// Its control as it is now.
    #[inline(always)]
    pub fn control(self) -> Control {
        // SAFETY: `new`'s caller vouches for it.
        Control::from_word(unsafe { word::load(&raw const (*self.0.as_ptr()).control) })
    }

    /// `false`: it is no longer `old`.
    #[inline(always)]
    pub(super) fn exchange(self, old: Control, new: Control) -> bool {
        // SAFETY: `new`'s caller vouches for it.
        let word = unsafe { &raw mut (*self.0.as_ptr()).control };
        // SAFETY: likewise.
        unsafe { word::exchange(word, old.word(), new.word()) }
    }

    /// Gives it back: it was taken, and is not published.
    #[inline(always)]
    pub fn release(self) {
        // SAFETY: `new`'s caller vouches for it.
        unsafe { word::clear(&raw mut (*self.0.as_ptr()).control, Control::TAKEN) }
    }

    /// Gives it back if its control still is what it was when it was found to be nobody's.
    pub fn reclaim(self, seen: Control) -> bool {
        self.exchange(seen, seen.given_back())
    }
}

impl<A: Address> Place<A> {
    #[inline(always)]
    pub(super) fn holds(self, key: &FlowKey<A>) -> bool {
        // On the datapath a copy has no room on the stack.
        #[cfg(target_arch = "bpf")]
        // SAFETY: `new`'s caller vouches for it. Who is writing to it has not published it.
        let found = unsafe { &(*self.0.as_ptr()).key };
        #[cfg(not(target_arch = "bpf"))]
        let found = self.key();
        found.equals(word::afresh(key))
    }

    /// The key where it is, which another may be writing to: integers, all of whose values are valid.
    #[inline(always)]
    pub(super) fn key_in_place<'a>(self) -> &'a FlowKey<A> {
        // SAFETY: `new`'s caller vouches for it.
        unsafe { &(*self.0.as_ptr()).key }
    }

    /// The key in it, as it is now.
    pub fn key(self) -> FlowKey<A> {
        // SAFETY: `new`'s caller vouches for it; all values are valid.
        unsafe { core::ptr::read_volatile(&raw const (*self.0.as_ptr()).key) }
    }

    /// The half in it, as it is now.
    pub fn copied(self) -> FlowHalf<A> {
        // SAFETY: likewise.
        unsafe { core::ptr::read_volatile(self.half()) }
    }

    /// Fills it: it was taken, and is not published.
    #[inline(always)]
    pub(super) fn fill(self, key: &FlowKey<A>, half: &FlowHalf<A>) {
        // SAFETY: `new`'s caller vouches for it, and nobody else writes to it.
        unsafe {
            (*self.0.as_ptr()).key = *key;
            (*self.0.as_ptr()).half = *half;
        }
    }
}
