//! Turns a segment into a RST to one of its flow's ends (RFC 9293 section 3.10.7.1).

use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use lb_common::checksum;
use lb_common::conntrack::{FlowHalf, Segment, tcp};
use lb_common::flow::FlowKey;
use network_types::tcp::TcpHdr;

use crate::family::Family;
use crate::packet::{self, EthHdr, Frame, Packet, header_at, set_u16, set_u32};
use crate::verdict::{DropReason, Egress, ResetReason, Verdict};
use crate::{IPPROTO_TCP, frags, maps};

/// As Linux sends them.
const HOPS: u8 = 64;
const FAILED: Verdict = Verdict::Drop(DropReason::Malformed);

/// Sequence number, acknowledgement and flags.
struct Numbers {
    seq: u32,
    ack: u32,
    flags: u8,
}

/// Answers a segment with a RST to its sender, back the way it came.
#[inline(never)]
pub(crate) fn answer<A: Family>(ctx: &XdpContext, frame: &Frame, reason: ResetReason) -> Verdict {
    let Ok(packet) = packet::parse::<A>(ctx, frame) else {
        return FAILED;
    };
    let packet = &packet;
    let to = packet.key().reversed();
    if write(packet, &to, &answer_numbers(&packet.segment)).is_err() {
        return FAILED;
    }
    let Some(eth) = header_at::<EthHdr>(&XdpContext::new(packet.ctx), 0) else {
        return FAILED;
    };
    eth.turn_round();
    Verdict::Reset { reason, egress: Egress::BACK }
}

/// In place of a backend's segment, tells the flow's client that its connection is lost: at the
/// end of what the half has sent.
#[inline(never)]
pub(crate) fn tell_client<A: Family>(
    packet: &Packet<A>,
    half: &FlowHalf<A>,
    reason: ResetReason,
) -> Verdict {
    let numbers = Numbers { seq: half.seq_end, ack: 0, flags: tcp::RST };
    let Some(link) = maps::link(half.next_hop.link) else {
        return Verdict::Drop(DropReason::NoNextHop);
    };
    if write(packet, &half.translation.key(), &numbers).is_err() {
        return FAILED;
    }
    let l3_offset = packet.l3_offset;
    if let Err(verdict) =
        packet::send_as(packet.ctx, l3_offset, A::ETHER_TYPE, link.mac, &half.next_hop)
    {
        return verdict;
    }
    let egress = Egress { link: half.next_hop.link, same: link.ifindex == packet.ingress };
    Verdict::Reset { reason, egress }
}

/// What answers `segment`.
#[inline(always)]
const fn answer_numbers(segment: &Segment) -> Numbers {
    if segment.has(tcp::ACK) {
        Numbers { seq: segment.ack, ack: 0, flags: tcp::RST }
    } else {
        Numbers { seq: 0, ack: segment.end(), flags: tcp::RST | tcp::ACK }
    }
}

/// Shortens the frame to an IP and a TCP header and fills them in.
#[inline(always)]
fn write<A: Family>(packet: &Packet<A>, to: &FlowKey<A>, numbers: &Numbers) -> Result<(), ()> {
    let l3_offset = packet.l3_offset();
    let wanted = l3_offset + size_of::<A::Header>() + TcpHdr::LEN;
    let ctx = XdpContext::new(packet.ctx);
    let surplus = frags::frame_len(&ctx) as i32 - wanted as i32;
    // SAFETY: the context is the program's own. All references into the frame end here.
    if unsafe { bpf_xdp_adjust_tail(packet.ctx, -surplus) } != 0 {
        return Err(());
    }
    let ip = header_at::<A::Header>(&ctx, l3_offset).ok_or(())?;
    A::write(ip, to.src, to.dst, IPPROTO_TCP, TcpHdr::LEN as u16, HOPS);
    let tcp = header_at::<TcpHdr>(&ctx, l3_offset + size_of::<A::Header>()).ok_or(())?;
    set_u32(packet::ports_mut(tcp), to.ports.word());
    set_u32(&mut tcp.seq, numbers.seq.to_be());
    set_u32(&mut tcp.ack_seq, numbers.ack.to_be());
    packet::set_flag_bytes(tcp, [0x50, numbers.flags]);
    tcp.window = [0; 2];
    tcp.urg_ptr = [0; 2];
    let pseudo = to.src.checksum_words()
        + to.dst.checksum_words()
        + u32::from(IPPROTO_TCP)
        + TcpHdr::LEN as u32;
    let sum = pseudo
        + to.ports.checksum_words()
        + (numbers.seq >> 16)
        + (numbers.seq & 0xffff)
        + (numbers.ack >> 16)
        + (numbers.ack & 0xffff)
        + (0x5000 | u32::from(numbers.flags));
    set_u16(&mut tcp.check, (!checksum::fold(sum)).to_be());
    Ok(())
}
