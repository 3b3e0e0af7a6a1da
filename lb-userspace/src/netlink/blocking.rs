//! The few requests that threads outside of the runtime make: links and addresses, read, watched and
//! changed. Called by `vrrp`'s thread for addresses, which must not wait for a tokio worker. I/O.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::conversation::Conversation;
use super::snapshot::{Address, Link};
use super::{FAMILIES, FOREVER, is_gone, parse, vip_message};

/// Groups of rtnetlink(7): links, IPv4 and IPv6 addresses.
const GROUPS: [u32; 3] = [1, 5, 9];
/// What of a burst of events waits in the kernel.
const EVENT_BUFFER: usize = 1 << 20;

/// A connection for requests, one at a time.
pub struct Requests(Conversation<RouteNetlinkMessage>);

impl Requests {
    /// Connects in the current thread's network namespace.
    pub fn open() -> Result<Self> {
        Conversation::open(NETLINK_ROUTE).map(Self)
    }

    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let found = self.0.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
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
            for found in self.0.dump(&RouteNetlinkMessage::GetAddress(message))? {
                if let RouteNetlinkMessage::NewAddress(address) = found {
                    addresses.extend(parse::address(&address));
                }
            }
        }
        Ok(addresses)
    }

    /// Adds a VIP as `Netlink::add_vip` does, for `valid` seconds. `false`: it was there, as something or
    /// other.
    pub fn add_vip(&mut self, ifindex: u32, vip: IpAddr, valid: u32) -> Result<bool> {
        match self.new_vip(ifindex, vip, valid, NLM_F_CREATE | NLM_F_EXCL)? {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            result => result.map(|()| true).with_context(|| format!("add the VIP {vip}")),
        }
    }

    /// Makes an address that is there one of a VIP's kind, for `valid` seconds more.
    pub fn correct_vip(&mut self, ifindex: u32, vip: IpAddr, valid: u32) -> Result<()> {
        let replaced = self.new_vip(ifindex, vip, valid, NLM_F_CREATE | NLM_F_REPLACE)?;
        replaced.with_context(|| format!("correct the VIP {vip}"))
    }

    /// Removes a VIP, as /32 or /128. `false`: it was not there.
    pub fn remove_vip(&mut self, ifindex: u32, vip: IpAddr) -> Result<bool> {
        let request = RouteNetlinkMessage::DelAddress(vip_message(ifindex, vip, FOREVER));
        match self.0.execute(request, 0)? {
            Err(error) if is_gone(&error) => Ok(false),
            result => result.map(|()| true).with_context(|| format!("remove the VIP {vip}")),
        }
    }

    fn new_vip(
        &mut self,
        ifindex: u32,
        vip: IpAddr,
        valid: u32,
        flags: u16,
    ) -> Result<io::Result<()>> {
        self.0.execute(RouteNetlinkMessage::NewAddress(vip_message(ifindex, vip, valid)), flags)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_without_privileges() {
        let mut requests = Requests::open().unwrap();
        let links = requests.links().unwrap();
        assert!(links.iter().any(|link| link.loopback), "{links:?}");
        requests.addresses().unwrap();
        assert!(!Events::subscribe().unwrap().drain());
    }
}
