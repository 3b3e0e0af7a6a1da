//! The few requests that threads outside of the runtime make: links and addresses, read, watched and
//! changed. Called by `vrrp`'s thread for addresses, which must not wait for a tokio worker. I/O.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::request::Message;
use super::snapshot::{Address, Link};
use super::{FAMILIES, is_gone, parse, vip_message};

/// Groups of rtnetlink(7): links, IPv4 and IPv6 addresses.
const GROUPS: [u32; 3] = [1, 5, 9];
/// A dump that changes interrupt is tried this often.
const ATTEMPTS: u32 = 8;
/// What of a burst of events waits in the kernel.
const EVENT_BUFFER: usize = 1 << 20;

/// A connection for requests, one at a time.
pub struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    /// Connects in the current thread's network namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto().context("bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("connect to the kernel")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let found = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let link = |message: &RouteNetlinkMessage| {
            let RouteNetlinkMessage::NewLink(link) = message else { return None };
            Some(parse::link(link))
        };
        Ok(found.iter().filter_map(link).collect())
    }

    /// All addresses, of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        for family in FAMILIES {
            let mut message = AddressMessage::default();
            message.header.family = family;
            for found in self.dump(RouteNetlinkMessage::GetAddress(message))? {
                if let RouteNetlinkMessage::NewAddress(address) = found {
                    addresses.extend(parse::address(&address));
                }
            }
        }
        Ok(addresses)
    }

    /// Adds a VIP as `Netlink::add_vip` does. `false`: it was there, as something or other.
    pub fn add_vip(&mut self, ifindex: u32, vip: IpAddr) -> Result<bool> {
        match self.new_vip(ifindex, vip, NLM_F_CREATE | NLM_F_EXCL)? {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            result => result.map(|()| true).with_context(|| format!("add the VIP {vip}")),
        }
    }

    /// Makes an address that is there one of a VIP's kind.
    pub fn correct_vip(&mut self, ifindex: u32, vip: IpAddr) -> Result<()> {
        let replaced = self.new_vip(ifindex, vip, NLM_F_CREATE | NLM_F_REPLACE)?;
        replaced.with_context(|| format!("correct the VIP {vip}"))
    }

    /// Removes a VIP, as /32 or /128. `false`: it was not there.
    pub fn remove_vip(&mut self, ifindex: u32, vip: IpAddr) -> Result<bool> {
        let request = RouteNetlinkMessage::DelAddress(vip_message(ifindex, vip));
        match self.execute(request, 0)? {
            Err(error) if is_gone(&error) => Ok(false),
            result => result.map(|()| true).with_context(|| format!("remove the VIP {vip}")),
        }
    }

    fn new_vip(&mut self, ifindex: u32, vip: IpAddr, flags: u16) -> Result<io::Result<()>> {
        self.execute(RouteNetlinkMessage::NewAddress(vip_message(ifindex, vip)), flags)
    }

    fn dump(&mut self, request: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..ATTEMPTS {
            self.send(request.clone(), NLM_F_DUMP)?;
            let (mut found, mut interrupted) = (Vec::new(), false);
            loop {
                let mut done = false;
                for message in self.receive()? {
                    interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                    match message.payload {
                        NetlinkPayload::InnerMessage(inner) => found.push(inner),
                        NetlinkPayload::Done(_) => done = true,
                        NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                        NetlinkPayload::Overrun(_) => interrupted = true,
                        NetlinkPayload::Noop | _ => {}
                    }
                }
                if done {
                    break;
                }
            }
            if !interrupted {
                return Ok(found);
            }
        }
        bail!("the table changed during each of {ATTEMPTS} attempts")
    }

    /// The outer error is the connection's, the inner one the kernel's refusal.
    fn execute(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<io::Result<()>> {
        self.send(request, NLM_F_ACK | flags)?;
        loop {
            for message in self.receive()? {
                if let NetlinkPayload::Error(error) = message.payload {
                    return Ok(if error.code.is_none() { Ok(()) } else { Err(error.to_io()) });
                }
            }
        }
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).context("ask the kernel")?;
        Ok(())
    }

    /// The messages of one datagram that answer the last request.
    fn receive(&mut self) -> Result<Vec<Message>> {
        let (bytes, _) = self.socket.recv_from_full().context("hear the kernel's answer")?;
        let mut messages = messages(&bytes)?;
        messages.retain(|message| message.header.sequence_number == self.sequence);
        Ok(messages)
    }
}

/// A subscription to changes of links and addresses.
pub struct Events(Socket);

impl Events {
    /// Subscribes in the current thread's network namespace.
    pub fn subscribe() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto().context("bind a netlink socket")?;
        for group in GROUPS {
            socket.add_membership(group).context("subscribe to changes of addresses")?;
        }
        socket.set_non_blocking(true).context("make a netlink socket non-blocking")?;
        // As large as is allowed: what is lost is found by looking at everything.
        let _ = socket.set_rx_buf_sz(EVENT_BUFFER);
        Ok(Self(socket))
    }

    /// Takes what has come. `true`: something changed, or may have.
    pub fn drain(&self) -> bool {
        let mut changed = false;
        let mut bytes = Vec::with_capacity(64 * 1024);
        loop {
            bytes.clear();
            match self.0.recv(&mut bytes, 0) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An overrun may hide anything.
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the socket that is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

fn messages(bytes: &[u8]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEADER_LEN {
        let message = Message::deserialize(rest).context("read the kernel's answer")?;
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
    use super::*;

    #[test]
    fn several_messages_of_a_datagram_are_taken_apart() {
        let mut message = Message::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        message.finalize();
        let mut one = vec![0; message.buffer_len()];
        message.serialize(&mut one);
        let both = [one.clone(), one.clone()].concat();
        assert_eq!(messages(&both).unwrap().len(), 2);
        assert_eq!(messages(&both[..one.len()]).unwrap().len(), 1);
        assert_eq!(messages(&[]).unwrap().len(), 0);
    }

    #[test]
    fn the_loopback_is_found_without_privileges() {
        let mut requests = Requests::open().unwrap();
        let links = requests.links().unwrap();
        assert!(links.iter().any(|link| link.loopback), "{links:?}");
        requests.addresses().unwrap();
        assert!(!Events::subscribe().unwrap().drain());
    }
}
