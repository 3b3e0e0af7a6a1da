//! Time.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use lb_common::time::Ticks;

/// Nanoseconds of the kernel's timer tick. Set by the controller before loading, where it could measure
/// the following; 0: ask the kernel's clock, which costs a call.
#[unsafe(no_mangle)]
static TICK_NS: u64 = 0;

/// CLOCK_MONOTONIC when the kernel began to count ticks, modulo 2^64.
#[unsafe(no_mangle)]
static TICK_ZERO_NS: u64 = 0;

/// CLOCK_MONOTONIC as of the kernel's last tick: nanoseconds, and as flows keep it.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) ns: u64,
    pub(crate) ticks: Ticks,
}

/// CLOCK_MONOTONIC to the nanosecond, at the price of a call: for SYNs and SYN-ACKs.
#[inline(always)]
pub(crate) fn exact_ns() -> u64 {
    // SAFETY: a helper without arguments, in every kernel.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
pub(crate) fn now() -> Now {
    // SAFETY: statics of this program, which nobody writes after loading; helpers without arguments, in
    // every kernel since 5.11. The verifier makes one load of `bpf_jiffies64`.
    let ns = unsafe {
        match core::ptr::read_volatile(&raw const TICK_NS) {
            0 => bpf_ktime_get_coarse_ns(),
            tick => bpf_jiffies64()
                .wrapping_mul(tick)
                .wrapping_add(core::ptr::read_volatile(&raw const TICK_ZERO_NS)),
        }
    };
    Now { ns, ticks: Ticks::from_ns(ns) }
}
