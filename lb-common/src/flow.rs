//! What identifies a flow in one direction. Pure.

use crate::IPPROTO_TCP;
use crate::addr::{Address, Ipv4Be, Ipv6Be, Ports};

/// Five-tuple of a packet, as it stands on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey<A> {
    pub src: A,
    pub dst: A,
    pub ports: Ports,
    /// A number of 8 bits, in network byte order behind three zeros.
    pub protocol: u32,
}

const _: () = assert!(size_of::<FlowKey<Ipv4Be>>() == 16);
const _: () = assert!(size_of::<FlowKey<Ipv6Be>>() == 40);

impl<A: Address> FlowKey<A> {
    /// A TCP flow.
    #[inline(always)]
    pub const fn new(src: A, dst: A, ports: Ports) -> Self {
        Self { src, dst, ports, protocol: (IPPROTO_TCP as u32).to_be() }
    }

    /// Without branches.
    #[inline(always)]
    pub fn equals(&self, other: &Self) -> bool {
        let rest = (self.ports.word() ^ other.ports.word() | self.protocol ^ other.protocol) as u64;
        self.src.difference(other.src) | self.dst.difference(other.dst) | rest == 0
    }

    /// The same flow seen from the other end.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, ports: self.ports.swapped(), protocol: self.protocol }
    }
}

/// Netfilter's words: `Original` is from client to backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Original,
    Reply,
}

#[cfg(feature = "user")]
mod pod {
    use super::FlowKey;
    use crate::addr::{Ipv4Be, Ipv6Be};

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for FlowKey<Ipv4Be> {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for FlowKey<Ipv6Be> {}
}
