//! Who may open connections, and how many.

use lb_common::addr::{Endpoint, IpBe};
use lb_common::nat::Kind;
use lb_common::rate::SourceKey;
use lb_common::service::{Service, flag};

use crate::clock::Now;
use crate::maps;
use crate::verdict::{DropReason, Verdict};

/// Takes note of a new connection of `source`.
///
/// # Errors
/// The verdict, if it may not be.
#[inline(never)]
pub(crate) fn admit(service: &Service, source: &IpBe, now: Now) -> Result<(), Verdict> {
    if service.flags & flag::RESTRICTED != 0 && !maps::is_allowed(service.id, *source) {
        return Err(Verdict::Drop(DropReason::NotAllowed));
    }
    if service.rate.is_none() {
        return Ok(());
    }
    let key = SourceKey::new(*source, service.id);
    let Some(due) = service.rate.next(maps::source_due(&key), now.ns) else {
        return Err(Verdict::Drop(DropReason::RateLimited));
    };
    maps::set_source_due(&key, due);
    Ok(())
}

/// How flows of `source` are translated. A backend that is a client could not tell its own address
/// as a source from a forged one, and would answer to another backend directly.
#[inline(never)]
pub(crate) fn kind(service: &Service, source: &IpBe) -> Kind {
    match Kind::from_u8(service.kind) {
        Some(kind @ (Kind::Dnat | Kind::Dsr))
            if maps::endpoint(&Endpoint::host(*source)).is_none() =>
        {
            kind
        }
        Some(Kind::Nat | Kind::Dnat | Kind::Dsr) | None => Kind::Nat,
    }
}
