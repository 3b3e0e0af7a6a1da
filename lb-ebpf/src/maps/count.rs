//! Counters, and what the controller is told at once.

use lb_common::backend::{BackendCounters, BackendId, Signal, SignalKind};
use lb_common::connect;
use lb_common::counters::Counter;
use lb_common::flow::Direction;
use lb_common::rate::RateLimit;

use super::{BACKEND_COUNTERS, CONNECT_TIMES, COUNTERS, HALF_OPEN_EVICTED, SIGNALS, TIME_EXCEEDED};
use crate::clock;

/// Between two signals of one backend, on one CPU. Nanoseconds.
const SIGNAL_INTERVAL: u64 = 100_000_000;

/// ICMP errors on one CPU; as Linux limits those to one destination (`icmp_ratelimit`), here to all.
const TIME_EXCEEDED_LIMIT: RateLimit = RateLimit::new(1000, 50);

/// All that is there for metrics alone: verdicts, traffic and connections of backends, connect times.
const COUNTS: bool = !cfg!(feature = "uncounted");

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if COUNTS && let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: an element of this CPU; programs on one CPU do not interrupt each other here.
        unsafe { *value += 1 };
    }
}

/// This CPU's counters of a backend.
#[inline(always)]
fn backend_counters(id: BackendId) -> Option<&'static mut BackendCounters> {
    // SAFETY: as in `count`.
    BACKEND_COUNTERS.get_ptr_mut(id).map(|counters| unsafe { &mut *counters })
}

#[inline(always)]
pub(crate) fn count_traffic(id: BackendId, direction: Direction, bytes: u64) {
    if !COUNTS {
        return;
    }
    let Some(counters) = backend_counters(id) else {
        return;
    };
    match direction {
        Direction::Original => {
            counters.request_packets += 1;
            counters.request_bytes += bytes;
        }
        Direction::Reply => {
            counters.reply_packets += 1;
            counters.reply_bytes += bytes;
        }
    }
}

#[inline(always)]
pub(crate) fn count_flow(id: BackendId) {
    if COUNTS && let Some(counters) = backend_counters(id) {
        counters.flows += 1;
    }
}

#[inline(always)]
pub(crate) fn count_connection(id: BackendId) {
    if COUNTS && let Some(counters) = backend_counters(id) {
        counters.connections += 1;
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

/// The moment of a SYN, for [`count_connect`].
#[inline(always)]
pub(crate) fn connect_stamp() -> u32 {
    if COUNTS { connect::stamp(clock::exact_ns()) } else { 0 }
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
    let Some(counters) = backend_counters(backend) else {
        return;
    };
    match kind {
        SignalKind::Unanswered => counters.unanswered += 1,
        SignalKind::Refused => counters.refused += 1,
    }
    if now.saturating_sub(counters.signalled) < SIGNAL_INTERVAL {
        return;
    }
    counters.signalled = now;
    // A full ring has more for the controller to read than it needs.
    let _ = SIGNALS.output(Signal { backend, kind: kind as u32 }, 0);
}

/// Whether this CPU may send an ICMP error now, which is then taken as sent.
#[inline(always)]
pub(crate) fn time_exceeded_is_due(now: u64) -> bool {
    let Some(due) = TIME_EXCEEDED.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: as in `count`.
    let due = unsafe { &mut *due };
    let next = TIME_EXCEEDED_LIMIT.next(*due, now);
    if let Some(next) = next {
        *due = next;
    }
    next.is_some()
}
