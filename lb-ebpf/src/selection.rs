//! New flow → backend.

use lb_common::backend::{Backend, BackendId};
use lb_common::flow::FlowKey;
use lb_common::selection::flow_hash;
use lb_common::service::Service;

use crate::family::Family;
use crate::maps;

/// The backend that the service's table has for a client; `None`: the table is empty.
#[inline(always)]
pub(crate) fn select<A: Family>(
    key: &FlowKey<A>,
    service: &Service,
    attempt: u8,
) -> Option<(BackendId, &'static Backend)> {
    let id = maps::table_entry(service.id, flow_hash(key, attempt))?;
    Some((id, maps::backend(id)?))
}
