//! TCP sockets of a network namespace: what a BPF map keeps with them, and their end (sock_diag(7),
//! `SOCK_DESTROY` of Linux 4.5). Called by the thread that ends connections of local clients. I/O.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use super::conversation::Conversation;
use packet::{Answer, Request};

mod packet;

pub use packet::SocketId;

/// A dump that changes interrupt may lack sockets: it is looked at again this often at most.
const PASSES: u32 = 3;

/// A connection for questions about sockets, one at a time.
pub struct SockDiag(Conversation<packet::Message>);

impl SockDiag {
    /// Connects in the current thread's network namespace.
    pub fn open() -> Result<Self> {
        Conversation::open(NETLINK_SOCK_DIAG).map(Self)
    }

    /// The sockets with a connection to this endpoint, those that are only opening theirs included, with
    /// which a socket storage keeps something: in `map`, a descriptor of it.
    ///
    /// Passes what it keeps. CAP_NET_ADMIN and CAP_BPF are needed.
    pub fn connected(
        &mut self,
        to: SocketAddr,
        map: u32,
        mut look: impl FnMut(SocketId, &[u8]),
    ) -> Result<()> {
        // A socket of IPv6 may have a connection over IPv4.
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).context("a family is a byte")?;
            let request = packet::Message::Request(Request::dump(family, to.port(), map));
            for _ in 0..PASSES {
                let is_whole = self.0.visit(&request, |message| {
                    // What is kept may be of an earlier connection of the socket.
                    if let packet::Message::Answer(Answer { id, kept: Some(kept) }) = message
                        && id.destination() == to
                    {
                        look(id, &kept);
                    }
                });
                if is_whole.context("looking at the sockets")? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends a connection: its other end gets a RST, and who reads or writes ECONNABORTED. False: it has
    /// ended already.
    pub fn destroy(&mut self, id: &SocketId) -> Result<bool> {
        let request = packet::Message::Request(Request::destroy(id));
        match self.0.execute(request, 0)? {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(explain(error)),
        }
    }
}

fn explain(error: io::Error) -> anyhow::Error {
    let why = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "this kernel ends no sockets (CONFIG_INET_DIAG_DESTROY): they end by their own timeouts"
        }
        _ => "ending a socket",
    };
    anyhow::Error::new(error).context(why)
}
