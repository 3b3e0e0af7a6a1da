//! The program that `fairlead trace --follow` puts in front of the XDP program, for as long as somebody
//! looks at packets: it calls the other one, which knows nothing of it, and so costs nothing else.
//!
//! Before: filter by what the packet and its flow say, keep the frame and this CPU's counters. Behind:
//! the verdict is the counter that moved, or where none did what the action says; what became of frame and
//! flow is read, and all is told. The call is a tail call out of a function, which comes back to that
//! function's caller.

#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of frames and sizes of headers, all far below 2^16"
)]

mod family;
mod filter;
mod frame;
mod maps;
#[path = "../table.rs"]
mod table;

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::backend::Way;
use lb_common::conntrack::FlowHalf;
use lb_common::counters::Counter;
use lb_common::flow::{Direction, FlowKey};
use lb_common::trace::{Record, found};

use crate::family::Family;
use crate::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame};
use crate::maps::Pending;

#[xdp(frags)]
fn fairlead_trace(ctx: XdpContext) -> u32 {
    let asked = enters(&ctx);
    let action = datapath(&ctx);
    if action == NOTHING {
        return XDP_PASS;
    }
    if asked != 0 {
        leaves(&ctx, action);
    }
    action
}

/// Runs the XDP program.
///
/// If there is none, what it would answer is not known, and the frame passes. The number is one that the
/// compiler does not know, or it would take it for the answer of every call.
#[inline(never)]
fn datapath(ctx: &XdpContext) -> u32 {
    let none = maps::opaque(&NO_ACTION);
    maps::call(ctx);
    none
}

/// No action.
const NOTHING: u32 = u32::MAX;

#[unsafe(no_mangle)]
static NO_ACTION: u32 = NOTHING;

/// 1: the packet is asked for.
#[inline(never)]
fn enters(ctx: &XdpContext) -> u32 {
    let Some(pending) = maps::pending() else { return 0 };
    u32::from(begin(ctx, pending).is_some())
}

/// `None`: the packet is not asked for, or no IP.
#[inline(always)]
fn begin(ctx: &XdpContext, pending: &mut Pending) -> Option<()> {
    // SAFETY: asks the kernel for the time.
    let now = unsafe { bpf_ktime_get_ns() };
    filter::is_wanted(now).then_some(())?;
    let frame = Frame::of(ctx, &mut pending.start)?;
    let (ether_type, offset) = frame.network()?;
    if ether_type == ETHERTYPE_IPV4 {
        pending.original = before::<Ipv4Be>(&frame, offset, &mut pending.record)?;
    } else if ether_type == ETHERTYPE_IPV6 {
        pending.original = before::<Ipv6Be>(&frame, offset, &mut pending.record)?;
    } else {
        return None;
    }
    pending.record.ifindex = frame.ifindex();
    pending.record.length_in = frame.length() as u32;
    pending.record.captured_in = frame.copy(&mut pending.bytes, 0)?;
    maps::remember_counters(&mut pending.counters);
    pending.record.entered = now;
    Some(())
}

/// Whose the packet is, and whether it is asked for. 1: it is a client's, of a flow that is known.
#[inline(always)]
fn before<A: Family>(frame: &Frame, offset: u64, record: &mut Record) -> Option<u64> {
    let packet = A::parse(frame, offset)?;
    let known = if packet.is_of_flows { maps::half(&packet.key) } else { None };
    match &known {
        Some(half) => {
            filter::admits_flow(&original_key(&packet.key, half)).then_some(())?;
        }
        None => filter::admits_stranger(&packet.key).then_some(())?,
    }
    record.found = A::BIT;
    if packet.is_of_flows {
        record.found |= found::FLOW;
    }
    if known.is_some() {
        record.found |= found::BEFORE;
    }
    maps::copy(&mut A::halves(record).key, &packet.key);
    Some(u64::from(known.is_some_and(|half| half.is_original())))
}

/// The key of a flow's original half, of the key and contents of either.
#[inline(always)]
fn original_key<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>) -> FlowKey<A> {
    if half.is_original() { *key } else { half.translation.peer_key() }
}

#[inline(never)]
fn leaves(ctx: &XdpContext, action: u32) -> u32 {
    let Some(pending) = maps::pending() else { return 0 };
    u32::from(finish(ctx, pending, action).is_some())
}

/// `None`: nothing is told.
#[inline(always)]
fn finish(ctx: &XdpContext, pending: &mut Pending, action: u32) -> Option<()> {
    pending.record.counter = match maps::counter_that_moved(&pending.counters) {
        Some(counter) => counter,
        None if pending.record.has(found::IPV6) => forwarded::<Ipv6Be>(pending, action)?,
        None => forwarded::<Ipv4Be>(pending, action)?,
    };
    // Or the verifier would follow all that comes once for each counter.
    let counter = maps::opaque(&pending.record.counter);
    filter::admits_verdict(counter).then_some(())?;
    if pending.record.has(found::IPV6) {
        behind::<Ipv6Be>(&mut pending.record)?;
    } else {
        behind::<Ipv4Be>(&mut pending.record)?;
    }
    maps::matched();
    // SAFETY: asks the kernel for the time, and for this CPU's number.
    let (now, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    if !maps::is_due(now) {
        maps::suppressed();
        return None;
    }
    pending.record.left = now;
    pending.record.cpu = cpu;
    pending.record.length_out = 0;
    pending.record.captured_out = 0;
    if filter::is_leaving(counter) {
        let frame = Frame::of(ctx, &mut pending.start)?;
        pending.record.length_out = frame.length() as u32;
        let used = u64::from(maps::opaque(&pending.record.captured_in));
        pending.record.captured_out = frame.copy(&mut pending.bytes, used)?;
    }
    if !pending.tell() {
        maps::lost();
    }
    Some(())
}

/// The counter of a packet that moved none of those: forwarded segments are counted with their backend's traffic.
#[inline(always)]
fn forwarded<A: Family>(pending: &mut Pending, action: u32) -> Option<u32> {
    let is_request = if pending.record.has(found::BEFORE) {
        pending.original != 0
    } else {
        let key = A::halves(&mut pending.record).key;
        let half = if pending.record.has(found::FLOW) { maps::half(&key) } else { None };
        // A reply without a flow is one to a VIP that its endpoint has to itself.
        half.is_some_and(|half| half.is_original())
    };
    let way = match action {
        XDP_TX => Way::Back,
        XDP_REDIRECT => Way::Across,
        XDP_PASS => Way::Local,
        _ => return None,
    };
    let direction = if is_request { Direction::Original } else { Direction::Reply };
    Some(Counter::of_forwarded(direction, way) as u32)
}

/// What the packet's flow is now.
#[inline(always)]
fn behind<A: Family>(record: &mut Record) -> Option<()> {
    let key = A::halves(record).key;
    let known = if record.has(found::FLOW) { maps::half(&key) } else { None };
    record.found &= !found::FLOW;
    let Some(half) = known else {
        return filter::admits_backend_of_stranger(&key).then_some(());
    };
    filter::admits_half(half).then_some(())?;
    let mut found = found::FLOW;
    let other = maps::half(&half.translation.peer_key());
    if other.is_some() {
        found |= found::REPLY;
    }
    let halves = A::halves(record);
    if half.is_original() {
        maps::copy(&mut halves.original, half);
        if let Some(reply) = other {
            maps::copy(&mut halves.reply, reply);
        }
    } else {
        found |= found::FROM_BACKEND;
        maps::copy(&mut halves.key, &half.translation.peer_key());
        maps::copy(&mut halves.reply, half);
        // Not told: a reply whose flow has lost its other half.
        maps::copy(&mut halves.original, other?);
    }
    record.found |= found;
    Some(())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier accepts no program that could reach this.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
