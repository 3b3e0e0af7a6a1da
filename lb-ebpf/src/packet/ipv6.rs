//! IPv6 (RFC 8200).

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, bpf_fib_lookup, xdp_md};
use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::bpf_csum_diff;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::addr::{Address as _, Ipv6Be};
use lb_common::conntrack::FlowHalf;
use lb_common::link::Link;
use network_types::ip::Ipv6Hdr;

use super::bytes::{get_u16, get_u64, set_u16, set_u64};
use super::ethernet::ETHERTYPE_IPV6;
use super::{Frame, L4, has_bytes, header_at, not_of_another_host, not_tcp, of_fragment};
use crate::family::Family;
use crate::verdict::{DropReason, PassReason, Step, Verdict};
use crate::{IPPROTO_TCP, maps, neighbour, service};

const AF_INET6: u8 = 10;
/// Where the header has its source.
const SOURCE_AT: usize = 8;
const HEADER_LEN: usize = size_of::<Ipv6Hdr>();

/// Extension headers (RFC 8200 section 4), and how many of them are looked through.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const MAX_EXTENSIONS: usize = 8;
/// Where a TCP header may start at most, behind extension headers.
const MAX_EXTENSIONS_LEN: usize = 1024;

/// A protocol that is neither TCP nor ICMP: no next header (RFC 8200 section 4.7).
const OTHER: u32 = 59;
const FRAGMENT_LEN: usize = 8;
/// Parts of the fragment header's second 16 bits: offset, and whether more follow.
const OFFSET_LOW: u8 = 0xf8;
const MORE_FRAGMENTS: u8 = 1;
/// A mask for where extension headers may start: behind tags and an ICMP header.
const MAX_START: usize = 0x7ff;

/// The multicast group of those whose address ends in the same 24 bits: ff02::1:ff00:0/104 (RFC 4291
/// section 2.7.1).
#[inline(always)]
fn is_solicited_node(address: &[u8; 16]) -> bool {
    const HIGH: u64 = u64::from_ne_bytes([0xff, 0x02, 0, 0, 0, 0, 0, 0]);
    const LOW: u64 = u64::from_ne_bytes([0, 0, 0, 1, 0xff, 0, 0, 0]);
    const MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
    let start = address.as_ptr().cast::<[u8; 8]>();
    // SAFETY: sixteen bytes are two times eight.
    let (high, low) = unsafe { (&*start, &*start.add(1)) };
    get_u64(high) == HIGH && get_u64(low) & MASK == LOW
}

/// The start that extension headers have in common.
#[repr(C)]
struct ExtensionHdr {
    next_hdr: u8,
    /// In units of eight bytes, the first not counted; reserved in a fragment header.
    len: u8,
    /// Of a routing header: type and segments left. Of a fragment header: offset and flags.
    specific: [u8; 2],
}

impl Family for Ipv6Be {
    type Header = Ipv6Hdr;

    const ETHER_TYPE: [u8; 2] = ETHERTYPE_IPV6;
    const ICMP: u8 = 58;
    const ICMP_ERRORS: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;
    const ICMP_TIME_EXCEEDED: u8 = 3;
    const ICMP_PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn not_ours(ctx: &XdpContext, frame: &Frame) -> Verdict {
        match header_at::<Ipv6Hdr>(ctx, frame.l3_offset) {
            Some(ip) if ip.next_hdr == Self::ICMP && is_solicited_node(&ip.dst_addr) => {
                neighbour::solicitation(ctx, frame)
            }
            Some(_) | None => Verdict::Pass(PassReason::NotVip),
        }
    }

    #[inline(always)]
    fn may_be_error(ip: &Ipv6Hdr) -> bool {
        const MULTICAST: u8 = 0xff;
        ip.next_hdr == Self::ICMP && ip.dst_addr[0] != MULTICAST
    }

    #[inline(always)]
    fn no_error(kind: u8, dst: Self) -> Verdict {
        const PASS: Verdict = Verdict::Pass(PassReason::NotTcp);
        let verdict = service::host_verdict(dst.ip(), PassReason::NotTcp);
        // Whatever the VIP accepts (RFC 9568 6.4.3): without these it could not be reached.
        let is_ours = matches!(verdict, Verdict::Pass(_) | Verdict::Drop(DropReason::NotAccepted));
        if is_ours && kind == neighbour::SOLICITATION {
            neighbour::answer(dst, PASS)
        } else if is_ours && kind == neighbour::ADVERTISEMENT {
            PASS
        } else {
            verdict
        }
    }

    #[inline(always)]
    fn addresses(ip: &Ipv6Hdr) -> (Self, Self) {
        (get(&ip.src_addr), get(&ip.dst_addr))
    }

    #[inline(always)]
    fn hops(ip: &Ipv6Hdr) -> u8 {
        ip.hop_limit
    }

    #[inline(always)]
    fn find_quoted_tcp(ctx: &XdpContext, ip: &Ipv6Hdr, offset: usize) -> Option<usize> {
        let start = offset + HEADER_LEN;
        if ip.next_hdr == IPPROTO_TCP {
            return Some(start);
        }
        let found = maps::forget(skip_extensions(ctx.ctx, start as u64, ip.next_hdr) as usize)?;
        let is_tcp = (found >> 32) as u32 == END_TCP;
        is_tcp.then_some(start + (found & (MAX_EXTENSIONS_LEN - 1)))
    }

    #[inline(always)]
    fn find_tcp(ctx: &XdpContext, frame: &Frame, ip: &Ipv6Hdr) -> Result<L4, Step> {
        let (src, dst) = Self::addresses(ip);
        let start = frame.l3_offset + HEADER_LEN;
        let len = usize::from(u16::from_be(get_u16(&ip.payload_len)));
        let malformed = || not_of_another_host(dst, Verdict::Drop(DropReason::Malformed));
        let mut offset = start;
        if ip.next_hdr != IPPROTO_TCP {
            let found = skip_extensions(ctx.ctx, start as u64, ip.next_hdr) as usize;
            let found = maps::forget(found).ok_or_else(malformed)?;
            offset += found & (MAX_EXTENSIONS_LEN - 1);
            match (found >> 32) as u32 {
                END_TCP => {}
                END_FIRST_FRAGMENT => {
                    return Err(of_fragment(ctx, src, dst, Some(offset)).into());
                }
                END_FRAGMENT => return Err(of_fragment(ctx, src, dst, None).into()),
                END_MALFORMED => return Err(malformed().into()),
                protocol => return Err(not_tcp(dst, protocol as u8, offset)),
            }
        }
        if frame.opaque {
            let len = maps::forget(offset - start).ok_or_else(malformed)?;
            offset = start + (len & (MAX_EXTENSIONS_LEN - 1));
        }
        if ip.vcf[0] >> 4 != 6 || start + len < offset || !has_bytes(ctx, start, len) {
            return Err(malformed().into());
        }
        Ok(L4 { offset, len: start + len - offset })
    }

    #[inline(always)]
    fn own_tcp(ip: &Ipv6Hdr, offset: usize) -> Option<usize> {
        (ip.next_hdr == IPPROTO_TCP).then_some(offset + HEADER_LEN)
    }

    #[inline(always)]
    fn replace_source(
        ctx: &TcContext,
        l3_offset: usize,
        tcp_check: usize,
        old: &Self,
        new: &Self,
    ) -> Result<(), c_long> {
        const LEN: u32 = size_of::<Ipv6Be>() as u32;
        let words = |address: &Self| core::ptr::from_ref(address).cast_mut().cast();
        // SAFETY: the helper reads the bytes of two addresses.
        let difference = unsafe { bpf_csum_diff(words(old), LEN, words(new), LEN, 0) };
        let difference = u64::try_from(difference).map_err(|_| difference)?;
        ctx.l4_csum_replace(tcp_check, 0, difference, u64::from(BPF_F_PSEUDO_HDR))?;
        ctx.store(l3_offset + SOURCE_AT, new, 0)
    }

    #[inline(always)]
    fn translate(ip: &mut Ipv6Hdr, half: &FlowHalf<Self>) {
        set(&mut ip.src_addr, half.translation.src);
        set(&mut ip.dst_addr, half.translation.dst);
        ip.hop_limit = ip.hop_limit.wrapping_sub(1);
    }

    #[inline(always)]
    fn readdress(ip: &mut Ipv6Hdr, src: Self, dst: Self, hops: u8) {
        set(&mut ip.src_addr, src);
        set(&mut ip.dst_addr, dst);
        ip.hop_limit = hops;
    }

    #[inline(always)]
    fn write(ip: &mut Ipv6Hdr, src: Self, dst: Self, protocol: u8, payload_len: u16, hops: u8) {
        ip.vcf = [0x60, 0, 0, 0];
        set_u16(&mut ip.payload_len, payload_len.to_be());
        ip.next_hdr = protocol;
        ip.hop_limit = hops;
        set(&mut ip.src_addr, src);
        set(&mut ip.dst_addr, dst);
    }

    #[inline(always)]
    fn own(link: &Link) -> Option<Self> {
        (link.ipv6 != Self::UNSPECIFIED).then_some(link.ipv6)
    }

    #[inline(always)]
    fn ask_fib(params: &mut bpf_fib_lookup, src: Self, dst: Self) {
        params.family = AF_INET6;
        params.__bindgen_anon_3.ipv6_src = src.ip().trie_data();
        params.__bindgen_anon_4.ipv6_dst = dst.ip().trie_data();
    }
}

#[inline(always)]
pub(crate) fn get(bytes: &[u8; 16]) -> Ipv6Be {
    // SAFETY: two times eight bytes are sixteen.
    let words = unsafe { &*core::ptr::from_ref(bytes).cast::<[[u8; 8]; 2]>() };
    let [high, low] = words;
    Ipv6Be::from_words([get_u64(high), get_u64(low)])
}

#[inline(always)]
fn set(bytes: &mut [u8; 16], address: Ipv6Be) {
    // SAFETY: as in `get`.
    let words = unsafe { &mut *core::ptr::from_mut(bytes).cast::<[[u8; 8]; 2]>() };
    let [high, low] = words;
    let [first, second] = address.in_words();
    set_u64(high, first);
    set_u64(low, second);
}

/// Where the walk through extension headers ends, if not at a protocol of its own.
const END_TCP: u32 = IPPROTO_TCP as u32;
/// At TCP, in the first fragment of several, and in another.
const END_FIRST_FRAGMENT: u32 = 256;
const END_FRAGMENT: u32 = 257;
const END_MALFORMED: u32 = 258;

/// Looks through the extension headers at `start`, of which the first is `next`. The upper half says
/// what ends them: a protocol or an `END_*`, the lower half how long they are.
///
/// One number, for BPF functions return no more.
#[inline(never)]
fn skip_extensions(ctx: *mut xdp_md, start: u64, next: u8) -> u64 {
    const MALFORMED: u64 = (END_MALFORMED as u64) << 32;
    let ctx = XdpContext::new(ctx);
    let mut next = next;
    let mut len = 0;
    let mut fragmented = false;
    for _ in 0..MAX_EXTENSIONS {
        match next {
            HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT => {}
            protocol => return u64::from(end(protocol, fragmented)) << 32 | len as u64,
        }
        let offset = (start as usize & MAX_START) + (len & (MAX_EXTENSIONS_LEN - 1));
        let Some(header) = header_at::<ExtensionHdr>(&ctx, offset) else {
            return MALFORMED;
        };
        if next == FRAGMENT {
            let [high, low] = header.specific;
            if (high, low & OFFSET_LOW) != (0, 0) {
                let end = if header.next_hdr == IPPROTO_TCP { END_FRAGMENT } else { OTHER };
                return u64::from(end) << 32;
            }
            // RFC 6946: a whole packet may have such a header.
            fragmented |= low & MORE_FRAGMENTS != 0;
            len += FRAGMENT_LEN;
        } else {
            // What has other hosts to visit is not for a VIP yet, and its checksum is for the last one.
            if next == ROUTING && header.specific[1] != 0 {
                return MALFORMED;
            }
            len += 8 * (usize::from(header.len) + 1);
        }
        next = header.next_hdr;
        if len >= MAX_EXTENSIONS_LEN {
            return MALFORMED;
        }
    }
    MALFORMED
}

/// What a chain of extension headers ends with. A fragment of anything but TCP is for the kernel.
#[inline(always)]
fn end(protocol: u8, fragmented: bool) -> u32 {
    match (protocol, fragmented) {
        (IPPROTO_TCP, true) => END_FIRST_FRAGMENT,
        (_, true) => OTHER,
        (protocol, false) => u32::from(protocol),
    }
}
