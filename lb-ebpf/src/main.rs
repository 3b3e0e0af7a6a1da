//! The XDP program: parse → flow → service → select → translate → forward.

#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of frames, sizes of headers and indices, all far below 2^16"
)]

mod admission;
mod clock;
mod conntrack;
mod egress;
mod expired;
mod family;
mod forward;
mod frags;
mod icmp;
mod maps;
mod neighbour;
mod packet;
mod reset;
mod selection;
mod service;
mod snat;
mod socket;
mod table;
mod verdict;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::IPPROTO_TCP;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::{FlowHalf, flag, tcp};
use lb_common::flow::FlowKey;
use lb_common::nat::Kind;

use crate::conntrack::{NewFlow, OnSyn};
use crate::family::Family;
use crate::packet::{Frame, Packet};
use crate::selection::Selected;
use crate::service::Owner;
use crate::verdict::{DropReason, PassReason, ResetReason, Step, Verdict};

#[xdp(frags)]
fn fairlead(ctx: XdpContext) -> u32 {
    process(&ctx).action()
}

/// Meets what leaves by an interface, for the replies of backends on this node among it.
#[classifier]
fn fairlead_egress(ctx: TcContext) -> i32 {
    egress::process(&ctx).action()
}

#[inline(always)]
fn process(ctx: &XdpContext) -> Verdict {
    let Some(mut frame) = packet::frame(ctx) else {
        return Verdict::Pass(PassReason::NotIp);
    };
    if frame.ether_type == Ipv4Be::ETHER_TYPE {
        of_family::<Ipv4Be>(ctx, &mut frame)
    } else if frame.ether_type == Ipv6Be::ETHER_TYPE {
        of_family::<Ipv6Be>(ctx, &mut frame)
    } else if frame.ether_type == neighbour::ETHERTYPE_ARP {
        neighbour::arp(ctx, &frame)
    } else {
        Verdict::Pass(PassReason::NotIp)
    }
}

#[inline(always)]
fn of_family<A: Family>(ctx: &XdpContext, frame: &mut Frame) -> Verdict {
    match packet::may_be_ours::<A>(ctx, frame) {
        Ok(true) => {
            let step = balance::<A>(ctx, frame);
            carry_out::<A>(ctx, frame, step)
        }
        Ok(false) => A::not_ours(ctx, frame),
        Err(verdict) => verdict,
    }
}

/// What is not done for every packet starts anew from the frame: one after the other the functions fit
/// on the stack, within each other they would not.
#[inline(always)]
fn carry_out<A: Family>(ctx: &XdpContext, frame: &mut Frame, step: Step) -> Verdict {
    if let Step::Done(verdict) = step {
        return verdict;
    }
    if frame.make_opaque().is_none() {
        return Verdict::Drop(DropReason::Inconsistent);
    }
    let mut step = step;
    if let Step::Track = step {
        step = track::<A>(ctx, frame);
    }
    if let Step::Open { attempt } = step {
        step = open::<A>(ctx, frame, attempt);
    }
    match step {
        Step::Done(verdict) => verdict,
        Step::IcmpMessage { offset } => icmp::verdict::<A>(ctx, frame, offset),
        Step::AnswerReset(reason) => reset::answer::<A>(ctx, frame, reason),
        Step::AnswerTimeExceeded => expired::answer::<A>(ctx, frame),
        Step::Track | Step::Open { .. } => Verdict::Drop(DropReason::Inconsistent),
    }
}

/// Forwards a segment in mid-flow: all that it needs is in the half of its direction.
#[inline(never)]
fn balance<A: Family>(ctx: &XdpContext, frame: &Frame) -> Step {
    match try_balance::<A>(ctx, frame) {
        Ok(verdict) => Step::Done(verdict),
        Err(step) => step,
    }
}

#[inline(always)]
fn try_balance<A: Family>(ctx: &XdpContext, frame: &Frame) -> Result<Verdict, Step> {
    let packet = packet::parse::<A>(ctx, frame)?;
    let key = packet.key();
    let half = A::half_near(&key).ok_or(OPEN)?;
    let now = clock::now();
    forward::check_lease(u32::from(half.vip), now)?;
    expired::check(&packet, half.is_alone())?;
    let is_due = conntrack::is_check_due(half, now);
    if packet.segment.is_control()
        || half.flags & MID_FLOW != flag::CONFIRMED && (is_due || !half.needs_no_peer())
    {
        // Whatever it is, it is the other half's matter too.
        A::prefetch(&half.translation.peer_key());
        return Err(Step::Track);
    }
    if is_due && conntrack::needs_check(half, &packet, now) {
        return Err(Step::Track);
    }
    if !half.is_original() {
        half.advance(&packet.segment, now.ticks);
        return Ok(forward::reply(&packet, half)?);
    }
    let backend = conntrack::backend_of(half).ok_or(Step::Track)?;
    if half.has(flag::CONFIRMED | flag::MID_STREAM) {
        half.advance(&packet.segment, now.ticks);
    }
    Ok(forward::request(&packet, half, backend)?)
}

/// Of these flags a flow in which data goes on has the first alone.
const MID_FLOW: u32 = flag::CONFIRMED | flag::RST | flag::REPLICA;
const OPEN: Step = Step::Open { attempt: 0 };

/// Forwards a segment that opens or closes a flow, or that comes at a moment to look after it.
#[inline(never)]
fn track<A: Family>(ctx: &XdpContext, frame: &Frame) -> Step {
    match try_track::<A>(ctx, frame) {
        Ok(verdict) => Step::Done(verdict),
        Err(step) => step,
    }
}

#[inline(always)]
fn try_track<A: Family>(ctx: &XdpContext, frame: &Frame) -> Result<Verdict, Step> {
    let packet = packet::parse::<A>(ctx, frame)?;
    let key = packet.key();
    match A::half_near(&key) {
        Some(half) if half.is_original() => request(&packet, &key, half),
        Some(half) => reply(&packet, &key, half),
        None => Err(OPEN),
    }
}

/// A segment from the client of a known flow.
#[inline(always)]
fn request<A: Family>(
    packet: &Packet<A>,
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
) -> Result<Verdict, Step> {
    let now = clock::now();
    forward::check_lease(u32::from(half.vip), now)?;
    expired::check(packet, half.is_alone())?;
    if packet.segment.is_syn() {
        return match conntrack::on_syn(key, half, now) {
            OnSyn::Forward => Ok(forward_request(packet, half)),
            OnSyn::Renew { attempt } => {
                conntrack::remove(key, half);
                Err(Step::Open { attempt })
            }
        };
    }
    // A client's RST needs no answer; anything else does.
    if !packet.segment.has(tcp::RST) && conntrack::backend_of(half).is_none() {
        return Err(Step::AnswerReset(ResetReason::BackendDown));
    }
    if let Err(reason) = conntrack::request(key, half, packet, now) {
        return Err(Step::AnswerReset(reason));
    }
    Ok(forward_request(packet, half))
}

/// As `forward::request`, with a stack frame of its own.
#[inline(never)]
fn forward_request<A: Family>(packet: &Packet<A>, half: &FlowHalf<A>) -> Verdict {
    let Some(backend) = maps::backend(half.backend) else {
        return Verdict::Drop(DropReason::Inconsistent);
    };
    match forward::request(packet, half, backend) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// As `forward::reply`, likewise.
#[inline(never)]
fn forward_reply<A: Family>(packet: &Packet<A>, half: &FlowHalf<A>) -> Verdict {
    match forward::reply(packet, half) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// A segment from the backend of a known flow.
#[inline(always)]
fn reply<A: Family>(
    packet: &Packet<A>,
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
) -> Result<Verdict, Step> {
    let now = clock::now();
    forward::check_lease(u32::from(half.vip), now)?;
    expired::check(packet, half.is_alone())?;
    if packet.segment.has(tcp::RST) && conntrack::hold_back_refusal(key, half, &packet.segment, now)
    {
        return Ok(Verdict::Drop(DropReason::RefusedSyn));
    }
    if half.has(flag::MID_STREAM) && !half.has(flag::CONFIRMED) {
        if !conntrack::confirm_guess(key, half, &packet.segment, now) {
            return Ok(reset::tell_client(packet, half, ResetReason::Unconfirmed));
        }
    } else {
        conntrack::reply(key, half, &packet.segment, now);
    }
    if !half.next_hop.is_known() {
        return Err(Verdict::Drop(DropReason::NoNextHop).into());
    }
    Ok(forward_reply(packet, half))
}

/// A segment of no known flow, or of one that gives way to it: makes a flow and forwards it.
#[inline(never)]
fn open<A: Family>(ctx: &XdpContext, frame: &Frame, attempt: u8) -> Step {
    match try_open::<A>(ctx, frame, attempt) {
        Ok(verdict) => Step::Done(verdict),
        Err(step) => step,
    }
}

#[inline(always)]
fn try_open<A: Family>(ctx: &XdpContext, frame: &Frame, attempt: u8) -> Result<Verdict, Step> {
    let packet = &packet::parse::<A>(ctx, frame)?;
    let key = &packet.key();
    let now = clock::now();
    let service = match service::of(key)? {
        Owner::Service(service) => service,
        Owner::Exclusive(endpoint) => return Ok(forward::exclusive(packet, key, endpoint, now)),
    };
    service::check_lease(service, now)?;
    conntrack::check_opens(&packet.segment)?;
    let source = key.src.ip();
    let kind = admission::kind(service, &source);
    expired::check(packet, kind == Kind::Dsr)?;
    admission::admit(service, &source, now)?;
    let Some(Selected { id, backend, attempt }) = selection::select(key, service, attempt) else {
        return Err(Step::AnswerReset(ResetReason::NoBackend));
    };
    let kind = if backend.is_local() { Kind::Dnat } else { kind };
    let new = NewFlow { key, service, id, backend, kind, attempt, now: now.ticks };
    let half = conntrack::create(&new, packet)?;
    Ok(forward_request(packet, half))
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
