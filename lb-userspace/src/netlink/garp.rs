//! Frames sent as they are: announcements of VIPs (`vrrp::announce`), resets of idle clients
//! (`control::reset_frame`). I/O.

use std::io;
use std::sync::OnceLock;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

/// A socket that sends Ethernet frames, header included, and receives nothing.
pub struct FrameSocket(Socket);

impl FrameSocket {
    /// Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        // Protocol 0: nothing is received.
        Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None).map(Self)
    }

    /// Sends a frame out of an interface.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let sent = self.0.send_to(frame, &link_address(ifindex)?)?;
        if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Sends a single frame, by a socket that is opened once: the kernel lets who closes one wait until every
/// CPU has noticed, which takes some milliseconds.
pub fn send_frame(ifindex: u32, frame: &[u8]) -> io::Result<()> {
    static SOCKET: OnceLock<FrameSocket> = OnceLock::new();
    let socket = match SOCKET.get() {
        Some(socket) => socket,
        None => {
            let opened = FrameSocket::open()?;
            SOCKET.get_or_init(|| opened)
        }
    };
    socket.send(ifindex, frame)
}

fn link_address(ifindex: u32) -> io::Result<SockAddr> {
    let no_index = |_| io::Error::new(io::ErrorKind::InvalidInput, "not an interface index");
    let ifindex = i32::try_from(ifindex).map_err(no_index)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address types that the storage is for, integers only.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = FAMILY;
    link.sll_ifindex = ifindex;
    // SAFETY: the storage holds a sockaddr_ll with its family set, of this length.
    Ok(unsafe { SockAddr::new(storage, LENGTH) })
}

#[expect(clippy::cast_possible_truncation, reason = "17")]
const FAMILY: u16 = libc::AF_PACKET as u16;

#[expect(clippy::cast_possible_truncation, reason = "20")]
const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_names_only_the_interface() {
        let address = link_address(7).unwrap();
        assert_eq!((address.family(), address.len()), (FAMILY, LENGTH));
        assert_eq!(link_address(u32::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
