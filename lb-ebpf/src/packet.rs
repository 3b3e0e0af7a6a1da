//! The only access to packet memory: bounds checks, and the headers of a TCP segment to a VIP.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::IPPROTO_TCP;
use lb_common::addr::{Mac, NextHop, PortBe};
use lb_common::checksum;
use lb_common::conntrack::{FlowHalf, Segment};
use lb_common::flow::FlowKey;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;

use crate::maps::{self, Ip};
use crate::service;
use crate::verdict::{DropReason, PassReason, Verdict};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// More-fragments bit and fragment offset (RFC 791 section 3.1).
const FRAGMENT_MASK: u16 = 0x3fff;

/// Ethernet header. That of `network-types` has a 16-bit field, and nothing promises that a frame
/// starts at an even address.
#[repr(C)]
pub(crate) struct EthHdr {
    dst_addr: [u8; 6],
    src_addr: [u8; 6],
    ether_type: [u8; 2],
}

impl EthHdr {
    pub(crate) const LEN: usize = size_of::<Self>();

    #[inline(always)]
    pub(crate) fn address(&mut self, source: Mac, destination: Mac) {
        self.src_addr = source.0;
        self.dst_addr = destination.0;
    }

    #[inline(always)]
    pub(crate) fn turn_round(&mut self) {
        core::mem::swap(&mut self.src_addr, &mut self.dst_addr);
    }
}

/// Headers of a complete TCP segment whose destination may be a VIP.
pub(crate) struct Packet {
    eth: *mut EthHdr,
    ip: *mut Ipv4Hdr,
    tcp: *mut TcpHdr,
    pub(crate) segment: Segment,
    pub(crate) ctx: *mut xdp_md,
}

/// A reference to the `T` at `offset` of the frame; `None` if it does not fit.
///
/// `T` must be a header type: bytes only, alignment 1, every bit pattern valid. References taken
/// before the frame is resized must not be used afterwards, and those to overlapping ranges not
/// together.
#[inline(always)]
fn header_at<'a, T>(ctx: &XdpContext, offset: usize) -> Option<&'a mut T> {
    const { assert!(align_of::<T>() == 1) };
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
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
/// The verdict on everything else: what is not for a VIP passes whatever its shape, and what is for
/// one and no sound TCP segment passes or drops by what the kernel would do with it.
#[inline(always)]
pub(crate) fn parse(ctx: &XdpContext) -> Result<Packet, Verdict> {
    const NOT_IPV4: Verdict = Verdict::Pass(PassReason::NotIpv4);
    const MALFORMED: Verdict = Verdict::Drop(DropReason::Malformed);

    let eth: &mut EthHdr = header_at(ctx, 0).ok_or(NOT_IPV4)?;
    if eth.ether_type != ETHERTYPE_IPV4 {
        return Err(NOT_IPV4);
    }
    let ip: &mut Ipv4Hdr = header_at(ctx, EthHdr::LEN).ok_or(NOT_IPV4)?;
    if !maps::may_be_vip(Ip::from_bytes(ip.dst_addr)) {
        return Err(Verdict::Pass(PassReason::NotVip));
    }
    if ip.proto != IPPROTO_TCP {
        return Err(service::host_verdict(Ip::from_bytes(ip.dst_addr), PassReason::NotTcp));
    }

    let header_len = usize::from(ip.ihl());
    let total_len = usize::from(ip.tot_len());
    let frame_len = ctx.data_end() - ctx.data();
    if ip.version() != 4 || header_len < Ipv4Hdr::LEN || EthHdr::LEN + total_len > frame_len {
        return Err(not_of_another_host(ip, MALFORMED));
    }
    if u16::from_be_bytes(ip.frags) & FRAGMENT_MASK != 0 {
        return Err(not_of_another_host(ip, Verdict::Drop(DropReason::Fragment)));
    }
    let Some(tcp) = header_at::<TcpHdr>(ctx, EthHdr::LEN + header_len) else {
        return Err(not_of_another_host(ip, MALFORMED));
    };
    let [offset_byte, flags] = flag_bytes(tcp);
    let tcp_len = usize::from(offset_byte >> 4) * 4;
    if tcp_len < TcpHdr::LEN || total_len < header_len + tcp_len {
        return Err(not_of_another_host(ip, MALFORMED));
    }
    let segment = Segment {
        seq: u32::from_be_bytes(tcp.seq),
        ack: u32::from_be_bytes(tcp.ack_seq),
        payload: (total_len - header_len - tcp_len) as u32,
        window: u16::from_be_bytes(tcp.window),
        flags,
    };
    Ok(Packet { eth, ip, tcp, segment, ctx: ctx.ctx })
}

/// `verdict`, if the destination really is a VIP: the filter in front of the parser may err.
#[inline(always)]
fn not_of_another_host(ip: &Ipv4Hdr, verdict: Verdict) -> Verdict {
    if maps::vip(Ip::from_bytes(ip.dst_addr)).is_some() {
        verdict
    } else {
        Verdict::Pass(PassReason::NotVip)
    }
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

/// Headers of a frame without tags and options; for one that was just resized to hold them.
#[inline(always)]
pub(crate) fn plain_headers<'a>(
    ctx: &XdpContext,
) -> Option<(&'a mut EthHdr, &'a mut Ipv4Hdr, &'a mut TcpHdr)> {
    Some((
        header_at(ctx, 0)?,
        header_at(ctx, EthHdr::LEN)?,
        header_at(ctx, EthHdr::LEN + Ipv4Hdr::LEN)?,
    ))
}

impl Packet {
    /// Length of the frame.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u32 {
        let ctx = XdpContext::new(self.ctx);
        (ctx.data_end() - ctx.data()) as u32
    }

    /// Interface the frame came in by.
    #[inline(always)]
    pub(crate) fn ingress(&self) -> u32 {
        ingress(&XdpContext::new(self.ctx))
    }

    #[inline(always)]
    fn ip(&self) -> &Ipv4Hdr {
        // SAFETY: `parse` checked the range; the frame has not been resized since, for that ends the
        // packet's life.
        unsafe { &*self.ip }
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> FlowKey<Ip> {
        // SAFETY: as in `ip`.
        let tcp = unsafe { &*self.tcp };
        FlowKey::new(
            Ip::from_bytes(self.ip().src_addr),
            Ip::from_bytes(self.ip().dst_addr),
            PortBe::from_bytes(tcp.source),
            PortBe::from_bytes(tcp.dest),
        )
    }

    #[inline(always)]
    pub(crate) fn ttl(&self) -> u8 {
        self.ip().ttl
    }

    /// The next hop of an answer that goes back the way the frame came.
    #[inline(always)]
    pub(crate) fn came_from(&self) -> NextHop {
        // SAFETY: as in `ip`.
        let eth = unsafe { &*self.eth };
        NextHop {
            ifindex: self.ingress(),
            mac: Mac(eth.src_addr),
            source_mac: Mac(eth.dst_addr),
            vlan: 0,
            inner_vlan: 0,
        }
    }

    /// Rewrites addresses, ports, hop count and both checksums.
    #[inline(always)]
    pub(crate) fn translate(&self, half: &FlowHalf<Ip>) {
        // SAFETY: as in `ip`; the only references into these headers while they last.
        let (ip, tcp) = unsafe { (&mut *self.ip, &mut *self.tcp) };
        ip.src_addr = half.translation.src.bytes();
        ip.dst_addr = half.translation.dst.bytes();
        ip.ttl = ip.ttl.wrapping_sub(1);
        let check = checksum::apply(u16::from_be_bytes(ip.check), half.ip_delta);
        ip.check = check.to_be_bytes();

        tcp.source = half.translation.src_port.bytes();
        tcp.dest = half.translation.dst_port.bytes();
        let check = checksum::apply(u16::from_be_bytes(tcp.check), half.l4_delta);
        tcp.check = check.to_be_bytes();
    }

    #[inline(always)]
    pub(crate) fn set_macs(&self, source: Mac, destination: Mac) {
        // SAFETY: as in `translate`.
        let eth = unsafe { &mut *self.eth };
        eth.address(source, destination);
    }
}
