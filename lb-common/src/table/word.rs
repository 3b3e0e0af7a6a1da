//! A control word as all sides change it. The compiler's target has no atomic types, though the machine has the
//! instructions (Linux 5.12). Pure.

/// Puts `new` there if `old` is.
///
/// # Safety
/// `word` is valid for reads and writes, and aligned.
#[inline(always)]
pub(super) unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    #[cfg(target_arch = "bpf")]
    {
        let found: u64;
        // SAFETY: the caller vouches for it.
        unsafe {
            core::arch::asm!("r0 = cmpxchg_64({word} + 0, r0, {new})", word = in(reg) word, new = in(reg) new,
                inlateout("r0") old => found, options(nostack));
        }
        found == old
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller vouches for it; all accesses are atomic.
        let word = unsafe { AtomicU64::from_ptr(word) };
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Clears bits.
///
/// # Safety
/// As of [`exchange`].
#[inline(always)]
pub(super) unsafe fn clear(word: *mut u64, bits: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller vouches for it.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) &= {bits}", word = in(reg) word, bits = in(reg) !bits,
            options(nostack));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller vouches for it; all accesses are atomic.
        unsafe { AtomicU64::from_ptr(word) }.fetch_and(!bits, Ordering::Release);
    }
}

/// Reads it.
///
/// # Safety
/// `word` is valid for reads, and aligned.
#[inline(always)]
pub(super) unsafe fn load(word: *const u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller vouches for it.
    unsafe {
        core::ptr::read_volatile(word)
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller vouches for it; all accesses are atomic.
        unsafe { AtomicU64::from_ptr(word.cast_mut()) }.load(Ordering::Acquire)
    }
}

/// `value`, of which the verifier knows nothing any more: it would follow each of its values through the rest of the
/// function. `unknown` is something that it does not know either.
#[inline(always)]
#[cfg_attr(
    target_arch = "bpf",
    expect(clippy::cast_possible_truncation, reason = "any number will do")
)]
pub(super) fn opaque(value: u32, unknown: u64) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let (mut one, mut other) = (unknown as u32, unknown as u32);
        // SAFETY: nothing is done. The compiler no longer knows that both are the same.
        unsafe {
            core::arch::asm!("{0} = {0}", "{1} = {1}", inlateout(reg) one, inlateout(reg) other, options(nostack, preserves_flags));
        }
        value ^ one ^ other
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = unknown;
        value
    }
}

/// The same reference, of which the compiler does not know that it is: what it leads to is read each time, and takes no
/// room on the stack.
#[inline(always)]
pub(super) fn afresh<T>(reference: &T) -> &T {
    #[cfg(target_arch = "bpf")]
    {
        let mut pointer = core::ptr::from_ref(reference);
        // SAFETY: nothing is done; the pointer is what it was.
        unsafe {
            core::arch::asm!("{0} = {0}", inlateout(reg) pointer, options(nostack, preserves_flags));
            &*pointer
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    reference
}

/// The same number, which the compiler computes here and not again, for each of its uses.
#[inline(always)]
pub(super) fn once(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: nothing is done.
        unsafe {
            core::arch::asm!("{0} = {0}", inlateout(reg) value, options(nostack, preserves_flags, pure, nomem));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
