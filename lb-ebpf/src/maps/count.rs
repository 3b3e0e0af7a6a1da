//! Counters, and what the controller is told at once.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use lb_common::backend::{self, BackendEvents, BackendId, BackendTraffic, Signal, SignalKind, Way};
use lb_common::connect;
use lb_common::counters::{self, Counter};
use lb_common::flow::Direction;
use lb_common::rate::RateLimit;

use super::{
    BACKEND_EVENTS, BACKEND_TRAFFIC, CONNECT_TIMES, COUNTERS, HALF_OPEN_EVICTED, SIGNALLED,
    SIGNALS, TIME_EXCEEDED, TIMED,
};
use crate::clock;

/// Between two signals of one backend, on one CPU. Nanoseconds.
const SIGNAL_INTERVAL: u64 = 100_000_000;

/// ICMP errors on one CPU; as Linux limits those to one destination (`icmp_ratelimit`), here to all.
const TIME_EXCEEDED_LIMIT: RateLimit = RateLimit::new(1000, 50);

/// All that is there for metrics alone: verdicts, traffic and connections of backends, connect times.
const COUNTS: bool = !cfg!(feature = "uncounted");

/// Backends that each CPU has counters of. Set by the controller before loading.
#[unsafe(no_mangle)]
static COUNTED_BACKENDS: u32 = 1024;

/// The clock is looked at twice for a connection, each time for some 20 ns: on one CPU, at so many a second, and of more
/// at so many of them.
const TIMED_LIMIT: RateLimit = RateLimit::new(5000, 1000);

/// Which one this is: a load from its own memory since Linux 6.10, a call before.
#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: a helper without arguments, in every kernel.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if COUNTS && let Some(value) = COUNTERS.get_ptr_mut(counters::place(cpu(), counter as u32)) {
        // SAFETY: an element of this CPU; programs on one CPU do not interrupt each other here.
        unsafe { *value += 1 };
    }
}

/// Where this CPU's counters of a backend are.
#[inline(always)]
fn place(id: BackendId) -> Option<u32> {
    // SAFETY: a static of this program, which nobody writes after loading.
    let backends = unsafe { core::ptr::read_volatile(&raw const COUNTED_BACKENDS) };
    backend::place(cpu(), id, backends)
}

#[inline(always)]
fn traffic(id: BackendId) -> Option<&'static mut BackendTraffic> {
    // SAFETY: as in `count`.
    BACKEND_TRAFFIC.get_ptr_mut(place(id)?).map(|traffic| unsafe { &mut *traffic })
}

#[inline(always)]
fn events(id: BackendId) -> Option<&'static mut BackendEvents> {
    // SAFETY: as in `count`.
    BACKEND_EVENTS.get_ptr_mut(place(id)?).map(|events| unsafe { &mut *events })
}

/// Counts a segment that leaves: the verdict on it, and its backend's traffic.
#[inline(always)]
pub(crate) fn count_forwarded(id: BackendId, direction: Direction, way: Way, bytes: u64) {
    if COUNTS && let Some(traffic) = traffic(id) {
        let forwarded = match direction {
            Direction::Original => &mut traffic.requests,
            Direction::Reply => &mut traffic.replies,
        };
        forwarded.bytes += bytes;
        match way {
            Way::Back => forwarded.packets[Way::Back as usize] += 1,
            Way::Across => forwarded.packets[Way::Across as usize] += 1,
            Way::Local => forwarded.packets[Way::Local as usize] += 1,
        }
    }
}

#[inline(always)]
pub(crate) fn count_flow(id: BackendId) {
    if COUNTS && let Some(events) = events(id) {
        events.flows += 1;
    }
}

#[inline(always)]
pub(crate) fn count_connection(id: BackendId) {
    if COUNTS && let Some(events) = events(id) {
        events.connections += 1;
    }
}

/// Counts a half-open flow that another one took the place of.
#[inline(always)]
pub(crate) fn count_evicted() {
    if let Some(evicted) = HALF_OPEN_EVICTED.get_ptr_mut(0) {
        // SAFETY: as in `count`.
        unsafe { *evicted += 1 };
    }
}

/// The moment of a SYN, for [`count_connect`]; 0: this one is not timed.
#[inline(never)]
pub(crate) fn connect_stamp() -> u32 {
    let is_timed = || {
        let now = clock::now().ns;
        TIMED.get_ptr_mut(0).is_some_and(|due| is_due(due, TIMED_LIMIT, now))
    };
    if COUNTS && is_timed() { connect::stamp(clock::exact_ns()) } else { 0 }
}

/// Counts how long a backend took to answer a SYN that was sent at `stamp`; 0: nobody knows.
#[inline(never)]
pub(crate) fn count_connect(id: BackendId, stamp: u32) {
    if !COUNTS || stamp == 0 {
        return;
    }
    let Some(times) = CONNECT_TIMES.get_ptr_mut(id) else {
        return;
    };
    // SAFETY: as in `count`.
    let times = unsafe { &mut *times };
    let took = connect::since(stamp, clock::exact_ns());
    times.sum_us += u64::from(took);
    if let Some(count) = times.buckets.get_mut(connect::bucket(took)) {
        *count += 1;
    }
}

/// Counts what speaks against a backend, and tells the controller, not too often.
#[inline(never)]
pub(crate) fn signal(backend: BackendId, kind: SignalKind, now: u64) {
    let Some(events) = events(backend) else {
        return;
    };
    match kind {
        SignalKind::Unanswered => events.unanswered += 1,
        SignalKind::Refused => events.refused += 1,
    }
    let Some(signalled) = SIGNALLED.get_ptr_mut(backend) else {
        return;
    };
    // SAFETY: as in `count`.
    let signalled = unsafe { &mut *signalled };
    if now.saturating_sub(*signalled) < SIGNAL_INTERVAL {
        return;
    }
    *signalled = now;
    // A full ring has more for the controller to read than it needs.
    let _ = SIGNALS.output(Signal { backend, kind: kind as u32 }, 0);
}

/// Whether this CPU may send an ICMP error now, which is then taken as sent.
#[inline(always)]
pub(crate) fn time_exceeded_is_due(now: u64) -> bool {
    TIME_EXCEEDED.get_ptr_mut(0).is_some_and(|due| is_due(due, TIME_EXCEEDED_LIMIT, now))
}

/// Whether it is time for another one of what this CPU does no more often than `limit`.
#[inline(always)]
fn is_due(due: *mut u64, limit: RateLimit, now: u64) -> bool {
    // SAFETY: an element of this CPU, as in `count`.
    let due = unsafe { &mut *due };
    let next = limit.next(*due, now);
    if let Some(next) = next {
        *due = next;
    }
    next.is_some()
}
