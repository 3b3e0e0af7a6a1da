//! What identifies a flow in one direction. Pure.

use crate::IPPROTO_TCP;
use crate::addr::{Address, Ipv4Be, PortBe};

/// Five-tuple of a packet, as it stands on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey<A> {
    pub src: A,
    pub dst: A,
    pub src_port: PortBe,
    pub dst_port: PortBe,
    pub protocol: u8,
    _pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey<Ipv4Be>>() == 16);

impl<A: Address> FlowKey<A> {
    /// A TCP flow.
    #[inline(always)]
    pub const fn new(src: A, dst: A, src_port: PortBe, dst_port: PortBe) -> Self {
        Self { src, dst, src_port, dst_port, protocol: IPPROTO_TCP, _pad: [0; 3] }
    }

    /// The same flow seen from the other end.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
            _pad: [0; 3],
        }
    }
}

/// Netfilter's words: `Original` is from client to backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Original,
    Reply,
}

#[cfg(feature = "user")]
// SAFETY: integers only; the size assertion rules padding out.
unsafe impl aya::Pod for FlowKey<Ipv4Be> {}
