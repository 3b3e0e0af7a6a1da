//! sendmsg(2) from a given address, with what that takes on the stack: crates for it allocate. I/O.

use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike as _};

/// Room for the control message of either family, aligned as its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// How many bytes were sent; never waits.
///
/// # Errors
/// The addresses are of two families, or what the kernel says.
pub(super) fn from(
    socket: BorrowedFd<'_>,
    message: &[u8],
    ifindex: u32,
    source: IpAddr,
    destination: IpAddr,
) -> io::Result<usize> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let to = SockaddrIn::from(SocketAddrV4::new(destination, 0));
            let kind = (libc::IPPROTO_IP, libc::IP_PKTINFO);
            send(socket, message, (to.as_ptr(), to.len()), kind, info)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                ipi6_ifindex: ifindex,
            };
            let to = SockaddrIn6::from(SocketAddrV6::new(destination, 0, 0, ifindex));
            let kind = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
            send(socket, message, (to.as_ptr(), to.len()), kind, info)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

/// `to` has to be valid for the time of the call; `T` is what the kernel expects for the level and type.
fn send<T: Copy>(
    socket: BorrowedFd<'_>,
    message: &[u8],
    to: (*const libc::sockaddr, libc::socklen_t),
    (level, kind): (libc::c_int, libc::c_int),
    info: T,
) -> io::Result<usize> {
    let size = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let mut control = Control([0; 64]);
    let mut part =
        libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = to.0.cast_mut().cast();
    header.msg_namelen = to.1;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    // SAFETY: only computes.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    if space as usize > size_of::<Control>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    header.msg_controllen = space as usize;
    // SAFETY: `control` is aligned for the header and has room for it and a `T` (checked above), so
    // CMSG_FIRSTHDR and CMSG_DATA point into it.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_len = length as usize;
        (*first).cmsg_level = level;
        (*first).cmsg_type = kind;
        ptr::write_unaligned(libc::CMSG_DATA(first).cast::<T>(), info);
    }
    // SAFETY: all that `header` points to outlives the call, and the kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::allocations;

    /// A raw socket takes root; what is sent from which address is the same for any.
    #[test]
    fn a_message_comes_from_the_address_that_was_asked_for_and_costs_no_memory() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(to.local_addr().unwrap()).unwrap();
        // The port stays that of the connection: the address alone is given.
        let source = Ipv4Addr::new(127, 0, 0, 77);
        let before = allocations::count();
        let sent = send_connected(&socket, b"hello", source);
        assert_eq!(allocations::count(), before);
        assert_eq!(sent.unwrap(), 5);
        let mut buffer = [0; 16];
        let (length, from) = to.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"hello"[..], IpAddr::V4(source)));
    }

    fn send_connected(socket: &UdpSocket, message: &[u8], source: Ipv4Addr) -> io::Result<usize> {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let kind = (libc::IPPROTO_IP, libc::IP_PKTINFO);
        send(socket.as_fd(), message, (ptr::null(), 0), kind, info)
    }

    #[test]
    fn families_do_not_mix() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sent =
            from(socket.as_fd(), b"x", 1, IpAddr::from([10, 0, 0, 1]), "fe80::1".parse().unwrap());
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
