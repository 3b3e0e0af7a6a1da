//! What backends on this node send to clients: met where it leaves, for it does not come in by any
//! interface, and translated back to the VIP. All else leaves as it came.
//!
//! A program of its own at the interfaces' egress (tcx). The state rules are those of a reply that XDP
//! meets; the VIP's lease is not asked for: a connection goes on after the VIP has left this node, for
//! the node that has it sends its client's segments here.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::cty::c_long;
use aya_ebpf::programs::TcContext;
use lb_common::addr::{Ipv4Be, Ipv6Be, Ports};
use lb_common::backend::Way;
use lb_common::conntrack::{FlowHalf, Segment, flag, tcp};
use lb_common::flow::{Direction, FlowKey};
use lb_common::nat::Kind;
use network_types::tcp::TcpHdr;

use crate::clock;
use crate::conntrack;
use crate::family::Family;
use crate::maps;
use crate::packet::{self, Frame, get_u32, header_at};
use crate::verdict::DropReason;

/// Where the TCP header has its checksum.
const CHECK_AT: usize = 16;

/// What becomes of what leaves.
pub(crate) enum Fate {
    /// It is no reply of a flow. Not counted: it is none of ours.
    Untouched,
    /// Translated back, and counted with its backend's traffic.
    Reply,
    Drop(DropReason),
}

impl Fate {
    /// Counts what concerns us and returns its action: whatever else is attached sees what is not dropped.
    #[inline(always)]
    pub(crate) fn action(self) -> i32 {
        match self {
            Self::Untouched | Self::Reply => TC_ACT_UNSPEC,
            Self::Drop(reason) => {
                maps::count(reason.counter());
                TC_ACT_SHOT
            }
        }
    }
}

#[inline(always)]
pub(crate) fn process(ctx: &TcContext) -> Fate {
    let Some(frame) = packet::frame(ctx) else {
        return Fate::Untouched;
    };
    if frame.ether_type == Ipv4Be::ETHER_TYPE {
        of_family::<Ipv4Be>(ctx, &frame)
    } else if frame.ether_type == Ipv6Be::ETHER_TYPE {
        of_family::<Ipv6Be>(ctx, &frame)
    } else {
        Fate::Untouched
    }
}

#[inline(always)]
fn of_family<A: Family>(ctx: &TcContext, frame: &Frame) -> Fate {
    let Some(reply) = Reply::<A>::parse(ctx, frame) else {
        return Fate::Untouched;
    };
    let Some(half) = A::half(&reply.key).filter(|half| is_ours(half)) else {
        return Fate::Untouched;
    };
    match note(&reply, half) {
        Fate::Reply => match reply.translate(ctx, half) {
            Ok(()) => Fate::Reply,
            Err(_) => Fate::Drop(DropReason::Malformed),
        },
        fate @ (Fate::Untouched | Fate::Drop(_)) => fate,
    }
}

/// The reply half of a flow to a backend on this node.
#[inline(always)]
fn is_ours<A>(half: &FlowHalf<A>) -> bool {
    !half.is_original()
        && half.kind == Kind::Dnat as u8
        && maps::backend(half.backend).is_some_and(|backend| backend.is_local())
}

/// What the flow learns of its reply, as of one that comes in by an interface.
#[inline(never)]
fn note<A: Family>(reply: &Reply<A>, half: &mut FlowHalf<A>) -> Fate {
    let (segment, now) = (&reply.segment, clock::now());
    if opens_another(segment, half, now.ns) {
        A::remove_half(&reply.key);
        return Fate::Untouched;
    }
    if segment.has(tcp::RST) && conntrack::hold_back_refusal(&reply.key, half, segment, now) {
        return Fate::Drop(DropReason::RefusedSyn);
    }
    if half.has(flag::MID_STREAM) && !half.has(flag::CONFIRMED) {
        // Else it is of another connection, with this node's own address.
        let confirmed = conntrack::confirm_guess(&reply.key, half, segment, now);
        return if confirmed { Fate::Reply } else { Fate::Untouched };
    }
    conntrack::resume_local(half, segment);
    conntrack::reply(&reply.key, half, segment, now);
    Fate::Reply
}

/// A SYN-ACK of a flow that is over answers no SYN to the VIP, which would have made another flow: the
/// client connects to this node's own address, from the same port. Where the VIP is another node's, that
/// one alone knows.
#[inline(always)]
fn opens_another<A>(segment: &Segment, half: &FlowHalf<A>, now_ns: u64) -> bool {
    segment.has(tcp::SYN)
        && half.has(flag::CLOSING)
        && maps::lease(u32::from(half.vip)).may_answer(now_ns)
}

/// A segment that leaves, of what may be a backend's port.
struct Reply<A> {
    key: FlowKey<A>,
    segment: Segment,
    l3_offset: usize,
    tcp_offset: usize,
    /// Of frame and payload.
    bytes: u32,
}

impl<A: Family> Reply<A> {
    #[inline(always)]
    fn parse(ctx: &TcContext, frame: &Frame) -> Option<Self> {
        let ip: &mut A::Header = header_at(ctx, frame.l3_offset)?;
        let tcp_offset = A::own_tcp(ip, frame.l3_offset)?;
        let tcp: &mut TcpHdr = header_at(ctx, tcp_offset)?;
        let ports = Ports::from_word(get_u32(packet::ports(tcp)));
        if !maps::is_local_port(ports.src()) {
            return None;
        }
        let (src, dst) = A::addresses(ip);
        // Not what the header says: of what is yet to be cut into segments it may say nothing.
        let bytes = ctx.len();
        let segment = packet::segment(tcp, (bytes as usize).checked_sub(tcp_offset)?)?;
        let key = FlowKey::new(src, dst, ports);
        Some(Self { key, segment, l3_offset: frame.l3_offset, tcp_offset, bytes })
    }

    /// From the VIP and its port. All references into the frame end here.
    #[inline(never)]
    fn translate(&self, ctx: &TcContext, half: &FlowHalf<A>) -> Result<(), c_long> {
        const PORT_LEN: u64 = 2;
        let to = &half.translation;
        let check = self.tcp_offset + CHECK_AT;
        A::replace_source(ctx, self.l3_offset, check, &self.key.src, &to.src)?;
        let (from, port) = (self.key.ports.src().word(), to.ports.src().word());
        if from != port {
            ctx.l4_csum_replace(check, u64::from(from), u64::from(port), PORT_LEN)?;
            ctx.store(self.tcp_offset, &port, 0)?;
        }
        maps::count_forwarded(half.backend, Direction::Reply, Way::Local, self.bytes.into());
        Ok(())
    }
}
