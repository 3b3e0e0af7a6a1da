//! New flow → backend.

use lb_common::backend::{Backend, BackendId, State};
use lb_common::flow::FlowKey;
use lb_common::selection::flow_hash;
use lb_common::service::Service;

use crate::family::Family;
use crate::maps;

/// How often another backend than the one that did not answer is looked for: of three backends it is
/// the same one each time for one client in 3^8.
const OTHERS: u8 = 8;

/// Whom a client gets, and for the how manieth time it was asked for.
pub(crate) struct Selected {
    pub(crate) id: BackendId,
    pub(crate) backend: &'static Backend,
    pub(crate) attempt: u8,
}

/// The backend that the service's table has for a client at its `attempt`; after the first, if
/// possible, not the one that `Scratch` says to avoid. `None`: the table is empty.
#[inline(always)]
pub(crate) fn select<A: Family>(
    key: &FlowKey<A>,
    service: &Service,
    attempt: u8,
) -> Option<Selected> {
    let avoid = if attempt == 0 { 0 } else { A::scratch()?.avoid };
    pick(key, service.id, attempt, avoid)
}

/// Whether a client whose first SYN `refusing` had would get another backend at its second, one that is
/// not known to be down.
#[inline(always)]
pub(crate) fn has_other<A: Family>(key: &FlowKey<A>, service: u32, refusing: BackendId) -> bool {
    pick(key, service, 1, refusing)
        .is_some_and(|other| other.id != refusing && other.backend.state != State::Down as u8)
}

#[inline(always)]
fn pick<A: Family>(
    key: &FlowKey<A>,
    service: u32,
    attempt: u8,
    avoid: BackendId,
) -> Option<Selected> {
    let mut attempt = attempt;
    let mut id = maps::table_entry(service, flow_hash(key, attempt))?;
    for _ in 0..OTHERS {
        if id != avoid {
            break;
        }
        attempt = attempt.wrapping_add(1);
        id = maps::table_entry(service, flow_hash(key, attempt))?;
    }
    Some(Selected { id, backend: maps::backend(id)?, attempt })
}
