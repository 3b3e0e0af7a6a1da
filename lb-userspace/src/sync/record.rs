//! A flow as both nodes of a pair know it. Pure.

use std::net::SocketAddr;

use lb_common::addr::{IpBe, PortBe};
use lb_common::conntrack::flag;
use lb_common::event::FlowEvent;
use lb_common::nat::Kind;

pub use lb_common::event::Progress;

/// A flow's original five-tuple; the protocol is TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    pub client: SocketAddr,
    /// A service's VIP and port.
    pub vip: SocketAddr,
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

impl FlowRecord {
    /// Both ends have sent their FIN, or one a RST: it goes within a minute, and comparing it is in vain. In
    /// `dsr` the client's FIN is all that is seen.
    pub fn is_over(&self) -> bool {
        let replied = self.reply.map_or(self.original.flags, |reply| reply.flags);
        (self.original.flags | replied) & flag::RST != 0
            || self.original.flags & replied & flag::FIN != 0
    }

    /// What the datapath told; `None`: of a kind that this version does not know.
    pub fn told(event: &FlowEvent) -> Option<Self> {
        let kind = Kind::from_u8(u8::try_from(event.kind).ok()?)?;
        Some(Self {
            id: FlowId {
                client: socket(event.client, event.client_port),
                vip: socket(event.vip, event.vip_port),
            },
            kind,
            source: socket(event.source, event.source_port),
            backend: socket(event.backend, event.backend_port),
            original: event.original,
            reply: (kind != Kind::Dsr).then_some(event.reply),
        })
    }
}

pub(super) const fn socket(address: IpBe, port: PortBe) -> SocketAddr {
    SocketAddr::new(address.get(), port.get())
}
