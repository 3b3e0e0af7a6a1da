//! What a segment without a flow is for.

use lb_common::IPPROTO_TCP;
use lb_common::addr::Endpoint;
use lb_common::flow::FlowKey;
use lb_common::service::{Service, ServiceKey};

use crate::clock;
use crate::maps::{self, Ip};
use crate::verdict::{DropReason, PassReason, Verdict};

/// The service that `key` addresses.
///
/// # Errors
/// The verdict, where it is none: what comes from a backend's port to a SNAT port belonged to a flow
/// once, and the kernel would answer it with a RST; anything else is for this host.
#[inline(always)]
pub(crate) fn of(key: &FlowKey<Ip>) -> Result<&'static Service<Ip>, Verdict> {
    if let Some(service) = maps::service(&ServiceKey::new(key.dst, key.dst_port, IPPROTO_TCP)) {
        return Ok(service);
    }
    let source = Endpoint::new(key.src, key.src_port, IPPROTO_TCP);
    let verdict = host_verdict(key.dst, PassReason::NotService);
    if matches!(verdict, Verdict::Pass(PassReason::NotService))
        && Service::<Ip>::is_snat_port(key.dst_port)
        && maps::is_backend_endpoint(&source)
    {
        return Err(Verdict::Drop(DropReason::StaleReply));
    }
    Err(verdict)
}

/// The verdict on what is not balanced: it passes, to a VIP only while that is this node's, for the
/// kernel owns the address still.
#[inline(always)]
pub(crate) fn host_verdict(destination: Ip, reason: PassReason) -> Verdict {
    match maps::vip(destination) {
        None => Verdict::Pass(PassReason::NotVip),
        Some(vip) if maps::lease(vip).may_forward(clock::now()) => Verdict::Pass(reason),
        Some(_) => Verdict::Drop(DropReason::LeaseExpired),
    }
}

/// New flows need a VIP that this node may answer for.
#[inline(always)]
pub(crate) fn check_lease(service: &Service<Ip>, now: u64) -> Result<(), Verdict> {
    if maps::lease(service.vip).may_answer(now) {
        Ok(())
    } else {
        Err(Verdict::Drop(DropReason::LeaseExpired))
    }
}
