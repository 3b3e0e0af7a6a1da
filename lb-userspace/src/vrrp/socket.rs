//! One raw socket for the VRRP messages of an interface in one family. Used by the VRRP thread. I/O.
//!
//! It hears multicasts and unicasts alike; which of them an instance wants is the settings' matter. It
//! sends from the address that it is told, which must be the node's own and no VIP. A [`Membership`] in
//! VRRP's group is a socket of its own, since joining waits for the kernel's lock of all interfaces.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Type};

use super::packet::{MULTICAST_V4, MULTICAST_V6, PROTOCOL, TTL};
use super::{Envelope, Nanos, clock};
use crate::config::Family;

mod send;

const HOPS: u32 = TTL as u32;
/// Internetwork control, as routing protocols have (RFC 791 3.1).
const INTERNET_CONTROL: u32 = 0xc0;
/// `TC_PRIO_CONTROL` of linux/pkt_sched.h: ahead of everything else in the interface's queue.
const PRIORITY_CONTROL: u32 = 7;
/// A flood is lost in the kernel, not piled up here.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// A message is judged by when it came, if that can be known; older than this it cannot.
const OLDEST: u64 = 60_000_000_000;

/// A socket that is bound to an interface.
#[derive(Debug)]
pub struct Socket {
    socket: socket2::Socket,
    family: Family,
    ifindex: u32,
    control: Vec<u8>,
}

/// What is known of a received message beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where in the buffer the VRRP message is, padding of the frame left out.
    pub message: Range<usize>,
    pub envelope: Envelope,
    /// When the kernel received it.
    pub at: Nanos,
}

impl Socket {
    /// Opens one for an interface, in the current thread's network namespace; needs CAP_NET_RAW.
    pub fn open(family: Family, interface: &str, ifindex: u32) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let socket = socket2::Socket::new(domain(family), kind, Some(protocol))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        match family {
            Family::V4 => {
                socket.set_ttl_v4(HOPS)?;
                socket.set_multicast_ttl_v4(HOPS)?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_tos_v4(INTERNET_CONTROL)?;
            }
            Family::V6 => {
                socket.set_unicast_hops_v6(HOPS)?;
                socket.set_multicast_hops_v6(HOPS)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_if_v6(ifindex)?;
                socket.set_tclass_v6(INTERNET_CONTROL)?;
                socket.set_recv_hoplimit_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        // Setting the type of service has chosen another one.
        socket.set_priority(PRIORITY_CONTROL)?;
        let control = cmsg_space!(TimeSpec, libc::in6_pktinfo, libc::c_int);
        Ok(Self { socket, family, ifindex, control })
    }

    /// Sends a message from `source` to VRRP's group or to a peer. Allocates nothing.
    pub fn send(&self, message: &[u8], source: IpAddr, destination: IpAddr) -> io::Result<()> {
        let sent = send::from(self.as_fd(), message, self.ifindex, source, destination)?;
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next message that waits; `None`: there is none.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let received =
            match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), flags) {
                Ok(received) => received,
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        let (mut at, mut ttl, mut destination) = (clock::now(), 0, None);
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmTimestampns(stamp) = message {
                at = clock::when(stamp, OLDEST);
            } else if let ControlMessageOwned::Ipv6HopLimit(hops) = message {
                ttl = u8::try_from(hops).unwrap_or(0);
            } else if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
                destination = Some(IpAddr::from(info.ipi6_addr.s6_addr));
            }
        }
        let length = received.bytes;
        let sender = received.address.as_ref();
        let source6 = sender.and_then(SockaddrStorage::as_sockaddr_in6).map(SockaddrIn6::ip);
        if self.family == Family::V4 {
            return Ok(Some(of_ipv4(buffer.get(..length).unwrap_or_default(), at)));
        }
        let source = IpAddr::V6(source6.unwrap_or(Ipv6Addr::UNSPECIFIED));
        let destination = destination.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let envelope = Envelope { source, destination, ttl };
        Ok(Some(Received { message: 0..length, envelope, at }))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads the header, which raw sockets of IPv4 hand over too: the kernel has checked it (RFC 791 3.1).
fn of_ipv4(packet: &[u8], at: Nanos) -> Received {
    let byte = |index: usize| packet.get(index).copied().unwrap_or(0);
    let address = |start: usize| {
        IpAddr::from([byte(start), byte(start + 1), byte(start + 2), byte(start + 3)])
    };
    let header = usize::from(byte(0) & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([byte(2), byte(3)])).min(packet.len());
    Received {
        message: header.min(total)..total,
        envelope: Envelope { source: address(12), destination: address(16), ttl: byte(8) },
        at,
    }
}

/// An interface's membership in VRRP's group, for as long as this lives.
#[derive(Debug)]
pub struct Membership {
    socket: socket2::Socket,
    family: Family,
    ifindex: u32,
}

impl Membership {
    pub fn join(family: Family, ifindex: u32) -> io::Result<Self> {
        let socket = socket2::Socket::new(domain(family), Type::DGRAM.cloexec(), None)?;
        let membership = Self { socket, family, ifindex };
        membership.enter()?;
        Ok(membership)
    }

    /// Leaves the group and joins it anew, which makes the kernel tell switches that snoop.
    pub fn renew(&self) -> io::Result<()> {
        let interface = InterfaceIndexOrAddress::Index(self.ifindex);
        // It may not be in the group: the kernel forgets that with the interface.
        let _ = match self.family {
            Family::V4 => self.socket.leave_multicast_v4_n(&MULTICAST_V4, &interface),
            Family::V6 => self.socket.leave_multicast_v6(&MULTICAST_V6, self.ifindex),
        };
        self.enter()
    }

    fn enter(&self) -> io::Result<()> {
        match self.family {
            Family::V4 => {
                let interface = InterfaceIndexOrAddress::Index(self.ifindex);
                self.socket.join_multicast_v4_n(&MULTICAST_V4, &interface)
            }
            Family::V6 => self.socket.join_multicast_v6(&MULTICAST_V6, self.ifindex),
        }
    }
}

const fn domain(family: Family) -> Domain {
    match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_ipv4_says_where_the_message_is_and_padding_is_left_out() {
        let mut packet = vec![0x46, 0xc0, 0, 32, 0, 1, 0, 0, 255, 112, 0, 0, 10, 0, 0, 1];
        packet.extend([224, 0, 0, 18, 0x94, 4, 0, 0]);
        packet.extend([0x31, 51, 100, 1, 0, 100, 0, 0]);
        packet.extend([0; 14]);
        let received = of_ipv4(&packet, Nanos(7));
        assert_eq!(received.message, 24..32);
        assert_eq!(received.envelope.source, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(received.envelope.destination, IpAddr::V4(MULTICAST_V4));
        assert_eq!((received.envelope.ttl, received.at), (255, Nanos(7)));
    }

    #[test]
    fn a_header_that_lies_leads_nowhere_else() {
        assert_eq!(of_ipv4(&[], Nanos(0)).message, 0..0);
        let long = [0x4f, 0, 0xff, 0xff, 0, 0, 0, 0, 255, 112, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
        assert_eq!(of_ipv4(&long, Nanos(0)).message, 20..20);
    }
}
