//! Requests of one netlink protocol and the kernel's answers, one at a time, for threads that have no
//! runtime. I/O.

use std::io;
use std::marker::PhantomData;

use anyhow::{Context as _, Result, bail};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};

/// A dump that changes interrupt is tried this often.
const ATTEMPTS: u32 = 8;

/// A connection for messages of one protocol.
pub(super) struct Conversation<M> {
    socket: Socket,
    sequence: u32,
    messages: PhantomData<M>,
}

impl<M: NetlinkSerializable + NetlinkDeserializable + Clone> Conversation<M> {
    /// Connects in the current thread's network namespace.
    pub(super) fn open(protocol: isize) -> Result<Self> {
        let mut socket = Socket::new(protocol).context("open a netlink socket")?;
        socket.bind_auto().context("bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("connect to the kernel")?;
        Ok(Self { socket, sequence: 0, messages: PhantomData })
    }

    /// Everything that answers `request`, of one state of the table.
    pub(super) fn dump(&mut self, request: &M) -> Result<Vec<M>> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            if self.visit(request, |inner| found.push(inner))? {
                return Ok(found);
            }
        }
        bail!("the table changed during each of {ATTEMPTS} attempts")
    }

    /// Looks at everything that answers `request`, once. False: it was not of one state of the table.
    pub(super) fn visit(&mut self, request: &M, mut look: impl FnMut(M)) -> Result<bool> {
        self.send(request.clone(), NLM_F_DUMP)?;
        let (mut is_whole, mut done) = (true, false);
        while !done {
            for message in self.receive()? {
                is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => look(inner),
                    NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    NetlinkPayload::Overrun(_) => is_whole = false,
                    NetlinkPayload::Noop | _ => {}
                }
            }
        }
        Ok(is_whole)
    }

    /// The outer error is the connection's, the inner one the kernel's refusal.
    pub(super) fn execute(&mut self, request: M, flags: u16) -> Result<io::Result<()>> {
        self.send(request, NLM_F_ACK | flags)?;
        loop {
            for message in self.receive()? {
                if let NetlinkPayload::Error(error) = message.payload {
                    return Ok(if error.code.is_none() { Ok(()) } else { Err(error.to_io()) });
                }
            }
        }
    }

    fn send(&mut self, request: M, flags: u16) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let payload = NetlinkPayload::InnerMessage(request);
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).context("ask the kernel")?;
        Ok(())
    }

    /// The messages of one datagram that answer the last request.
    fn receive(&mut self) -> Result<Vec<NetlinkMessage<M>>> {
        let (bytes, _) = self.socket.recv_from_full().context("hear the kernel's answer")?;
        let mut messages = messages(&bytes)?;
        messages.retain(|message| message.header.sequence_number == self.sequence);
        Ok(messages)
    }
}

fn messages<M: NetlinkDeserializable>(bytes: &[u8]) -> Result<Vec<NetlinkMessage<M>>> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEADER_LEN {
        let message = NetlinkMessage::<M>::deserialize(rest).context("read the kernel's answer")?;
        let length = (message.header.length as usize).max(HEADER_LEN).next_multiple_of(4);
        messages.push(message);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(messages)
}

/// `struct nlmsghdr` of netlink(7).
const HEADER_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn several_messages_of_a_datagram_are_taken_apart() {
        let mut message =
            NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        message.finalize();
        let mut one = vec![0; message.buffer_len()];
        message.serialize(&mut one);
        let both = [one.clone(), one.clone()].concat();
        let count = |bytes: &[u8]| messages::<RouteNetlinkMessage>(bytes).unwrap().len();
        assert_eq!(count(&both), 2);
        assert_eq!(count(&both[..one.len()]), 1);
        assert_eq!(count(&[]), 0);
    }
}
