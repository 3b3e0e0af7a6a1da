//! Flows for the tests of this folder. Pure.

use std::net::{Ipv4Addr, SocketAddr};

use lb_common::nat::Kind;

use super::record::{FlowId, FlowRecord, Progress};

/// A flow of the client with this number.
pub(crate) fn record(client: u32) -> FlowRecord {
    let address = Ipv4Addr::from(0x0a01_0000 + client / 50_000);
    let port = u16::try_from(1024 + client % 50_000).unwrap();
    let (vip, backend): (SocketAddr, SocketAddr) =
        ("10.0.0.100:6443".parse().unwrap(), "10.0.0.11:6443".parse().unwrap());
    let progress = Progress { seq_end: client, ack: 2, fin_end: 0, flags: 1 };
    FlowRecord {
        id: FlowId { client: SocketAddr::new(address.into(), port), vip },
        kind: Kind::Nat,
        source: SocketAddr::new(vip.ip(), port),
        backend,
        original: progress,
        reply: Some(progress),
    }
}
