//! Frames sent as they are, for gratuitous ARP (`vrrp::announce`). Called by who announces a VIP. I/O.

use std::io;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

/// Sends an Ethernet frame, header included, out of an interface; needs CAP_NET_RAW.
pub fn send_frame(ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // Protocol 0: the socket receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
    let sent = socket.send_to(frame, &link_address(ifindex)?)?;
    if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
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
