//! IPv4 (RFC 791).

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, bpf_fib_lookup};
use aya_ebpf::cty::c_long;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::addr::{Address as _, Ipv4Be};
use lb_common::checksum;
use lb_common::conntrack::FlowHalf;
use lb_common::link::Link;
use network_types::ip::Ipv4Hdr;

use super::bytes::{get_u16, get_u32, set_u16, set_u32};
use super::ethernet::ETHERTYPE_IPV4;
use super::{Frame, L4, has_bytes, not_of_another_host, not_tcp, of_fragment};
use crate::family::Family;
use crate::verdict::{DropReason, PassReason, Step, Verdict};
use crate::{IPPROTO_TCP, service};

/// More-fragments bit and fragment offset (RFC 791 section 3.1).
const FRAGMENT_MASK: u16 = 0x3fff;
const MORE_FRAGMENTS: u16 = 0x2000;
const AF_INET: u8 = 2;
/// Where the header has its checksum and its source.
const CHECK_AT: usize = 10;
const SOURCE_AT: usize = 12;

impl Family for Ipv4Be {
    type Header = Ipv4Hdr;

    const ETHER_TYPE: [u8; 2] = ETHERTYPE_IPV4;
    const ICMP: u8 = 1;
    const ICMP_ERRORS: u64 = 1 << 3 | 1 << 11 | 1 << 12;
    const ICMP_TIME_EXCEEDED: u8 = 11;
    const ICMP_PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn not_ours(_: &XdpContext, _: &Frame) -> Verdict {
        Verdict::Pass(PassReason::NotVip)
    }

    #[inline(always)]
    fn may_be_error(ip: &Ipv4Hdr) -> bool {
        ip.proto == Self::ICMP
    }

    #[inline(always)]
    fn no_error(_: u8, dst: Self) -> Verdict {
        service::host_verdict(dst.ip(), PassReason::NotTcp)
    }

    #[inline(always)]
    fn addresses(ip: &Ipv4Hdr) -> (Self, Self) {
        (Self::from_word(get_u32(&ip.src_addr)), Self::from_word(get_u32(&ip.dst_addr)))
    }

    #[inline(always)]
    fn hops(ip: &Ipv4Hdr) -> u8 {
        ip.ttl
    }

    #[inline(always)]
    fn find_quoted_tcp(_: &XdpContext, ip: &Ipv4Hdr, offset: usize) -> Option<usize> {
        (ip.proto == IPPROTO_TCP).then_some(offset + usize::from(ip.ihl()))
    }

    #[inline(always)]
    fn find_tcp(ctx: &XdpContext, frame: &Frame, ip: &Ipv4Hdr) -> Result<L4, Step> {
        let (src, dst) = Self::addresses(ip);
        let header_len = usize::from(ip.ihl());
        if ip.proto != IPPROTO_TCP {
            return Err(not_tcp(dst, ip.proto, frame.l3_offset + header_len));
        }
        let total_len = usize::from(u16::from_be(get_u16(&ip.tot_len)));
        if ip.version() != 4
            || header_len < Ipv4Hdr::LEN
            || total_len < header_len
            || !has_bytes(ctx, frame.l3_offset, total_len)
        {
            return Err(not_of_another_host(dst, Verdict::Drop(DropReason::Malformed)).into());
        }
        let fragment = u16::from_be(get_u16(&ip.frags)) & FRAGMENT_MASK;
        if fragment != 0 {
            let first = fragment == MORE_FRAGMENTS;
            let first_at = first.then_some(frame.l3_offset + header_len);
            return Err(of_fragment(ctx, src, dst, first_at).into());
        }
        Ok(L4 { offset: frame.l3_offset + header_len, len: total_len - header_len })
    }

    #[inline(always)]
    fn own_tcp(ip: &Ipv4Hdr, offset: usize) -> Option<usize> {
        let whole = u16::from_be(get_u16(&ip.frags)) & FRAGMENT_MASK == 0;
        let header_len = usize::from(ip.ihl());
        (ip.proto == IPPROTO_TCP && whole && header_len >= Ipv4Hdr::LEN)
            .then_some(offset + header_len)
    }

    #[inline(always)]
    fn replace_source(
        ctx: &TcContext,
        l3_offset: usize,
        tcp_check: usize,
        old: &Self,
        new: &Self,
    ) -> Result<(), c_long> {
        const LEN: u64 = size_of::<Ipv4Be>() as u64;
        let (from, to) = (u64::from(old.word()), u64::from(new.word()));
        ctx.l4_csum_replace(tcp_check, from, to, u64::from(BPF_F_PSEUDO_HDR) | LEN)?;
        ctx.l3_csum_replace(l3_offset + CHECK_AT, from, to, LEN)?;
        ctx.store(l3_offset + SOURCE_AT, &new.word(), 0)
    }

    #[inline(always)]
    fn translate(ip: &mut Ipv4Hdr, half: &FlowHalf<Self>) {
        set_u32(&mut ip.src_addr, half.translation.src.word());
        set_u32(&mut ip.dst_addr, half.translation.dst.word());
        ip.ttl = ip.ttl.wrapping_sub(1);
        let check = checksum::apply(u16::from_be(get_u16(&ip.check)), half.translation.ip_delta);
        set_u16(&mut ip.check, check.to_be());
    }

    #[inline(always)]
    fn readdress(ip: &mut Ipv4Hdr, src: Self, dst: Self, hops: u8) {
        let (old_src, old_dst) = Self::addresses(ip);
        let delta = checksum::Delta::default()
            .replace(old_src.checksum_words(), src.checksum_words())
            .replace(old_dst.checksum_words(), dst.checksum_words())
            .replace(u32::from(ip.ttl) << 8, u32::from(hops) << 8);
        set_u32(&mut ip.src_addr, src.word());
        set_u32(&mut ip.dst_addr, dst.word());
        ip.ttl = hops;
        let check = checksum::apply(u16::from_be(get_u16(&ip.check)), delta.folded());
        set_u16(&mut ip.check, check.to_be());
    }

    #[inline(always)]
    fn write(ip: &mut Ipv4Hdr, src: Self, dst: Self, protocol: u8, payload_len: u16, hops: u8) {
        let total_len = Ipv4Hdr::LEN as u16 + payload_len;
        ip.vihl = 0x45;
        ip.tos = 0;
        set_u16(&mut ip.tot_len, total_len.to_be());
        ip.id = [0; 2];
        // Don't fragment.
        ip.frags = [0x40, 0];
        ip.ttl = hops;
        ip.proto = protocol;
        set_u32(&mut ip.src_addr, src.word());
        set_u32(&mut ip.dst_addr, dst.word());
        let sum = 0x4500
            + u32::from(total_len)
            + 0x4000
            + (u32::from(hops) << 8 | u32::from(protocol))
            + src.checksum_words()
            + dst.checksum_words();
        set_u16(&mut ip.check, (!checksum::fold(sum)).to_be());
    }

    #[inline(always)]
    fn own(link: &Link) -> Option<Self> {
        (link.ipv4 != Self::UNSPECIFIED).then_some(link.ipv4)
    }

    #[inline(always)]
    fn ask_fib(params: &mut bpf_fib_lookup, src: Self, dst: Self) {
        params.family = AF_INET;
        params.__bindgen_anon_3.ipv4_src = src.word();
        params.__bindgen_anon_4.ipv4_dst = dst.word();
    }
}
