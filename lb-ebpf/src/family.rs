//! What differs between IPv4 and IPv6.

use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::cty::c_long;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::conntrack::FlowHalf;
use lb_common::link::Link;

use crate::maps::FlowMaps;
use crate::packet::{Frame, L4};
use crate::verdict::{Step, Verdict};

/// An address family: its maps and its header.
pub(crate) trait Family: FlowMaps {
    type Header: 'static;

    const ETHER_TYPE: [u8; 2];
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// A bit for each type of ICMP message that quotes a packet in error.
    const ICMP_ERRORS: u64;
    const ICMP_TIME_EXCEEDED: u8;
    /// Its checksum covers the addresses (RFC 4443 section 2.3).
    const ICMP_PSEUDO_HEADER: bool;

    /// The verdict on a packet neither to a VIP nor from a backend.
    fn not_ours(ctx: &XdpContext, frame: &Frame) -> Verdict;

    /// Not TCP, and may be an ICMP error: to one host.
    fn may_be_error(ip: &Self::Header) -> bool;

    /// The verdict on an ICMP message to `dst` that is no error.
    fn no_error(kind: u8, dst: Self) -> Verdict;

    /// Source and destination.
    fn addresses(ip: &Self::Header) -> (Self, Self);

    /// TTL or hop limit.
    fn hops(ip: &Self::Header) -> u8;

    /// Where the TCP header is that belongs to an IP header at `offset`, quoted by an ICMP error.
    fn find_quoted_tcp(ctx: &XdpContext, ip: &Self::Header, offset: usize) -> Option<usize>;

    /// # Errors
    /// What becomes of what is not a complete TCP segment.
    fn find_tcp(ctx: &XdpContext, frame: &Frame, ip: &Self::Header) -> Result<L4, Step>;

    /// Where the TCP header is that belongs to the IP header at `offset` of what this node sends itself:
    /// whole packets without extension headers. `None`: it is not TCP, or not such a one.
    fn own_tcp(ip: &Self::Header, offset: usize) -> Option<usize>;

    /// Replaces the source address behind the IP header at `l3_offset`, and what that does to the checksum
    /// at `tcp_check`, which may be yet to be completed.
    fn replace_source(
        ctx: &TcContext,
        l3_offset: usize,
        tcp_check: usize,
        old: &Self,
        new: &Self,
    ) -> Result<(), c_long>;

    /// Rewrites addresses, hop count and the header's checksum as the half says.
    fn translate(ip: &mut Self::Header, half: &FlowHalf<Self>);

    /// Likewise, of a packet that is not the flow's own.
    fn readdress(ip: &mut Self::Header, src: Self, dst: Self, hops: u8);

    /// Makes a header from nothing.
    fn write(ip: &mut Self::Header, src: Self, dst: Self, protocol: u8, payload_len: u16, hops: u8);

    /// The node's own address on a link.
    fn own(link: &Link) -> Option<Self>;

    fn ask_fib(params: &mut bpf_fib_lookup, src: Self, dst: Self);
}
