//! A flow from both ends, and the frames of its life.

use lb_common::nat::Kind;
use lb_tests::packet::{ACK, Frame, SYN};

use crate::scenario::Scenario;

const ISS: u32 = 1000;
const IRS: u32 = 5000;
/// What each segment after a handshake carries.
pub(crate) const DATA: &[u8] = b"data";

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
    /// What of a handshake comes by.
    pub(crate) const fn handshake(mode: Kind) -> &'static [Self] {
        match mode {
            Kind::Nat | Kind::Dnat => &[Self::Syn, Self::SynAck, Self::Ack],
            Kind::Dsr => &[Self::Syn, Self::Ack],
        }
    }

    /// Data goes to and fro without end.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Syn => Self::SynAck,
            Self::SynAck => Self::Ack,
            Self::Ack | Self::Reply => Self::Request,
            Self::Request => Self::Reply,
        }
    }
}

/// A flow, from both ends.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    index: u32,
    /// The client's SYN as it reached the backend.
    forwarded: Option<Box<Frame>>,
}

impl Flow {
    pub(crate) const fn new(index: u32) -> Self {
        Self { index, forwarded: None }
    }

    /// What the client's SYN became.
    pub(crate) fn set_forwarded(&mut self, frame: Frame) {
        self.forwarded = Some(Box::new(frame));
    }

    /// The frame of a step; `None`: the backend has not heard of the flow.
    pub(crate) fn frame(&self, scenario: &Scenario, step: Step) -> Option<Vec<u8>> {
        let request = || scenario.client_frame(self.index, scenario.service());
        let frame = match step {
            Step::Syn => request().flags(SYN).seq(ISS).options(&[2, 4, 5, 0xb4]),
            Step::Ack => request().flags(ACK).seq(ISS + 1).ack(IRS + 1),
            Step::Request => request().flags(ACK).seq(ISS + 1).ack(IRS + 1).payload(DATA),
            Step::SynAck => self.reply()?.flags(SYN | ACK).seq(IRS).ack(ISS + 1),
            Step::Reply => self.reply()?.flags(ACK).seq(IRS + 1).ack(ISS + 1).payload(DATA),
        };
        Some(scenario.padded(&frame))
    }

    fn reply(&self) -> Option<Frame> {
        let there = self.forwarded.as_ref()?;
        Some(Frame::tcp(there.destination(), there.source()).macs(there.eth_dst, there.eth_src))
    }
}
