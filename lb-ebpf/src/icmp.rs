//! ICMP errors about segments of flows: sent on to the flow's other end, translated outside and inside
//! (RFC 5508 section 4.2, RFC 792, RFC 4443).

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Endpoint, Ports};
use lb_common::checksum::{self, Delta};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::nat::Kind;
use lb_common::service::{Service, ServiceKey};

use crate::clock;
use crate::family::Family;
use crate::packet::{Frame, get_u16, get_u32, header_at, ingress, set_u16, set_u32};
use crate::verdict::{DropReason, Egress, PassReason, Verdict};
use crate::{IPPROTO_TCP, forward, maps, packet, service};

/// The header that all messages have.
#[repr(C)]
pub(crate) struct IcmpHdr {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) check: [u8; 2],
    /// For an error of path MTU discovery the MTU, which is for the sender of the quoted packet.
    pub(crate) rest: [u8; 4],
}

/// What an error quotes of a TCP header at least (RFC 792).
#[repr(C)]
struct QuotedTcp {
    ports: [u8; 4],
    seq: [u8; 4],
}

/// The part that it may quote besides.
#[repr(C)]
struct QuotedRest {
    ack_seq: [u8; 4],
    flags: [u8; 2],
    window: [u8; 2],
    check: [u8; 2],
}

/// Where the headers of an error are.
struct Error<A: Family> {
    ip: *mut A::Header,
    icmp: *mut IcmpHdr,
    quoted_ip: *mut A::Header,
    quoted_tcp: *mut QuotedTcp,
    quoted_rest: Option<&'static mut QuotedRest>,
}

/// The verdict on an ICMP message whose header is at `offset`.
#[inline(never)]
pub(crate) fn verdict<A: Family>(ctx: &XdpContext, frame: &Frame, offset: u16) -> Verdict {
    match try_verdict::<A>(ctx, frame, usize::from(offset) & 0x7ff) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_verdict<A: Family>(
    ctx: &XdpContext,
    frame: &Frame,
    offset: usize,
) -> Result<Verdict, Verdict> {
    const NOT_IP: Verdict = Verdict::Pass(PassReason::NotIp);
    let ip: &mut A::Header = header_at(ctx, frame.l3_offset).ok_or(NOT_IP)?;
    let (_, dst) = A::addresses(ip);
    let icmp: &mut IcmpHdr = header_at(ctx, offset)
        .ok_or_else(|| service::host_verdict(dst.ip(), PassReason::NotTcp))?;
    let kind = icmp.kind;
    let error = parse::<A>(ctx, ip, icmp, offset).ok_or_else(|| A::no_error(kind, dst))?;
    let key = error.key();
    if key.dst.difference(dst) != 0 {
        // Not to whom sent what is quoted: a forgery, or none of our addresses.
        return Err(service::host_verdict(dst.ip(), PassReason::NotTcp));
    }
    let now = clock::now();
    let Some(half) = A::half(&key) else {
        return Err(without_flow(&key, dst));
    };
    forward::check_lease(u32::from(half.vip), now)?;
    if A::hops(ip) <= 1 {
        return Err(Verdict::Drop(DropReason::TtlExpired));
    }
    error.send(ctx, frame, half)
}

/// `None`: no error, or not about TCP.
#[inline(always)]
fn parse<A: Family>(
    ctx: &XdpContext,
    ip: &mut A::Header,
    icmp: &mut IcmpHdr,
    offset: usize,
) -> Option<Error<A>> {
    if icmp.kind >= 64 || A::ICMP_ERRORS >> icmp.kind & 1 == 0 {
        return None;
    }
    let quote = offset + size_of::<IcmpHdr>();
    let quoted_ip: &mut A::Header = header_at(ctx, quote)?;
    let quoted_tcp = A::find_quoted_tcp(ctx, quoted_ip, quote)?;
    Some(Error {
        ip,
        icmp,
        quoted_ip,
        quoted_tcp: header_at::<QuotedTcp>(ctx, quoted_tcp)?,
        quoted_rest: header_at(ctx, quoted_tcp + size_of::<QuotedTcp>()),
    })
}

/// An error about what is balanced is not for the kernel; but one that only passes through is nobody's
/// whom we know.
#[inline(always)]
fn without_flow<A: Family>(key: &FlowKey<A>, dst: A) -> Verdict {
    let verdict = service::host_verdict(dst.ip(), PassReason::NotTcp);
    if !matches!(verdict, Verdict::Pass(PassReason::NotTcp)) {
        return verdict;
    }
    let is_request = maps::service(&ServiceKey::new(key.dst.ip(), key.ports.dst(), IPPROTO_TCP));
    let is_reply = maps::endpoint(&Endpoint::new(key.src.ip(), key.ports.src(), IPPROTO_TCP));
    if is_request.is_some() || is_reply.is_some() && Service::is_snat_port(key.ports.dst()) {
        return Verdict::Drop(DropReason::IcmpWithoutFlow);
    }
    verdict
}

impl<A: Family> Error<A> {
    /// Key of the half whose sender is to hear of the error: the quoted segment is what it looks like
    /// to the other end.
    #[inline(always)]
    fn key(&self) -> FlowKey<A> {
        // SAFETY: `parse` checked the ranges, and the frame has not been resized.
        let (ip, tcp) = unsafe { (&*self.quoted_ip, &*self.quoted_tcp) };
        let (src, dst) = A::addresses(ip);
        FlowKey::new(dst, src, Ports::from_word(get_u32(&tcp.ports)).swapped())
    }

    /// To the end that packets of `half` go to.
    #[inline(always)]
    fn send(self, ctx: &XdpContext, frame: &Frame, half: &FlowHalf<A>) -> Result<Verdict, Verdict> {
        const NO_NEXT_HOP: Verdict = Verdict::Drop(DropReason::NoNextHop);
        let backend = maps::backend(half.backend).ok_or(NO_NEXT_HOP)?;
        let next_hop = if half.is_original() { &backend.next_hop } else { &half.next_hop };
        if !next_hop.is_known() {
            if half.is_original() && backend.is_local() {
                self.translate(half);
                return Ok(Verdict::LocalIcmpError);
            }
            return Err(NO_NEXT_HOP);
        }
        let link = maps::link(next_hop.link).ok_or(NO_NEXT_HOP)?;
        let l3_offset = frame.l3_offset as u16;
        if !half.is_alone() {
            self.translate(half);
        }
        packet::send_as(ctx.ctx, l3_offset, A::ETHER_TYPE, link.mac, next_hop)?;
        let same = link.ifindex == ingress(ctx);
        Ok(Verdict::IcmpError(Egress { link: next_hop.link, same }))
    }

    /// The quoted segment becomes what its sender sent, and the error is as from the other end.
    #[inline(always)]
    fn translate(self, half: &FlowHalf<A>) {
        // SAFETY: as in `key`; the ranges do not overlap.
        let (ip, icmp, quoted_ip, quoted_tcp) = unsafe {
            (&mut *self.ip, &mut *self.icmp, &mut *self.quoted_ip, &mut *self.quoted_tcp)
        };
        let to = &half.translation;
        let (src, dst) = A::addresses(ip);
        let (quoted_src, quoted_dst) = A::addresses(quoted_ip);
        // What a router says of a flow to a backend is not said by the client.
        let speaks_for_itself = half.is_original() && half.kind == Kind::Dnat as u8;
        let new_src = if speaks_for_itself { src } else { to.src };
        A::readdress(ip, new_src, to.dst, A::hops(ip).wrapping_sub(1));
        A::readdress(quoted_ip, to.dst, to.src, A::hops(quoted_ip));

        let before = Ports::from_word(get_u32(&quoted_tcp.ports));
        let after = to.ports.swapped();
        let ports = Delta::default().replace(before.checksum_words(), after.checksum_words());
        set_u32(&mut quoted_tcp.ports, after.word());
        let addresses = Delta::default()
            .replace(quoted_src.checksum_words(), to.dst.checksum_words())
            .replace(quoted_dst.checksum_words(), to.src.checksum_words());
        // The header checksum of IPv4 makes up for its addresses.
        let mut delta = ports;
        if A::ICMP_PSEUDO_HEADER {
            delta = delta
                .plus(addresses)
                .replace(src.checksum_words(), new_src.checksum_words())
                .replace(dst.checksum_words(), to.dst.checksum_words());
        }
        if let Some(rest) = self.quoted_rest {
            let before = u16::from_be(get_u16(&rest.check));
            let after = checksum::apply(before, ports.plus(addresses).folded());
            set_u16(&mut rest.check, after.to_be());
            delta = delta.replace(u32::from(before), u32::from(after));
        }
        let check = checksum::apply(u16::from_be(get_u16(&icmp.check)), delta.folded());
        set_u16(&mut icmp.check, check.to_be());
    }
}
