//! Whether full frames get to the backends and back: echo requests as long as the interface lets through, that
//! nobody may cut (DF), beside short ones. I/O.
//!
//! A backend that answers the short ones alone is behind something that drops long packets and does not say so. One
//! that answers none may have been told not to.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use lb_common::checksum;
use socket2::{Domain, Protocol, Socket, Type};

use super::apiservers::Target;
use crate::netlink::snapshot::{Hop, Resolution, Snapshot};

/// Two attempts, each this long.
const PAUSE: Duration = Duration::from_millis(450);
const ATTEMPTS: u32 = 2;
/// Addresses that are asked, and messages that are read.
const MOST: usize = 64;
const MOST_READ: usize = 4096;
/// Of ICMP's header (RFC 792, RFC 4443): type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Of an IP header without options.
const IPV4: usize = 20;
const IPV6: usize = 40;
/// What a short request carries.
const SHORT: usize = 32;
const REPLY_V4: u8 = 0;
const REQUEST_V4: u8 = 8;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// What one address answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echo {
    /// Bytes of the long packet, IP header included.
    pub length: u32,
    pub short: bool,
    pub long: bool,
}

/// Asks every backend's address; needs CAP_NET_RAW. Blocks for less than a second.
pub(super) fn ask(snapshot: &Snapshot, targets: &[Target]) -> BTreeMap<IpAddr, Echo> {
    let mut echoes: BTreeMap<IpAddr, Echo> = BTreeMap::new();
    for address in targets.iter().map(|target| target.endpoint.ip()) {
        if echoes.len() < MOST
            && let Some(length) = mtu(snapshot, address)
        {
            echoes.insert(address, Echo { length, ..Echo::default() });
        }
    }
    let (mut v4, mut v6): (BTreeMap<_, _>, BTreeMap<_, _>) =
        echoes.into_iter().partition(|(address, _)| address.is_ipv4());
    std::thread::scope(|scope| {
        scope.spawn(|| of_family(&mut v4));
        of_family(&mut v6);
    });
    v4.append(&mut v6);
    v4
}

/// Of the interface that leads to an address; `None`: it is this node's, or nothing leads there.
fn mtu(snapshot: &Snapshot, address: IpAddr) -> Option<u32> {
    let interface = match snapshot.next_hop(address) {
        Resolution::Known(Hop { through, .. }) => through,
        Resolution::Unresolved { ifindex, .. } | Resolution::Failed { ifindex, .. } => ifindex,
        Resolution::NoRoute | Resolution::Local => return None,
    };
    snapshot.links.get(&interface).map(|link| link.mtu)
}

/// Asks those of one family. What could not be asked has not answered, and nothing follows from that.
fn of_family(echoes: &mut BTreeMap<IpAddr, Echo>) {
    let Some(first) = echoes.keys().next().copied() else { return };
    let socket = match open(first) {
        Ok(socket) => socket,
        Err(error) => return log::debug!("echo requests: {error}"),
    };
    for _ in 0..ATTEMPTS {
        for (address, echo) in &*echoes {
            let header = if address.is_ipv4() { IPV4 } else { IPV6 };
            let long = (echo.length as usize).saturating_sub(header + HEADER);
            for (payload, is_answered) in [(SHORT, echo.short), (long, echo.long)] {
                if !is_answered {
                    // A long one may be refused at once, by what the kernel has learned of the way.
                    let message = request(address.is_ipv4(), payload);
                    let _ = socket.send_to(&message, &SocketAddr::new(*address, 0).into());
                }
            }
        }
        hear(&socket, echoes);
    }
}

/// One that lets nobody cut its packets, whatever is known of the way (`IP_PMTUDISC_PROBE` of ip(7)).
fn open(address: IpAddr) -> std::io::Result<Socket> {
    let (protocol, level, option, probe) = match address {
        IpAddr::V4(_) => {
            (Protocol::ICMPV4, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        }
        IpAddr::V6(_) => (
            Protocol::ICMPV6,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        ),
    };
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    let (value, length) = (&raw const probe, libc::socklen_t::try_from(size_of_val(&probe)));
    let length = length.map_err(std::io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of an integer; the socket is open.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), length) };
    if result == 0 { Ok(socket) } else { Err(std::io::Error::last_os_error()) }
}

/// Reads answers for a while.
#[expect(clippy::disallowed_methods, reason = "it waits until a moment")]
fn hear(socket: &Socket, echoes: &mut BTreeMap<IpAddr, Echo>) {
    let until = Instant::now() + PAUSE;
    let mut buffer = vec![MaybeUninit::uninit(); 65_536];
    for _ in 0..MOST_READ {
        let left = until.saturating_duration_since(Instant::now());
        let is_done = echoes.values().all(|echo| echo.short && echo.long);
        if left.is_zero() || is_done || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        // SAFETY: as many bytes as were received were written.
        let bytes = unsafe { buffer[..length].assume_init_ref() };
        let Some(from) = from.as_socket().map(|from| from.ip()) else { continue };
        let (Some(echo), Some(payload)) = (echoes.get_mut(&from), reply(from.is_ipv4(), bytes))
        else {
            continue;
        };
        if payload == SHORT { echo.short = true } else { echo.long = true }
    }
}

/// What tells our answers from others'.
fn identifier() -> [u8; 2] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [high, low]
}

/// An echo request. The checksum of ICMPv6 is the kernel's to fill in.
fn request(v4: bool, payload: usize) -> Vec<u8> {
    let mut message = vec![0; HEADER + payload];
    message[0] = if v4 { REQUEST_V4 } else { REQUEST_V6 };
    message[4..6].copy_from_slice(&identifier());
    if v4 {
        let sum = !checksum::fold(checksum::add_bytes(0, &message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// What an answer to us carries, in bytes. IPv4's come with their IP header.
fn reply(v4: bool, bytes: &[u8]) -> Option<usize> {
    let header = if v4 { usize::from(bytes.first()? & 0xf) * 4 } else { 0 };
    let message = bytes.get(header..)?;
    let is_ours = *message.first()? == if v4 { REPLY_V4 } else { REPLY_V6 }
        && message.get(4..6)? == identifier();
    is_ours.then(|| message.len().saturating_sub(HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_a_request_and_from_others_answers() {
        for v4 in [true, false] {
            let mut message = request(v4, 100);
            let header = if v4 { vec![0x45; IPV4] } else { Vec::new() };
            let with_header = |message: &[u8]| [&header[..], message].concat();
            assert_eq!(reply(v4, &with_header(&message)), None);
            message[0] = if v4 { REPLY_V4 } else { REPLY_V6 };
            assert_eq!(reply(v4, &with_header(&message)), Some(100));
            message[5] ^= 1;
            assert_eq!(reply(v4, &with_header(&message)), None);
            assert_eq!(reply(v4, &[]), None);
        }
    }
}
