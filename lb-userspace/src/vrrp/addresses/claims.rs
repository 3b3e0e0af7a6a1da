//! Listens for hosts that say to have a VIP. The kernel hands over nothing else, and nobody is listened to
//! more often than once a second: a flood of claims costs what its filter costs. I/O.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use arrayvec::ArrayVec;
use lb_common::link::Mac;
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use super::super::Nanos;
use super::super::claim::{self, Claim, Instruction};
use crate::config::Family;

/// Packets of a family that are read at once.
pub(super) const AT_ONCE: usize = 64;
/// Until the next look, once something was heard.
const PAUSE: u64 = 1_000_000_000;
/// A flood is lost in the kernel.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// As much as a filter takes of a packet.
const PACKET: usize = 128;

/// A claim, and the interface that it was heard on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) ifindex: u32,
    pub(crate) claim: Claim,
}

/// What was heard at once.
pub(super) type Claims = ArrayVec<Heard, { 2 * AT_ONCE }>;

/// The sockets, of each family that there are VIPs in.
#[derive(Debug, Default)]
pub(super) struct Ears {
    arp: Option<Socket>,
    advertisements: Option<Socket>,
    /// Not before.
    from: Nanos,
}

impl Ears {
    /// Listens for claims of these VIPs, in place of those before.
    pub(super) fn listen_for(&mut self, vips: &[IpAddr]) -> io::Result<()> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for vip in vips {
            match vip {
                IpAddr::V4(vip) => v4.push(*vip),
                IpAddr::V6(vip) => v6.push(*vip),
            }
        }
        retune(&mut self.arp, libc::ETH_P_ARP, !v4.is_empty(), &claim::arp_filter(&v4))?;
        let filter = claim::advertisement_filter(&v6);
        retune(&mut self.advertisements, libc::ETH_P_IPV6, !v6.is_empty(), &filter)
    }

    /// What to wait for, besides an instant.
    pub(super) fn fds(&self, now: Nanos) -> impl Iterator<Item = BorrowedFd<'_>> {
        let is_open = now >= self.from;
        let sockets = [&self.arp, &self.advertisements];
        sockets.into_iter().flatten().filter(move |_| is_open).map(|socket| socket.as_fd())
    }

    /// When something may have to be heard that does not end a wait yet.
    pub(super) fn deadline(&self, now: Nanos) -> Option<Nanos> {
        (now < self.from).then_some(self.from)
    }

    /// The claims that wait, of each family so many at most.
    pub(super) fn hear(&mut self, now: Nanos) -> Claims {
        let mut heard = Claims::new();
        if now < self.from {
            return heard;
        }
        for (socket, family) in [(&self.arp, Family::V4), (&self.advertisements, Family::V6)] {
            let Some(socket) = socket else { continue };
            for _ in 0..AT_ONCE {
                match receive(socket, family) {
                    Ok(claim) => heard.extend(claim),
                    // Nothing is left; or the interface is gone, which is seen elsewhere.
                    Err(_) => break,
                }
            }
        }
        if !heard.is_empty() {
            self.from = Nanos(now.0 + PAUSE);
        }
        heard
    }
}

/// Opens or closes a socket, or gives it another filter. It receives nothing before it has one.
fn retune(
    slot: &mut Option<Socket>,
    protocol: libc::c_int,
    is_wanted: bool,
    filter: &[Instruction],
) -> io::Result<()> {
    if !is_wanted {
        *slot = None;
        return Ok(());
    }
    if let Some(socket) = slot {
        return socket.attach_filter(&instructions(filter));
    }
    *slot = Some(open(protocol, filter)?);
    Ok(())
}

/// A socket for what of an EtherType passes a filter, on every interface.
pub(crate) fn open(protocol: libc::c_int, filter: &[Instruction]) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.attach_filter(&instructions(filter))?;
    socket.bind(&every_interface(protocol))?;
    Ok(socket)
}

fn instructions(filter: &[Instruction]) -> Vec<SockFilter> {
    let filter = filter.iter();
    filter.map(|it| SockFilter::new(it.code, it.jump_true, it.jump_false, it.operand)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "17, 20 and an EtherType")]
fn every_interface(protocol: libc::c_int) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address types that the storage is for, integers only.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = (protocol as u16).to_be();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds a sockaddr_ll with its family set, of this length.
    unsafe { SockAddr::new(storage, length) }
}

/// `None`: what is there claims nothing.
pub(crate) fn receive(socket: &Socket, family: Family) -> Result<Option<Heard>, Errno> {
    let mut buffer = [0; PACKET];
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
    let Some(from) = from else { return Ok(None) };
    let packet = buffer.get(..length).unwrap_or_default();
    let claim = match family {
        Family::V4 => claim::of_arp(packet),
        Family::V6 => claim::of_ipv6(packet, from.addr().map(Mac).unwrap_or_default()),
    };
    let ifindex = u32::try_from(from.ifindex()).unwrap_or(0);
    Ok(claim.map(|claim| Heard { ifindex, claim }))
}
