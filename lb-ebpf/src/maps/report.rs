//! Confirmed flows, told to the controller for a peer, if it wants to know.

use lb_common::conntrack::FlowHalf;
use lb_common::event::{FlowEvent, FlowReport};

use super::{FLOW_EVENTS, FLOW_REPORT, FlowMaps, backend};

/// The reader looks at the ring by the clock: waking it for each record costs more than the record.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// Tells what a confirmed flow is after a change. In `dsr` both halves are the one that there is.
#[inline(never)]
pub(crate) fn tell<A: FlowMaps>(original: &FlowHalf<A>, reply: &FlowHalf<A>) -> bool {
    let Some(report) = FLOW_REPORT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: an element of this CPU; programs on one CPU do not interrupt each other here.
    let report: &mut FlowReport = unsafe { &mut *report };
    if report.wanted == 0 {
        return false;
    }
    let Some(mut entry) = FLOW_EVENTS.reserve(0) else {
        report.lost += 1;
        return false;
    };
    // SAFETY: memory of the record's size, of which every field is written.
    let event: &mut FlowEvent = unsafe { &mut *entry.as_mut_ptr() };
    if original.is_alone() {
        let Some(backend) = backend(original.backend) else {
            entry.discard(BPF_RB_NO_WAKEUP);
            return false;
        };
        event.init_alone(original, backend.endpoint.address, backend.endpoint.port);
    } else {
        event.init(original, reply);
    }
    entry.submit(BPF_RB_NO_WAKEUP);
    true
}
