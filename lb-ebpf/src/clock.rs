//! Time.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::time::Ticks;

/// CLOCK_MONOTONIC as of the kernel's last tick: nanoseconds, and as flows keep it.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) ns: u64,
    pub(crate) ticks: Ticks,
}

#[inline(always)]
pub(crate) fn now() -> Now {
    // SAFETY: a helper without arguments, in every kernel since 5.11.
    let ns = unsafe { bpf_ktime_get_coarse_ns() };
    Now { ns, ticks: Ticks::from_ns(ns) }
}
