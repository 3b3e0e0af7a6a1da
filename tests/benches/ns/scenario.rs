//! What a run measures: a mode of service, and the frames of its clients and backends.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::nat::Kind;
use lb_tests::packet::{ACK, ARP, Frame, SYN};

use crate::datapath::{LB_MAC, SERVICE};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Room for a segment with an MSS option; no frame on Ethernet is shorter.
pub(crate) const FRAME_LENGTH: usize = 60;
const ISS: u32 = 1000;
const IRS: u32 = 5000;

/// One table of figures.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) mode: Kind,
}

pub(crate) const SCENARIOS: [Scenario; 1] = [Scenario { name: "IPv4 nat", mode: Kind::Nat }];

pub(crate) fn backend(id: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_000a + id), 6443)
}

/// Of a backend; identifiers are less than 256.
pub(crate) fn backend_mac(id: u32) -> [u8; 6] {
    let [.., low] = id.to_be_bytes();
    [2, 0, 0, 0, 1, low]
}

/// The client of the `index`-th flow: 50 ports of each address.
pub(crate) fn client(index: u16) -> SocketAddrV4 {
    let address = Ipv4Addr::from_bits(0x0a40_0001 + u32::from(index / 50));
    SocketAddrV4::new(address, 32_768 + index % 50 * 577)
}

/// The segments that open a flow, then one of each direction, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Syn,
    SynAck,
    Ack,
    Request,
    Reply,
}

impl Step {
    pub(crate) const HANDSHAKE: [Self; 3] = [Self::Syn, Self::SynAck, Self::Ack];

    /// Data goes to and fro without end.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Syn => Self::SynAck,
            Self::SynAck => Self::Ack,
            Self::Ack | Self::Reply => Self::Request,
            Self::Request => Self::Reply,
        }
    }

    pub(crate) const fn is_of_client(self) -> bool {
        matches!(self, Self::Syn | Self::Ack | Self::Request)
    }
}

/// A flow, from both ends.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    client: SocketAddrV4,
    /// The client's SYN as it reached the backend.
    forwarded: Option<Frame>,
}

impl Flow {
    pub(crate) fn new(index: u16) -> Self {
        Self { client: client(index), forwarded: None }
    }

    /// What the client's SYN became.
    pub(crate) fn set_forwarded(&mut self, frame: Frame) {
        self.forwarded = Some(frame);
    }

    /// The frame of a step; `None`: the backend has not heard of the flow.
    pub(crate) fn frame(&self, step: Step) -> Option<Vec<u8>> {
        let frame = if step.is_of_client() {
            Frame::tcp(self.client, SERVICE).macs(CLIENT_MAC, LB_MAC)
        } else {
            let there = self.forwarded.as_ref()?;
            Frame::tcp(there.destination(), there.source()).macs(there.eth_dst, there.eth_src)
        };
        Some(padded(&match step {
            Step::Syn => frame.flags(SYN).seq(ISS).options(&[2, 4, 5, 0xb4]),
            Step::SynAck => frame.flags(SYN | ACK).seq(IRS).ack(ISS + 1),
            Step::Ack => frame.flags(ACK).seq(ISS + 1).ack(IRS + 1),
            Step::Request => frame.flags(ACK).seq(ISS + 1).ack(IRS + 1).payload(b"data"),
            Step::Reply => frame.flags(ACK).seq(IRS + 1).ack(ISS + 1).payload(b"data"),
        }))
    }
}

/// A SYN to an address that is no VIP.
pub(crate) fn to_another() -> Vec<u8> {
    let other = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), SERVICE.port());
    padded(&Frame::tcp(client(0), other).macs(CLIENT_MAC, LB_MAC).flags(SYN))
}

/// By its type alone: nobody looks further.
pub(crate) fn arp() -> Vec<u8> {
    padded(&Frame::tcp(client(0), SERVICE).macs(CLIENT_MAC, LB_MAC).ether_type(ARP))
}

/// The first fragment of a segment to the service.
pub(crate) fn fragment() -> Vec<u8> {
    padded(&Frame::tcp(client(0), SERVICE).macs(CLIENT_MAC, LB_MAC).flags(ACK).frags(0x2000))
}

fn padded(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes.resize(FRAME_LENGTH, 0);
    bytes
}
