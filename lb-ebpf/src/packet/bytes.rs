//! Fields of headers as numbers, in one access each.
//!
//! Nothing promises that a header starts at a multiple of four, so that the compiler would take a field
//! apart into bytes. Every machine that XDP is used on has unaligned accesses, and the verifier knows.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// A field of 16 bits as it is in memory.
#[inline(always)]
pub(crate) fn get_u16(bytes: &[u8; 2]) -> u16 {
    #[cfg(target_arch = "bpf")]
    {
        let value: u64;
        // SAFETY: reads two bytes behind a reference to two bytes.
        unsafe {
            asm!("{value} = *(u16 *)({bytes} + 0)", bytes = in(reg) bytes.as_ptr(),
                value = lateout(reg) value, options(pure, readonly, nostack, preserves_flags));
        }
        value as u16
    }
    #[cfg(not(target_arch = "bpf"))]
    u16::from_ne_bytes(*bytes)
}

/// A field of 32 bits as it is in memory.
#[inline(always)]
pub(crate) fn get_u32(bytes: &[u8; 4]) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let value: u64;
        // SAFETY: reads four bytes behind a reference to four bytes.
        unsafe {
            asm!("{value} = *(u32 *)({bytes} + 0)", bytes = in(reg) bytes.as_ptr(),
                value = lateout(reg) value, options(pure, readonly, nostack, preserves_flags));
        }
        value as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    u32::from_ne_bytes(*bytes)
}

/// Writes a field of 16 bits.
#[inline(always)]
pub(crate) fn set_u16(bytes: &mut [u8; 2], value: u16) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: writes two bytes behind a reference to two bytes.
    unsafe {
        asm!("*(u16 *)({bytes} + 0) = {value}", bytes = in(reg) bytes.as_mut_ptr(),
            value = in(reg) u64::from(value), options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *bytes = value.to_ne_bytes();
    }
}

/// Writes a field of 32 bits.
#[inline(always)]
pub(crate) fn set_u32(bytes: &mut [u8; 4], value: u32) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: writes four bytes behind a reference to four bytes.
    unsafe {
        asm!("*(u32 *)({bytes} + 0) = {value}", bytes = in(reg) bytes.as_mut_ptr(),
            value = in(reg) u64::from(value), options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *bytes = value.to_ne_bytes();
    }
}

/// A field of 64 bits as it is in memory.
#[inline(always)]
pub(crate) fn get_u64(bytes: &[u8; 8]) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let value: u64;
        // SAFETY: reads eight bytes behind a reference to eight bytes.
        unsafe {
            asm!("{value} = *(u64 *)({bytes} + 0)", bytes = in(reg) bytes.as_ptr(),
                value = lateout(reg) value, options(pure, readonly, nostack, preserves_flags));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    u64::from_ne_bytes(*bytes)
}

/// Writes a field of 64 bits.
#[inline(always)]
pub(crate) fn set_u64(bytes: &mut [u8; 8], value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: writes eight bytes behind a reference to eight bytes.
    unsafe {
        asm!("*(u64 *)({bytes} + 0) = {value}", bytes = in(reg) bytes.as_mut_ptr(),
            value = in(reg) value, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *bytes = value.to_ne_bytes();
    }
}
