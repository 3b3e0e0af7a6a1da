//! What a segment without a flow is for.

use lb_common::addr::{Endpoint, IpBe};
use lb_common::flow::FlowKey;
use lb_common::service::{EndpointUse, Service, ServiceKey};

use crate::IPPROTO_TCP;
use crate::clock::{self, Now};
use crate::family::Family;
use crate::maps;
use crate::verdict::{DropReason, PassReason, Verdict};

/// What to do with a segment of no known flow.
pub(crate) enum Owner {
    /// It is a client's.
    Service(&'static Service),
    /// It is a backend's, and can only have been an answer to what came to the VIP.
    Exclusive(&'static EndpointUse),
}

/// Whose matter a segment is.
///
/// # Errors
/// The verdict, where it is none of ours: what comes from a backend's port to a SNAT port belonged to
/// a flow once, and the kernel would answer it with a RST; anything else is for this host, or is
/// forwarded by it.
#[inline(never)]
pub(crate) fn of<A: Family>(key: &FlowKey<A>) -> Result<Owner, Verdict> {
    let destination = key.dst.ip();
    if let Some(service) =
        maps::service(&ServiceKey::new(destination, key.ports.dst(), IPPROTO_TCP))
    {
        return Ok(Owner::Service(service));
    }
    let source = maps::endpoint(&Endpoint::new(key.src.ip(), key.ports.src(), IPPROTO_TCP));
    let verdict = host_verdict(destination, PassReason::NotService);
    match (verdict, source) {
        (
            Verdict::Pass(PassReason::NotService) | Verdict::Drop(DropReason::NotAccepted),
            Some(_),
        ) if Service::is_snat_port(key.ports.dst()) => Err(Verdict::Drop(DropReason::StaleReply)),
        (Verdict::Pass(PassReason::NotVip), Some(source)) if source.exclusive != 0 => {
            Ok(Owner::Exclusive(source))
        }
        (Verdict::Pass(PassReason::NotVip), Some(_)) => Err(Verdict::Pass(PassReason::Foreign)),
        _ => Err(verdict),
    }
}

/// The verdict on what is not balanced: it passes, to a VIP only while that is this node's, for the
/// kernel owns the address still, and only if the VIP accepts it.
#[inline(always)]
pub(crate) fn host_verdict(destination: IpBe, reason: PassReason) -> Verdict {
    match maps::vip(destination) {
        None => Verdict::Pass(PassReason::NotVip),
        Some(vip) if !maps::lease(vip.lease()).may_forward(clock::now().ns) => {
            Verdict::Drop(DropReason::LeaseExpired)
        }
        Some(vip) if !vip.accepts() => Verdict::Drop(DropReason::NotAccepted),
        Some(_) => Verdict::Pass(reason),
    }
}

/// New flows need a VIP that this node may answer for.
#[inline(always)]
pub(crate) fn check_lease(service: &Service, now: Now) -> Result<(), Verdict> {
    if maps::lease(service.vip).may_answer(now.ns) {
        Ok(())
    } else {
        Err(Verdict::Drop(DropReason::LeaseExpired))
    }
}
