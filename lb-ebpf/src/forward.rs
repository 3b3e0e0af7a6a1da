//! Translate, resolve the next hop, send.

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use lb_common::addr::{IpBe, Ports};
use lb_common::backend::{Backend, Way};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::{Direction, FlowKey};
use lb_common::link::{Mac, NextHop, Tags};
use lb_common::nat::Kind;
use lb_common::service::EndpointUse;

use crate::IPPROTO_TCP;
use crate::clock::Now;
use crate::family::Family;
use crate::maps::{self, Scratch};
use crate::packet::Packet;
use crate::verdict::{DropReason, PassReason, Verdict};

const NO_NEXT_HOP: Verdict = Verdict::Drop(DropReason::NoNextHop);

/// Translates a client's segment and sends it to the flow's backend.
#[inline(always)]
pub(crate) fn request<A: Family>(
    packet: &Packet<A>,
    half: &FlowHalf<A>,
    backend: &Backend,
) -> Result<Verdict, Verdict> {
    let next_hop = if backend.next_hop.is_known() {
        &backend.next_hop
    } else if backend.is_local() {
        return Ok(deliver(packet, half));
    } else {
        let source = half.translation.src.ip();
        fib::<A>(packet, &source, &backend.endpoint.address).ok_or(NO_NEXT_HOP)?
    };
    send(packet, half, next_hop, Direction::Original)
}

/// Translates a client's segment to a backend on this node, and leaves it to the kernel: the client's
/// address stays, for the kernel takes its own as a source from nobody.
#[inline(never)]
fn deliver<A: Family>(packet: &Packet<A>, half: &FlowHalf<A>) -> Verdict {
    packet.translate(half);
    maps::count_forwarded(half.backend, Direction::Original, Way::Local, packet.bytes().into());
    Verdict::Forward { action: XDP_PASS }
}

/// Translates a backend's segment and sends it to the flow's client.
#[inline(always)]
pub(crate) fn reply<A: Family>(packet: &Packet<A>, half: &FlowHalf<A>) -> Result<Verdict, Verdict> {
    send(packet, half, &half.next_hop, Direction::Reply)
}

#[inline(always)]
fn send<A: Family>(
    packet: &Packet<A>,
    half: &FlowHalf<A>,
    next_hop: &NextHop,
    direction: Direction,
) -> Result<Verdict, Verdict> {
    let link = maps::link(next_hop.link).ok_or(NO_NEXT_HOP)?;
    if half.is_alone() && packet.is_to(next_hop.mac) {
        // What `dsr` sends is to the VIP still: flooded back to us it would go round for ever.
        return Err(Verdict::Pass(PassReason::OtherHost));
    }
    if !half.is_alone() {
        packet.translate(half);
    }
    packet.address(link.mac, next_hop)?;
    let (way, action) = if link.ifindex == packet.ingress {
        (Way::Back, XDP_TX)
    } else {
        (Way::Across, maps::redirect(next_hop.link).map_err(|()| NO_NEXT_HOP)?)
    };
    maps::count_forwarded(half.backend, direction, way, packet.bytes().into());
    Ok(Verdict::Forward { action })
}

/// A reply of no flow, which can only be one to the VIP that its endpoint has to itself, or to this
/// node: nobody is reached at its own addresses by way of a neighbour.
#[inline(never)]
pub(crate) fn exclusive<A: Family>(
    packet: &Packet<A>,
    key: &FlowKey<A>,
    endpoint: &EndpointUse,
    now: Now,
) -> Verdict {
    match try_exclusive(packet, key, endpoint, now) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_exclusive<A: Family>(
    packet: &Packet<A>,
    key: &FlowKey<A>,
    endpoint: &EndpointUse,
    now: Now,
) -> Result<Verdict, Verdict> {
    check_lease(endpoint.lease, now)?;
    let next_hop = maps::next_hop(&key.dst.ip()).ok_or(Verdict::Pass(PassReason::Foreign))?;
    let Scratch { half, .. } = A::scratch().ok_or(Verdict::Drop(DropReason::Inconsistent))?;
    let ports = Ports::new(endpoint.vip.port, key.ports.dst());
    let to = FlowKey::new(A::from_ip(endpoint.vip.address), key.dst, ports);
    half.init(Kind::Dnat, key, &to);
    send(packet, half, next_hop, Direction::Reply)
}

/// Established flows need a VIP that this node may still forward for.
#[inline(always)]
pub(crate) fn check_lease(vip: u32, now: Now) -> Result<(), Verdict> {
    if maps::lease(vip).may_forward(now.ns) {
        Ok(())
    } else {
        Err(Verdict::Drop(DropReason::LeaseExpired))
    }
}

/// Asks the kernel's FIB for the way to a backend that the controller has not resolved. It answers
/// only on interfaces that forward; elsewhere the segment is lost until the controller knows the way.
#[inline(never)]
fn fib<A: Family>(packet: &Packet<A>, src: &IpBe, dst: &IpBe) -> Option<&'static NextHop> {
    let Scratch { next_hop, fib: params, .. } = A::scratch()?;
    // Field by field: a `memset` of so many bytes is a loop, which the verifier would follow.
    params.l4_protocol = IPPROTO_TCP;
    (params.sport, params.dport) = (0, 0);
    params.__bindgen_anon_1.tot_len = 0;
    params.__bindgen_anon_2.flowinfo = 0;
    params.ifindex = packet.ingress;
    A::ask_fib(params, A::from_ip(*src), A::from_ip(*dst));
    // SAFETY: the context is the program's own, params and their size belong together.
    let found = unsafe {
        fib_lookup(packet.ctx.cast(), &raw mut *params, size_of::<bpf_fib_lookup>() as i32, 0)
    };
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        return None;
    }
    let link = maps::link_id(params.ifindex);
    *next_hop = NextHop { mac: Mac(params.dmac), link, tags: Tags::default() };
    next_hop.is_known().then_some(next_hop)
}
