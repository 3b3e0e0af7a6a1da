//! Turns a segment whose hop count ends here into an ICMP time exceeded to its sender (RFC 792,
//! RFC 4443 section 3.3).

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::checksum;

use crate::family::Family;
use crate::icmp::IcmpHdr;
use crate::packet::{self, EthHdr, Frame, Packet, header_at, set_u16};
use crate::verdict::{DropReason, Step, Verdict};
use crate::{clock, frags, maps};

const EXPIRED: Verdict = Verdict::Drop(DropReason::TtlExpired);
const HOPS: u8 = 64;
/// What is quoted of the TCP header: ports and sequence number.
const QUOTED_TCP: usize = 8;

/// The hop count must outlive this hop (RFC 1812 section 5.3.1). Checked before a flow takes notice:
/// what is dropped changes no state. A packet that goes on `unrouted`, as it came, takes no hop.
///
/// # Errors
/// The sender is to be told.
#[inline(always)]
pub(crate) fn check<A: Family>(packet: &Packet<A>, unrouted: bool) -> Result<(), Step> {
    if packet.hops() > 1 || unrouted { Ok(()) } else { Err(Step::AnswerTimeExceeded) }
}

/// Tells the sender, if there have not been too many of late.
#[inline(never)]
pub(crate) fn answer<A: Family>(ctx: &XdpContext, frame: &Frame) -> Verdict {
    let Ok(packet) = packet::parse::<A>(ctx, frame) else {
        return EXPIRED;
    };
    let packet = &packet;
    let own = maps::link(maps::link_id(packet.ingress)).and_then(A::own);
    let (Some(own), true) = (own, packet.is_plain()) else {
        return EXPIRED;
    };
    if !maps::time_exceeded_is_due(clock::now().ns) {
        return EXPIRED;
    }
    let (sender, _) = packet.addresses();
    match write(packet, own, sender) {
        Ok(()) => Verdict::TimeExceeded,
        Err(()) => EXPIRED,
    }
}

/// Cuts the frame to what is quoted of it and puts new headers in front.
#[inline(always)]
fn write<A: Family>(packet: &Packet<A>, own: A, sender: A) -> Result<(), ()> {
    let l3_offset = packet.l3_offset();
    let quoted = size_of::<A::Header>() + QUOTED_TCP;
    let header = size_of::<A::Header>() + size_of::<IcmpHdr>();
    let ctx = XdpContext::new(packet.ctx);
    let surplus = frags::frame_len(&ctx) as i32 - (l3_offset + quoted) as i32;
    let link_layer = LinkLayer::read(&ctx, l3_offset).ok_or(())?;
    // SAFETY: the context is the program's own. All references into the frame end here.
    let resized = unsafe {
        bpf_xdp_adjust_tail(packet.ctx, -surplus) == 0
            && bpf_xdp_adjust_head(packet.ctx, -(header as i32)) == 0
    };
    if !resized {
        return Err(());
    }
    link_layer.write_back(&ctx, l3_offset).ok_or(())?;
    let ip = header_at::<A::Header>(&ctx, l3_offset).ok_or(())?;
    let payload_len = (size_of::<IcmpHdr>() + quoted) as u16;
    A::write(ip, own, sender, A::ICMP, payload_len, HOPS);
    let icmp_offset = l3_offset + size_of::<A::Header>();
    let icmp = header_at::<IcmpHdr>(&ctx, icmp_offset).ok_or(())?;
    *icmp = IcmpHdr { kind: A::ICMP_TIME_EXCEEDED, code: 0, check: [0; 2], rest: [0; 4] };
    let quote = if size_of::<A::Header>() == 20 {
        sum_of::<[u8; 28]>(&ctx, icmp_offset + size_of::<IcmpHdr>())
    } else {
        sum_of::<[u8; 48]>(&ctx, icmp_offset + size_of::<IcmpHdr>())
    };
    let mut sum = quote.ok_or(())? + (u32::from(A::ICMP_TIME_EXCEEDED) << 8);
    if A::ICMP_PSEUDO_HEADER {
        sum += own.checksum_words()
            + sender.checksum_words()
            + u32::from(A::ICMP)
            + u32::from(payload_len);
    }
    set_u16(&mut icmp.check, (!checksum::fold(sum)).to_be());
    Ok(())
}

/// Sum of the 16-bit words of a `T`.
#[inline(always)]
fn sum_of<T>(ctx: &XdpContext, offset: usize) -> Option<u32> {
    let bytes: &mut T = header_at(ctx, offset)?;
    // SAFETY: the helper reads the bytes of a `T`, whose size is a multiple of four.
    let sum = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            core::ptr::from_mut(bytes).cast(),
            size_of::<T>() as u32,
            0,
        )
    };
    // The helper adds words as they are in memory; the sum of swapped ones is the swapped sum.
    Some(u32::from(u16::from_be(checksum::fold_wide(sum as u32))))
}

/// Addresses, tags and type: 14, 18 or 22 bytes.
struct LinkLayer {
    eth: [u8; EthHdr::LEN],
    tags: [[u8; 4]; 2],
}

impl LinkLayer {
    #[inline(always)]
    fn read(ctx: &XdpContext, l3_offset: usize) -> Option<Self> {
        let mut tags = [[0; 4]; 2];
        let eth: [u8; EthHdr::LEN] = *header_at(ctx, 0)?;
        if l3_offset > EthHdr::LEN {
            tags[0] = *header_at(ctx, EthHdr::LEN)?;
        }
        if l3_offset > EthHdr::LEN + 4 {
            tags[1] = *header_at(ctx, EthHdr::LEN + 4)?;
        }
        Some(Self { eth, tags })
    }

    /// In front of a frame that goes back to where this one came from.
    #[inline(always)]
    fn write_back(&self, ctx: &XdpContext, l3_offset: usize) -> Option<()> {
        *header_at(ctx, 0)? = self.eth;
        header_at::<EthHdr>(ctx, 0)?.turn_round();
        if l3_offset > EthHdr::LEN {
            *header_at(ctx, EthHdr::LEN)? = self.tags[0];
        }
        if l3_offset > EthHdr::LEN + 4 {
            *header_at(ctx, EthHdr::LEN + 4)? = self.tags[1];
        }
        Some(())
    }
}
