//! Connections through the program, as both ends see them. All addresses are names.

use std::net::SocketAddrV4;

use lb_common::nat::Kind;
use lb_tests::packet::{ACK, Frame, SYN};

use super::{CLIENT_MAC, FlowId, Half, Harness, LB_MAC, SERVICE, backend_mac, key, name_of};

/// The client's initial sequence number: the first byte of data is the last of its space.
pub(crate) const ISS: u32 = 0xffff_fffe;
/// The backend's.
pub(crate) const IRS: u32 = 5000;

/// A segment of a client to the service.
pub(crate) fn from_client(client: SocketAddrV4, flags: u8) -> Frame {
    Frame::tcp(client, SERVICE).macs(CLIENT_MAC, LB_MAC).flags(flags)
}

pub(crate) fn syn(client: SocketAddrV4) -> Frame {
    from_client(client, SYN).seq(ISS).options(&[2, 4, 5, 0xb4, 1, 1, 4, 2])
}

/// A connection as both ends see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) kind: Kind,
    pub(crate) client: SocketAddrV4,
    pub(crate) id: u32,
    pub(crate) backend: SocketAddrV4,
    /// Whom the backend answers: the SNAT address and port, or the client.
    pub(crate) snat: SocketAddrV4,
    /// What the client sends next, and the backend expects.
    pub(crate) client_next: u32,
    pub(crate) backend_next: u32,
}

impl Connection {
    /// The client's SYN was sent and forwarded.
    #[track_caller]
    pub(crate) fn syn(harness: &mut Harness, client: SocketAddrV4) -> Self {
        Self::open_with(harness, &syn(client))
    }

    /// Sends the client's first segment and finds out where it went.
    #[track_caller]
    pub(crate) fn open_with(harness: &mut Harness, first: &Frame) -> Self {
        let outcome = harness.send(first);
        assert_eq!(outcome.counter, "forward_request");
        let out = outcome.frame();
        let [.., id] = out.eth_dst;
        let connection = Self::found(harness, first, &out, id.into());
        let expected = harness.local(&connection.forwarded(first));
        assert_eq!(out, expected);
        assert_eq!(outcome.bytes, expected.bytes());
        connection
    }

    /// The connection whose first segment left to a backend as `out`.
    pub(crate) fn found(harness: &Harness, first: &Frame, out: &Frame, id: u32) -> Self {
        let segment = first.segment().unwrap();
        let opening = u32::from(segment.flags & SYN != 0);
        let client = name_of(first.source());
        Self {
            kind: harness.kind_for(client),
            client,
            id,
            backend: harness.backend_name(id),
            snat: name_of(out.source()),
            client_next: segment.seq.wrapping_add(opening),
            backend_next: if opening == 1 { IRS + 1 } else { segment.ack },
        }
    }

    /// A whole handshake.
    #[track_caller]
    pub(crate) fn establish(harness: &mut Harness, client: SocketAddrV4) -> Self {
        let connection = Self::syn(harness, client);
        if connection.kind != Kind::Dsr {
            connection.reply(harness, &connection.syn_ack());
        }
        connection.request(harness, &connection.of_client(ACK));
        connection
    }

    pub(crate) fn original_key(&self) -> FlowId {
        key(self.client, SERVICE)
    }

    pub(crate) fn reply_key(&self) -> FlowId {
        key(self.backend, self.snat)
    }

    /// A segment of the client, at the place in its stream.
    pub(crate) fn of_client(&self, flags: u8) -> Frame {
        from_client(self.client, flags).seq(self.client_next).ack(self.backend_next)
    }

    pub(crate) fn of_backend(&self, flags: u8) -> Frame {
        Frame::tcp(self.backend, self.snat)
            .macs(backend_mac(self.id), LB_MAC)
            .flags(flags)
            .seq(self.backend_next)
            .ack(self.client_next)
            .ttl(63)
            .id(0x4321)
    }

    pub(crate) fn syn_ack(&self) -> Frame {
        self.of_backend(SYN | ACK).seq(IRS).options(&[2, 4, 5, 0xb4])
    }

    /// What a client's frame leaves as.
    pub(crate) fn forwarded(&self, frame: &Frame) -> Frame {
        let addressed = frame.clone().macs(LB_MAC, backend_mac(self.id));
        match self.kind {
            Kind::Nat => addressed.from(self.snat).to(self.backend).ttl(frame.ttl - 1),
            Kind::Dnat => addressed.to(self.backend).ttl(frame.ttl - 1),
            Kind::Dsr => addressed,
        }
    }

    /// What a backend's frame leaves as.
    pub(crate) fn returned(&self, frame: &Frame) -> Frame {
        let ttl = frame.ttl - 1;
        frame.clone().macs(LB_MAC, CLIENT_MAC).from(SERVICE).to(self.client).ttl(ttl)
    }

    /// Sends a client's frame that must reach the backend.
    #[track_caller]
    pub(crate) fn request(&self, harness: &mut Harness, frame: &Frame) {
        harness.expect_frame(frame, "forward_request", &self.forwarded(frame));
    }

    /// Sends a backend's frame that must reach the client.
    #[track_caller]
    pub(crate) fn reply(&self, harness: &mut Harness, frame: &Frame) {
        harness.expect_frame(frame, "forward_reply", &self.returned(frame));
    }

    /// Sends data there and back.
    #[track_caller]
    pub(crate) fn exchange(&mut self, harness: &mut Harness, question: &[u8], answer: &[u8]) {
        let frame = self.of_client(ACK).payload(question);
        self.request(harness, &frame);
        self.client_next = self.client_next.wrapping_add(u32::try_from(question.len()).unwrap());
        if self.kind != Kind::Dsr {
            self.reply(harness, &self.of_backend(ACK).payload(answer));
        }
        self.backend_next = self.backend_next.wrapping_add(u32::try_from(answer.len()).unwrap());
        self.request(harness, &self.of_client(ACK));
    }

    /// The original half of an established flow: in `dsr` there is no other.
    #[track_caller]
    pub(crate) fn original(&self, harness: &Harness) -> Half {
        harness.established(&self.original_key()).unwrap()
    }

    /// Both halves of an established flow.
    #[track_caller]
    pub(crate) fn halves(&self, harness: &Harness) -> (Half, Half) {
        let halves =
            (harness.established(&self.original_key()), harness.established(&self.reply_key()));
        (halves.0.unwrap(), halves.1.unwrap())
    }

    /// Both halves of a half-open flow.
    #[track_caller]
    pub(crate) fn half_open(&self, harness: &Harness) -> (Half, Half) {
        let halves =
            (harness.half_open(&self.original_key()), harness.half_open(&self.reply_key()));
        (halves.0.unwrap(), halves.1.unwrap())
    }
}

/// The RST that a client must get, with these numbers and flags.
pub(crate) fn rst_to(client: SocketAddrV4, seq: u32, ack: u32, flags: u8) -> Frame {
    let frame = Frame::tcp(SERVICE, client).macs(LB_MAC, CLIENT_MAC).id(0).window(0);
    frame.flags(flags).seq(seq).ack(ack)
}

impl Harness {
    /// How a client's flows are translated: as the service says, unless it is itself a backend.
    fn kind_for(&self, client: SocketAddrV4) -> Kind {
        let is_backend = (1..=3).any(|id| {
            let endpoint = self.backend(id).endpoint;
            endpoint.protocol != 0 && endpoint.address == self.ip(*client.ip())
        });
        if is_backend { Kind::Nat } else { Kind::from_u8(self.service.kind).unwrap() }
    }

    fn backend_name(&self, id: u32) -> SocketAddrV4 {
        let endpoint = self.backend(id).endpoint;
        name_of((endpoint.address.get(), endpoint.port.get()).into())
    }
}
