//! Translate, resolve the next hop, send.

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use lb_common::IPPROTO_TCP;
use lb_common::addr::{Mac, NextHop};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::Direction;

use crate::maps::{self, Ip};
use crate::packet::Packet;
use crate::verdict::{DropReason, Verdict};

const AF_INET: u8 = 2;

/// Translates a client's segment and sends it to the flow's backend.
#[inline(always)]
pub(crate) fn request(packet: &Packet, half: &FlowHalf<Ip>) -> Result<Verdict, Verdict> {
    let backend = maps::backend(half.backend).ok_or(Verdict::Drop(DropReason::Inconsistent))?;
    let next_hop = if backend.next_hop.is_known() {
        &backend.next_hop
    } else {
        fib(packet, half).ok_or(Verdict::Drop(DropReason::NoNextHop))?
    };
    Ok(send(packet, half, next_hop, Direction::Original))
}

/// Translates a backend's segment and sends it to the flow's client.
#[inline(always)]
pub(crate) fn reply(packet: &Packet, half: &FlowHalf<Ip>) -> Verdict {
    send(packet, half, &half.next_hop, Direction::Reply)
}

#[inline(always)]
fn send(packet: &Packet, half: &FlowHalf<Ip>, next_hop: &NextHop, direction: Direction) -> Verdict {
    packet.translate(half);
    packet.set_macs(next_hop.source_mac, next_hop.mac);
    maps::count_traffic(half.backend, direction, u64::from(packet.bytes()));
    Verdict::Forward { direction, egress: next_hop.ifindex }
}

/// The hop count must outlive this hop (RFC 1812 section 5.3.1). Checked before a flow takes notice:
/// what is dropped changes no state.
#[inline(always)]
pub(crate) fn check_ttl(packet: &Packet) -> Result<(), Verdict> {
    if packet.ttl() > 1 { Ok(()) } else { Err(Verdict::Drop(DropReason::TtlExpired)) }
}

/// Established flows need a VIP that this node may still forward for.
#[inline(always)]
pub(crate) fn check_lease(vip: u32, now: u64) -> Result<(), Verdict> {
    if maps::lease(vip).may_forward(now) {
        Ok(())
    } else {
        Err(Verdict::Drop(DropReason::LeaseExpired))
    }
}

/// Asks the kernel's FIB for the way to a backend that the controller has not resolved. It answers
/// only on interfaces that forward; elsewhere the segment is lost until the controller knows the way.
#[inline(never)]
fn fib(packet: &Packet, half: &FlowHalf<Ip>) -> Option<&'static NextHop> {
    let next_hop = maps::scratch_next_hop()?;
    // SAFETY: all fields are integers, or arrays and unions of them.
    let mut params: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    params.family = AF_INET;
    params.l4_protocol = IPPROTO_TCP;
    params.ifindex = packet.ingress();
    params.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(half.translation.src.bytes());
    params.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(half.translation.dst.bytes());
    // SAFETY: the context is the program's own, params and their size belong together.
    let found = unsafe {
        fib_lookup(packet.ctx.cast(), &raw mut params, size_of::<bpf_fib_lookup>() as i32, 0)
    };
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        return None;
    }
    *next_hop = NextHop {
        ifindex: params.ifindex,
        mac: Mac(params.dmac),
        source_mac: Mac(params.smac),
        vlan: 0,
        inner_vlan: 0,
    };
    Some(next_hop)
}
