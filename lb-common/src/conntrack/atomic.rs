//! Changes of a word in one step, as another CPU may change it at the same time. Pure.
//!
//! The compiler's target has no atomic types, though the machine has the instructions (Linux 5.12). On
//! the host nothing is changed in place.

/// Sets bits.
#[inline(always)]
pub(super) fn or(word: &mut u32, bits: u32) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: a reference to an aligned word, writable.
    unsafe {
        core::arch::asm!("lock *(u32 *)({word} + 0) |= {bits}", word = in(reg) core::ptr::from_mut(word),
            bits = in(wreg) bits, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *word |= bits;
    }
}

/// Keeps bits, clears all others.
#[inline(always)]
pub(super) fn and(word: &mut u32, bits: u32) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: as in `or`.
    unsafe {
        core::arch::asm!("lock *(u32 *)({word} + 0) &= {bits}", word = in(reg) core::ptr::from_mut(word),
            bits = in(wreg) bits, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *word &= bits;
    }
}
