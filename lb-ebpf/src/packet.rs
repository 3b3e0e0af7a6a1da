//! The only access to packet memory: bounds checks, and the headers of a TCP segment to a VIP.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::addr::{Endpoint, Ports};
use lb_common::checksum;
use lb_common::conntrack::{FlowHalf, Segment};
use lb_common::flow::FlowKey;
use lb_common::link::{LinkId, Mac, NextHop, Tags};
use network_types::tcp::TcpHdr;

use crate::family::Family;
use crate::verdict::{DropReason, PassReason, Step, Verdict};
use crate::{IPPROTO_TCP, maps, service};

mod bytes;
mod ethernet;
mod ipv4;
mod ipv6;
mod tags;

pub(crate) use bytes::{get_u16, get_u32, set_u16, set_u32};
pub(crate) use ethernet::{EthHdr, Frame, frame};
pub(crate) use ipv6::get as ipv6_address;
pub(crate) use tags::send_as;

/// Headers of a complete TCP segment whose destination or source is one of ours.
pub(crate) struct Packet<A: Family> {
    pub(crate) ctx: *mut xdp_md,
    eth: *mut EthHdr,
    ip: *mut A::Header,
    tcp: *mut TcpHdr,
    pub(crate) segment: Segment,
    pub(crate) tags: Tags,
    /// Where the IP header starts: behind 0, 1 or 2 tags.
    pub(crate) l3_offset: u16,
    /// Of the IP packet, header included.
    ip_len: u16,
    pub(crate) ingress: u32,
}

/// What an IP header says of the TCP header behind it.
pub(crate) struct L4 {
    offset: usize,
    /// Of header and payload.
    len: usize,
}

/// What has a frame's bytes, or the first of them.
pub(crate) trait Memory {
    fn start(&self) -> usize;
    fn end(&self) -> usize;
}

impl Memory for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

impl Memory for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

/// A reference to the `T` at `offset` of the frame; `None` if it does not fit.
///
/// `T` must be a header type: bytes only, alignment 1, every bit pattern valid. References taken
/// before the frame is resized must not be used afterwards, and those to overlapping ranges not
/// together.
#[inline(always)]
pub(crate) fn header_at<'a, T>(ctx: &impl Memory, offset: usize) -> Option<&'a mut T> {
    const { assert!(align_of::<T>() == 1) };
    let start = ctx.start() + offset;
    if start + size_of::<T>() > ctx.end() {
        return None;
    }
    // SAFETY: the range is inside the frame (checked above, as the verifier demands), alignment is 1,
    // and any bytes are a `T`.
    Some(unsafe { &mut *(start as *mut T) })
}

/// Interface the frame came in by.
#[inline(always)]
pub(crate) fn ingress(ctx: &XdpContext) -> u32 {
    // SAFETY: the kernel hands every XDP program a valid context.
    unsafe { (*ctx.ctx).ingress_ifindex }
}

/// Parses down to the TCP header.
///
/// # Errors
/// What becomes of everything else: what is not for a VIP passes whatever its shape, and what is for
/// one and no sound TCP segment passes or drops by what the kernel would do with it.
#[inline(always)]
pub(crate) fn parse<A: Family>(ctx: &XdpContext, frame: &Frame) -> Result<Packet<A>, Step> {
    let ip: &mut A::Header =
        header_at(ctx, frame.l3_offset).ok_or(Verdict::Pass(PassReason::NotIp))?;
    let (_, dst) = A::addresses(ip);
    let L4 { offset, len } = A::find_tcp(ctx, frame, ip)?;
    let malformed = || not_of_another_host(dst, Verdict::Drop(DropReason::Malformed));
    let tcp: &mut TcpHdr = header_at(ctx, offset).ok_or_else(malformed)?;
    let segment = segment(tcp, len).ok_or_else(malformed)?;
    Ok(Packet {
        ctx: ctx.ctx,
        eth: frame.eth,
        ip,
        tcp,
        segment,
        tags: frame.tags,
        l3_offset: frame.l3_offset as u16,
        ip_len: (offset - frame.l3_offset + len) as u16,
        ingress: ingress(ctx),
    })
}

/// Whether a packet may be to a VIP, from a backend of a `dnat` service, or an error about what was sent
/// to one: those of routers before it are to the client. If not, it certainly is none of these.
///
/// # Errors
/// The frame has no complete header.
#[inline(always)]
pub(crate) fn may_be_ours<A: Family>(ctx: &XdpContext, frame: &Frame) -> Result<bool, Verdict> {
    const NOT_IP: Verdict = Verdict::Pass(PassReason::NotIp);
    let ip = header_at::<A::Header>(ctx, frame.l3_offset).ok_or(NOT_IP)?;
    let (src, dst) = A::addresses(ip);
    let Some(filters) = maps::filters() else {
        return Ok(false);
    };
    let of_reply =
        filters.any_source != 0 && (filters.sources.may_contain(src) || A::may_be_error(ip));
    Ok(filters.vips.may_contain(dst) || of_reply)
}

/// `verdict`, if the destination really is a VIP: the filter in front of the parser may err.
#[inline(always)]
fn not_of_another_host<A: Family>(destination: A, verdict: Verdict) -> Verdict {
    if maps::vip(destination.ip()).is_some() { verdict } else { Verdict::Pass(PassReason::NotVip) }
}

/// The verdict on a fragment of TCP, of which the first has its ports at `offset`. That of a `dnat`
/// reply would arrive as the backend's, and without the first the others are of no use.
#[inline(always)]
fn of_fragment<A: Family>(ctx: &XdpContext, src: A, dst: A, first_at: Option<usize>) -> Verdict {
    const DROP: Verdict = Verdict::Drop(DropReason::Fragment);
    let ports = first_at.and_then(|offset| header_at::<[u8; 4]>(ctx, offset));
    if let Some(ports) = ports {
        let port = Ports::from_word(get_u32(ports)).src();
        if maps::endpoint(&Endpoint::new(src.ip(), port, IPPROTO_TCP)).is_some() {
            return DROP;
        }
    }
    not_of_another_host(dst, DROP)
}

/// What is not TCP is for this host, except errors about segments of flows.
#[inline(always)]
fn not_tcp<A: Family>(dst: A, protocol: u8, offset: usize) -> Step {
    if protocol == A::ICMP {
        return Step::IcmpMessage { offset: offset as u16 };
    }
    service::host_verdict(dst.ip(), PassReason::NotTcp).into()
}

/// Whether `len` bytes at `offset` are in the frame, be they in its first buffer or not.
#[inline(always)]
fn has_bytes(ctx: &XdpContext, offset: usize, len: usize) -> bool {
    let end = offset + len;
    end <= ctx.data_end() - ctx.data() || end as u64 <= crate::frags::frame_len(ctx)
}

/// What the state rules read of a segment with `len` bytes of header and payload. `None`: it says that
/// its header is longer than that, or too short to be one.
#[inline(always)]
pub(crate) fn segment(tcp: &TcpHdr, len: usize) -> Option<Segment> {
    let [offset_byte, flags] = flag_bytes(tcp);
    let tcp_len = usize::from(offset_byte >> 4) * 4;
    if tcp_len < TcpHdr::LEN || len < tcp_len {
        return None;
    }
    Some(Segment {
        seq: u32::from_be(get_u32(&tcp.seq)),
        ack: u32::from_be(get_u32(&tcp.ack_seq)),
        payload: (len - tcp_len) as u32,
        flags,
    })
}

/// The first four bytes of the TCP header.
#[inline(always)]
pub(crate) fn ports(tcp: &TcpHdr) -> &[u8; 4] {
    // SAFETY: a header of 20 bytes, alignment 1.
    unsafe { &*core::ptr::from_ref(tcp).cast::<[u8; 4]>() }
}

#[inline(always)]
pub(crate) fn ports_mut(tcp: &mut TcpHdr) -> &mut [u8; 4] {
    // SAFETY: as in `ports`.
    unsafe { &mut *core::ptr::from_mut(tcp).cast::<[u8; 4]>() }
}

/// Bytes 12 and 13 of the TCP header: data offset and flags.
#[inline(always)]
fn flag_bytes(tcp: &TcpHdr) -> [u8; 2] {
    // SAFETY: a header of 20 bytes, alignment 1.
    unsafe { *core::ptr::from_ref(tcp).cast::<[u8; 2]>().add(6) }
}

#[inline(always)]
pub(crate) fn set_flag_bytes(tcp: &mut TcpHdr, bytes: [u8; 2]) {
    // SAFETY: as in `flag_bytes`.
    unsafe { *core::ptr::from_mut(tcp).cast::<[u8; 2]>().add(6) = bytes };
}

impl<A: Family> Packet<A> {
    /// Length of the frame up to the end of the IP packet.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u32 {
        u32::from(self.l3_offset) + u32::from(self.ip_len)
    }

    #[inline(always)]
    fn ip(&self) -> &A::Header {
        // SAFETY: `parse` checked the range; the frame has not been resized since, for that ends the
        // packet's life.
        unsafe { &*self.ip }
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> FlowKey<A> {
        // SAFETY: as in `ip`.
        let tcp = unsafe { &*self.tcp };
        let (src, dst) = A::addresses(self.ip());
        FlowKey::new(src, dst, Ports::from_word(get_u32(ports(tcp))))
    }

    #[inline(always)]
    pub(crate) fn addresses(&self) -> (A, A) {
        A::addresses(self.ip())
    }

    /// Where the IP header starts, within bounds that the verifier sees.
    #[inline(always)]
    pub(crate) fn l3_offset(&self) -> usize {
        usize::from(self.l3_offset) & 0x1f
    }

    /// Without options or extension headers.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.tcp as usize == self.ip as usize + size_of::<A::Header>()
    }

    /// TTL or hop limit.
    #[inline(always)]
    pub(crate) fn hops(&self) -> u8 {
        A::hops(self.ip())
    }

    #[inline(always)]
    pub(crate) fn source_mac(&self) -> Mac {
        // SAFETY: as in `ip`.
        unsafe { &*self.eth }.source()
    }

    /// The next hop of an answer that goes back the way the frame came.
    #[inline(always)]
    pub(crate) fn came_from(&self, link: LinkId) -> NextHop {
        NextHop { mac: self.source_mac(), link, tags: self.tags.without_priority() }
    }

    /// Rewrites addresses, ports, hop count and checksums.
    #[inline(always)]
    pub(crate) fn translate(&self, half: &FlowHalf<A>) {
        // SAFETY: as in `ip`; the only references into these headers while they last.
        let (ip, tcp) = unsafe { (&mut *self.ip, &mut *self.tcp) };
        A::translate(ip, half);
        set_u32(ports_mut(tcp), half.translation.ports.word());
        let check = checksum::apply(u16::from_be(get_u16(&tcp.check)), half.translation.l4_delta);
        set_u16(&mut tcp.check, check.to_be());
    }

    /// The frame comes from `mac`.
    #[inline(always)]
    pub(crate) fn is_from(&self, mac: Mac) -> bool {
        // SAFETY: as in `ip`.
        unsafe { &*self.eth }.is_from(mac)
    }

    /// The frame is addressed to `mac`.
    #[inline(always)]
    pub(crate) fn is_to(&self, mac: Mac) -> bool {
        // SAFETY: as in `ip`.
        unsafe { &*self.eth }.is_to(mac)
    }

    /// Addresses the frame to `next_hop`, from `source`, with its tags.
    #[inline(always)]
    pub(crate) fn address(&self, source: Mac, next_hop: &NextHop) -> Result<(), Verdict> {
        if next_hop.tags == self.tags {
            // SAFETY: as in `translate`.
            let eth = unsafe { &mut *self.eth };
            eth.address(source, next_hop.mac);
            return Ok(());
        }
        send_as(self.ctx, self.l3_offset, A::ETHER_TYPE, source, next_hop)
    }
}
