//! A flow as both nodes of a pair know it. Pure.

use std::net::SocketAddr;

use lb_common::nat::Kind;

/// A flow's original five-tuple; the protocol is TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    pub client: SocketAddr,
    /// A service's VIP and port.
    pub vip: SocketAddr,
}

/// What one direction has sent and acknowledged: where a RST to it has to be, and where its FIN is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub seq_end: u32,
    pub ack: u32,
    /// Valid if it has sent a FIN.
    pub fin_end: u32,
    /// Bits of [`lb_common::conntrack::flag`] that say what it has sent: SYN, FIN, FIN_FIRST, RST.
    pub flags: u32,
}

/// A confirmed flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    pub id: FlowId,
    pub kind: Kind,
    /// Where its requests come from, for the backend: a SNAT address and port, or the client.
    pub source: SocketAddr,
    pub backend: SocketAddr,
    pub original: Progress,
    /// `None` in `dsr`.
    pub reply: Option<Progress>,
}

/// What happened to a flow on the node that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was confirmed, goes another way, or has begun to close: this is what it is from here on.
    Put(FlowRecord),
    /// It is over.
    Removed(FlowId),
}
