//! Who asks for a VIP's MAC address: not answered once this node may no longer answer for the VIP. The
//! kernel would, for it owns the address still.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Address, Ipv4Be};

use crate::clock;
use crate::maps;
use crate::packet::{self, Frame, get_u32, header_at};
use crate::verdict::{DropReason, PassReason, Verdict};

pub(crate) const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const REQUEST: [u8; 2] = [0, 1];

/// ARP for IPv4 over Ethernet (RFC 826).
#[repr(C)]
struct Arp {
    types_and_lengths: [u8; 6],
    operation: [u8; 2],
    sender_mac: [u8; 6],
    sender: [u8; 4],
    target_mac: [u8; 6],
    target: [u8; 4],
}

/// A neighbour solicitation (RFC 4861 section 4.3) behind an IPv6 header without extensions.
#[repr(C)]
struct Solicitation {
    ip: [u8; 40],
    kind: u8,
    code: u8,
    check: [u8; 2],
    reserved: [u8; 4],
    target: [u8; 16],
}

/// Types of ICMPv6.
pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;

/// The verdict on a frame of ARP. An announcement (sender and target are one) is no question: who sent
/// it may be the VIP's new owner, and this host is to know.
#[inline(always)]
pub(crate) fn arp(ctx: &XdpContext, frame: &Frame) -> Verdict {
    const PASS: Verdict = Verdict::Pass(PassReason::NotIp);
    match header_at::<Arp>(ctx, frame.l3_offset) {
        Some(arp) if arp.operation == REQUEST && get_u32(&arp.sender) != get_u32(&arp.target) => {
            question(Ipv4Be::from_word(get_u32(&arp.target)), PASS)
        }
        Some(_) | None => PASS,
    }
}

/// The verdict on an ICMPv6 message to the multicast group of those who may have an address.
#[inline(always)]
pub(crate) fn solicitation(ctx: &XdpContext, frame: &Frame) -> Verdict {
    const PASS: Verdict = Verdict::Pass(PassReason::NotVip);
    match header_at::<Solicitation>(ctx, frame.l3_offset) {
        Some(message) if message.kind == SOLICITATION => {
            question(packet::ipv6_address(&message.target), PASS)
        }
        Some(_) | None => PASS,
    }
}

// The address alone: pointers into the frame that a function is given are none to the verifier.
#[inline(never)]
fn question<A: Address>(target: A, pass: Verdict) -> Verdict {
    if maps::filters().is_some_and(|filters| filters.vips.may_contain(target)) {
        answer(target, pass)
    } else {
        pass
    }
}

/// The verdict on a question for an address: `pass`, unless it is a VIP that is no longer this node's.
#[inline(never)]
pub(crate) fn answer<A: Address>(target: A, pass: Verdict) -> Verdict {
    match maps::vip(target.ip()) {
        Some(vip) if !maps::lease(vip.lease()).may_answer(clock::now().ns) => {
            Verdict::Drop(DropReason::LeaseExpired)
        }
        Some(_) | None => pass,
    }
}
