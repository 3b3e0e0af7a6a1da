//! The XDP program: parse → flow → service → select → translate → forward.

#![no_std]
#![no_main]
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of frames and sizes of headers, all far below 2^16"
)]

mod clock;
mod conntrack;
mod forward;
mod maps;
mod packet;
mod reset;
mod selection;
mod service;
mod snat;
mod verdict;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::conntrack::flag;
use lb_common::flow::FlowKey;
use lb_common::service::Service;

use crate::conntrack::{NewFlow, OnSyn, Unknown};
use crate::maps::{Found, Ip};
use crate::packet::Packet;
use crate::verdict::{ResetReason, Verdict};

#[xdp]
fn fairlead(ctx: XdpContext) -> u32 {
    match process(&ctx) {
        Ok(verdict) | Err(verdict) => verdict.action(packet::ingress(&ctx)),
    }
}

#[inline(always)]
fn process(ctx: &XdpContext) -> Result<Verdict, Verdict> {
    let packet = packet::parse(ctx)?;
    let key = packet.key();
    match maps::flow(&key) {
        Some(found) if found.half.is_original() => request(&packet, &key, found),
        Some(found) => reply(&packet, &key, found),
        None => first(&packet, &key),
    }
}

/// A segment from the client of a known flow.
#[inline(always)]
fn request(packet: &Packet, key: &FlowKey<Ip>, found: Found) -> Result<Verdict, Verdict> {
    let now = clock::now();
    forward::check_lease(found.half.vip, now)?;
    forward::check_ttl(packet)?;
    if packet.segment.is_syn() {
        return match conntrack::on_syn(key, &found, now) {
            OnSyn::Forward => forward::request(packet, found.half),
            OnSyn::Renew { attempt } => {
                conntrack::remove(key, found.half);
                let service = service::of(key)?;
                Ok(open(packet, key, service, attempt))
            }
        };
    }
    if let Err(reason) = conntrack::request(key, &found, packet, now) {
        return Ok(reset::answer(packet, reason));
    }
    forward::request(packet, found.half)
}

/// A segment from the backend of a known flow.
#[inline(always)]
fn reply(packet: &Packet, key: &FlowKey<Ip>, found: Found) -> Result<Verdict, Verdict> {
    let now = clock::now();
    forward::check_lease(found.half.vip, now)?;
    forward::check_ttl(packet)?;
    if found.half.has(flag::MID_STREAM) && !found.half.has(flag::CONFIRMED) {
        if let Err(reason) = conntrack::confirm_guess(key, &found, packet, now) {
            return Ok(reset::tell_client(packet, found.half, reason));
        }
    } else {
        conntrack::reply(&found, packet, now);
    }
    Ok(forward::reply(packet, found.half))
}

/// A segment of no known flow.
#[inline(always)]
fn first(packet: &Packet, key: &FlowKey<Ip>) -> Result<Verdict, Verdict> {
    let service = service::of(key)?;
    service::check_lease(service, clock::now())?;
    match conntrack::on_unknown(&packet.segment)? {
        Unknown::Open => Ok(open(packet, key, service, 0)),
        Unknown::Reset(reason) => Ok(reset::answer(packet, reason)),
    }
}

/// Makes a flow and forwards its first segment.
///
/// A function of its own: it has two callers, and a stack frame that known flows need not pay for.
#[inline(never)]
fn open(packet: &Packet, key: &FlowKey<Ip>, service: &Service<Ip>, attempt: u8) -> Verdict {
    match try_open(packet, key, service, attempt) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_open(
    packet: &Packet,
    key: &FlowKey<Ip>,
    service: &Service<Ip>,
    attempt: u8,
) -> Result<Verdict, Verdict> {
    let now = clock::now();
    service::check_lease(service, now)?;
    forward::check_ttl(packet)?;
    let Some((id, backend)) = selection::select(key, service, attempt) else {
        return Ok(reset::answer(packet, ResetReason::NoBackend));
    };
    let new = NewFlow { key, service, id, backend, attempt, now };
    let half = conntrack::create(&new, packet)?;
    forward::request(packet, half)
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
