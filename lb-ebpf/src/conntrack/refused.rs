//! A refusal that the client need not hear of.

use lb_common::backend::SignalKind;
use lb_common::conntrack::{FlowHalf, Segment, flag, refuses_syn};
use lb_common::flow::FlowKey;

use crate::clock::Now;
use crate::family::Family;
use crate::maps;
use crate::selection;

/// Whether the client is not told that its backend refuses its first SYN: it sends it again a second
/// later, and it goes to another. If that one refuses as well, or there is none, the client is told: a
/// service that is dead must not look as if it hung.
#[inline(never)]
pub(crate) fn hold_back_refusal<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    segment: &Segment,
    now: Now,
) -> bool {
    if half.is_confirmed() || half.attempts != 0 {
        return false;
    }
    let original_key = half.translation.peer_key();
    let Some(original) = A::half(&original_key) else {
        return false;
    };
    if !original.translation.answers(key)
        || !refuses_syn(original, half, segment)
        || !selection::has_other(&original_key, u32::from(half.service), half.backend)
    {
        return false;
    }
    half.set(flag::REFUSED);
    maps::signal(half.backend, SignalKind::Refused, now.ns);
    true
}
