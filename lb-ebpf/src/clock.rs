//! Time.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;

/// CLOCK_MONOTONIC in nanoseconds, as of the last tick.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments, in every kernel since 5.11.
    unsafe { bpf_ktime_get_coarse_ns() }
}
