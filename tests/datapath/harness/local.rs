//! Backends on this node: what is handed to its kernel, and what that sends.

use std::net::SocketAddrV4;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use lb_common::addr::PortBe;
use lb_common::backend::flag::LOCAL;
use lb_common::filter::PortSet;
use lb_common::link::NextHop;
use lb_common::map;
use lb_tests::packet::{ACK, Frame, SYN};

use super::{CLIENT_MAC, FlowId, Half, Harness, IRS, ISS, LB_MAC, SERVICE, from_client, key, syn};

/// `TCX_NEXT` and `TCX_DROP` of linux/bpf.h.
const NEXT: u32 = u32::MAX;
const DROP: u32 = 2;

/// What became of a frame that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// As it came, and not counted.
    Untouched,
    As(Box<Frame>),
    /// By this counter.
    Dropped(&'static str),
}

impl Harness {
    /// The backends with these identifiers are on this node.
    pub(crate) fn make_local(&mut self, ids: &[u32]) {
        let mut ports = PortSet::EMPTY;
        for id in ids {
            self.change_backend(*id, |backend| {
                backend.next_hop = NextHop::UNKNOWN;
                backend.flags |= LOCAL;
                ports.insert(PortBe::new(backend.endpoint.port.get()));
            });
        }
        self.set(map::LOCAL_PORTS, 0, ports);
    }

    /// Runs a frame through the program for what leaves.
    #[track_caller]
    pub(crate) fn leave(&mut self, frame: &Frame) -> Left {
        let bytes = self.local(frame).bytes();
        let program = self.ebpf().program(lb_common::EGRESS_PROGRAM).unwrap();
        let program: &SchedClassifier = program.try_into().unwrap();
        let mut out = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(&bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        match (result.return_value, &self.moved()[..]) {
            (NEXT, []) => {
                assert_eq!(out, bytes, "what is none of ours is changed");
                Left::Untouched
            }
            (NEXT, [("forward_local_reply", 1)]) => {
                let left = Frame::parse(&out).unwrap();
                assert_eq!(left.bytes(), out);
                Left::As(Box::new(left))
            }
            (DROP, [(counter, 1)]) => Left::Dropped(counter),
            (action, moved) => panic!("{action:#x} moved {moved:?}"),
        }
    }
}

/// A connection of a client to a backend on this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalConnection {
    pub(crate) client: SocketAddrV4,
    pub(crate) backend: SocketAddrV4,
    pub(crate) client_next: u32,
    pub(crate) backend_next: u32,
}

impl LocalConnection {
    /// The client's SYN was handed to the kernel.
    #[track_caller]
    pub(crate) fn syn(harness: &mut Harness, client: SocketAddrV4, backend: SocketAddrV4) -> Self {
        let client_next = ISS.wrapping_add(1);
        let connection = Self { client, backend, client_next, backend_next: IRS + 1 };
        connection.request(harness, &syn(client));
        connection
    }

    /// A whole handshake.
    #[track_caller]
    pub(crate) fn establish(
        harness: &mut Harness,
        client: SocketAddrV4,
        backend: SocketAddrV4,
    ) -> Self {
        let connection = Self::syn(harness, client, backend);
        connection.reply(harness, &connection.syn_ack());
        connection.request(harness, &connection.of_client(ACK));
        connection
    }

    pub(crate) fn of_client(&self, flags: u8) -> Frame {
        from_client(self.client, flags).seq(self.client_next).ack(self.backend_next)
    }

    /// As this node's kernel sends it.
    pub(crate) fn of_backend(&self, flags: u8) -> Frame {
        let frame = Frame::tcp(self.backend, self.client).macs(LB_MAC, CLIENT_MAC);
        frame.flags(flags).seq(self.backend_next).ack(self.client_next)
    }

    pub(crate) fn syn_ack(&self) -> Frame {
        self.of_backend(SYN | ACK).seq(IRS).options(&[2, 4, 5, 0xb4])
    }

    /// A client's frame that must reach this node's kernel, for the backend.
    #[track_caller]
    pub(crate) fn request(&self, harness: &mut Harness, frame: &Frame) {
        let expected = frame.clone().to(self.backend).ttl(frame.ttl - 1);
        harness.expect_frame(frame, "forward_local_request", &expected);
    }

    /// A frame of the kernel's that must leave as the VIP's.
    #[track_caller]
    pub(crate) fn reply(&self, harness: &mut Harness, frame: &Frame) {
        let expected = harness.local(&frame.clone().from(SERVICE));
        assert_eq!(harness.leave(frame), Left::As(Box::new(expected)));
    }

    /// Sends data there and back.
    #[track_caller]
    pub(crate) fn exchange(&mut self, harness: &mut Harness, question: &[u8], answer: &[u8]) {
        self.request(harness, &self.of_client(ACK).payload(question));
        self.client_next = self.client_next.wrapping_add(u32::try_from(question.len()).unwrap());
        self.reply(harness, &self.of_backend(ACK).payload(answer));
        self.backend_next = self.backend_next.wrapping_add(u32::try_from(answer.len()).unwrap());
        self.request(harness, &self.of_client(ACK));
    }

    pub(crate) fn original_key(&self) -> FlowId {
        key(self.client, SERVICE)
    }

    pub(crate) fn reply_key(&self) -> FlowId {
        key(self.backend, self.client)
    }

    /// Both halves of an established flow.
    #[track_caller]
    pub(crate) fn halves(&self, harness: &Harness) -> (Half, Half) {
        let half = |id| harness.established(&id).unwrap();
        (half(self.original_key()), half(self.reply_key()))
    }
}
