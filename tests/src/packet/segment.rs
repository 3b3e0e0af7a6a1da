//! Changing and reading the segment in a frame. Pure.

use std::net::SocketAddr;

use super::{Frame, L4, Tcp};

impl Frame {
    /// Another source, as a translation makes it.
    #[must_use]
    pub fn from(mut self, src: impl Into<SocketAddr>) -> Self {
        let src = src.into();
        self.src = src.ip();
        self.with_tcp(|tcp| tcp.src_port = src.port())
    }

    /// Another destination.
    #[must_use]
    pub fn to(mut self, dst: impl Into<SocketAddr>) -> Self {
        let dst = dst.into();
        self.dst = dst.ip();
        self.with_tcp(|tcp| tcp.dst_port = dst.port())
    }

    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.with_tcp(|tcp| tcp.flags = flags)
    }

    #[must_use]
    pub fn seq(self, seq: u32) -> Self {
        self.with_tcp(|tcp| tcp.seq = seq)
    }

    #[must_use]
    pub fn ack(self, ack: u32) -> Self {
        self.with_tcp(|tcp| tcp.ack = ack)
    }

    #[must_use]
    pub fn data_offset(self, words: u8) -> Self {
        self.with_tcp(|tcp| tcp.data_offset = Some(words))
    }

    #[must_use]
    pub fn window(self, window: u16) -> Self {
        self.with_tcp(|tcp| tcp.window = window)
    }

    #[must_use]
    pub fn urgent(self, pointer: u16) -> Self {
        self.with_tcp(|tcp| tcp.urgent = pointer)
    }

    /// Length must be a multiple of four.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        self.with_tcp(|tcp| tcp.options = options.to_vec())
    }

    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        self.with_tcp(|tcp| tcp.payload = payload.to_vec())
    }

    /// No effect on a frame of another protocol.
    #[must_use]
    fn with_tcp(mut self, change: impl FnOnce(&mut Tcp)) -> Self {
        if let L4::Tcp(tcp) = &mut self.l4 {
            change(tcp);
        }
        self
    }

    /// The segment in it.
    #[must_use]
    pub const fn segment(&self) -> Option<&Tcp> {
        match &self.l4 {
            L4::Tcp(tcp) => Some(tcp),
            L4::Udp { .. } | L4::Icmp(_) | L4::Raw(_) => None,
        }
    }

    /// Source of a segment; port 0 of anything else.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.segment().map_or(0, |tcp| tcp.src_port))
    }

    /// Destination of a segment; port 0 of anything else.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.segment().map_or(0, |tcp| tcp.dst_port))
    }
}
