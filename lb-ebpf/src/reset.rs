//! Turns a segment into a RST to one of its flow's ends (RFC 9293 section 3.10.7.1).

use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use lb_common::IPPROTO_TCP;
use lb_common::addr::{Address as _, NextHop};
use lb_common::checksum;
use lb_common::conntrack::{FlowHalf, Segment, tcp};
use lb_common::nat::Translation;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;

use crate::maps::Ip;
use crate::packet::{self, EthHdr, Packet};
use crate::verdict::{DropReason, ResetReason, Verdict};

const SEGMENT_LEN: u16 = (Ipv4Hdr::LEN + TcpHdr::LEN) as u16;
const FRAME_LEN: usize = EthHdr::LEN + SEGMENT_LEN as usize;
/// As Linux sends them.
const TTL: u8 = 64;

/// Answers `packet` with a RST to its sender, back the way it came.
#[inline(never)]
pub(crate) fn answer(packet: &Packet, reason: ResetReason) -> Verdict {
    let to = Translation::reversed(&packet.key());
    let (seq, ack, flags) = answer_numbers(&packet.segment);
    match write(packet, &to, None, (seq, ack, flags)) {
        Ok(()) => Verdict::Reset { reason, egress: packet.ingress() },
        Err(verdict) => verdict,
    }
}

/// In place of a backend's segment, tells the flow's client that its connection is lost: at the
/// end of what the half has sent.
#[inline(never)]
pub(crate) fn tell_client(packet: &Packet, half: &FlowHalf<Ip>, reason: ResetReason) -> Verdict {
    let numbers = (half.seq_end, 0, tcp::RST);
    match write(packet, &half.translation, Some(&half.next_hop), numbers) {
        Ok(()) => Verdict::Reset { reason, egress: half.next_hop.ifindex },
        Err(verdict) => verdict,
    }
}

/// Sequence number, acknowledgement and flags of the RST that answers `segment`.
#[inline(always)]
const fn answer_numbers(segment: &Segment) -> (u32, u32, u8) {
    if segment.has(tcp::ACK) {
        (segment.ack, 0, tcp::RST)
    } else {
        (0, segment.end(), tcp::RST | tcp::ACK)
    }
}

/// Shortens the frame to an IP and a TCP header and fills them in. Without a next hop it goes back
/// the way it came.
#[inline(always)]
fn write(
    packet: &Packet,
    to: &Translation<Ip>,
    next_hop: Option<&NextHop>,
    (seq, ack, flags): (u32, u32, u8),
) -> Result<(), Verdict> {
    const FAILED: Verdict = Verdict::Drop(DropReason::Malformed);
    let surplus = packet.bytes() as i32 - FRAME_LEN as i32;
    // SAFETY: the context is the program's own. All references into the frame end here.
    if unsafe { bpf_xdp_adjust_tail(packet.ctx, -surplus) } != 0 {
        return Err(FAILED);
    }
    let (eth, ip, tcp) = packet::plain_headers(&XdpContext::new(packet.ctx)).ok_or(FAILED)?;
    match next_hop {
        Some(next_hop) => eth.address(next_hop.source_mac, next_hop.mac),
        None => eth.turn_round(),
    }

    ip.vihl = 0x45;
    ip.tos = 0;
    ip.tot_len = SEGMENT_LEN.to_be_bytes();
    ip.id = [0; 2];
    // Don't fragment.
    ip.frags = [0x40, 0];
    ip.ttl = TTL;
    ip.proto = IPPROTO_TCP;
    ip.src_addr = to.src.bytes();
    ip.dst_addr = to.dst.bytes();
    let addresses = to.src.checksum_words() + to.dst.checksum_words();
    let sum = 0x4500 + SEGMENT_LEN as u32 + 0x4000 + ip_word(TTL, IPPROTO_TCP) + addresses;
    ip.check = (!checksum::fold(sum)).to_be_bytes();

    tcp.source = to.src_port.bytes();
    tcp.dest = to.dst_port.bytes();
    tcp.seq = seq.to_be_bytes();
    tcp.ack_seq = ack.to_be_bytes();
    packet::set_flag_bytes(tcp, [0x50, flags]);
    tcp.window = [0; 2];
    tcp.check = [0; 2];
    tcp.urg_ptr = [0; 2];
    let pseudo = addresses + IPPROTO_TCP as u32 + TcpHdr::LEN as u32;
    let sum = pseudo
        + to.src_port.get() as u32
        + to.dst_port.get() as u32
        + (seq >> 16)
        + (seq & 0xffff)
        + (ack >> 16)
        + (ack & 0xffff)
        + ip_word(0x50, flags);
    tcp.check = (!checksum::fold(sum)).to_be_bytes();
    Ok(())
}

#[inline(always)]
const fn ip_word(high: u8, low: u8) -> u32 {
    (high as u32) << 8 | low as u32
}
