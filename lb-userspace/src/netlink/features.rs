//! What an interface's driver can do for XDP, by the generic netlink family `netdev` of Linux 6.3 and
//! newer. Called where XDP attaches. I/O.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

// linux/netlink.h, linux/genetlink.h, linux/netdev.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1 << 0;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 1 << 2;

/// Lengths of `struct nlmsghdr`, `genlmsghdr` and `nlattr`.
const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// Whether native XDP can redirect frames to an interface (`ndo_xdp_xmit`); `None`: this kernel does
/// not say.
pub fn sends_redirected(ifindex: u32) -> Result<Option<bool>> {
    let context = || format!("ask what interface {ifindex} can do for XDP");
    features(ifindex)
        .map(|features| features.map(|bits| bits & NETDEV_XDP_ACT_NDO_XMIT != 0))
        .with_context(context)
}

/// Whether the driver has XDP of its own; `None`: this kernel does not say.
pub fn has_native(ifindex: u32) -> Result<Option<bool>> {
    let context = || format!("ask what interface {ifindex} can do for XDP");
    features(ifindex)
        .map(|features| features.map(|bits| bits & NETDEV_XDP_ACT_BASIC != 0))
        .with_context(context)
}

fn features(ifindex: u32) -> io::Result<Option<u64>> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW.cloexec(),
        Some(Protocol::from(libc::NETLINK_GENERIC)),
    )?;
    // The kernel answers before it returns from the request.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = match ask(&socket, &request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        answer => find(&answer?, CTRL_ATTR_FAMILY_ID),
    };
    let Some(family) = family.and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?))) else {
        return Ok(None);
    };
    let index = attribute(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let answer = ask(&socket, &request(family, NETDEV_CMD_DEV_GET, &index))?;
    let bits = find(&answer, NETDEV_A_DEV_XDP_FEATURES);
    Ok(bits.and_then(|bits| Some(u64::from_ne_bytes(bits.try_into().ok()?))))
}

fn ask(socket: &Socket, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(request)?;
    let mut buffer = [const { MaybeUninit::uninit() }; 8192];
    let length = socket.recv(&mut buffer)?;
    let answer: Vec<u8> = buffer[..length]
        .iter()
        // SAFETY: the kernel has written so many bytes.
        .map(|byte| unsafe { byte.assume_init() })
        .collect();
    refusal(&answer).map_or(Ok(answer), Err)
}

fn request(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = MESSAGE_HEADER + GENERIC_HEADER + attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number, port, then the generic header with version 1.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    message
}

/// Padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The error that a message is.
fn refusal(message: &[u8]) -> Option<io::Error> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(message.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR && code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// The value of an attribute of a message.
fn find(message: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut rest = message.get(MESSAGE_HEADER + GENERIC_HEADER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(0..2)?.try_into().ok()?));
        let found = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        if found == kind {
            return Some(value.to_vec());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_among_others() {
        let attributes =
            [attribute(1, &[7]), attribute(2, b"netdev\0"), attribute(3, &9u64.to_ne_bytes())];
        let message = request(16, 1, &attributes.concat());
        assert_eq!(message.len(), 20 + 8 + 12 + 12);
        assert_eq!(find(&message, 1), Some(vec![7]));
        assert_eq!(find(&message, 3), Some(9u64.to_ne_bytes().to_vec()));
        assert_eq!(find(&message, 4), None);
    }

    #[test]
    fn broken_messages_have_nothing() {
        let whole = request(16, 1, &attribute(3, &[1; 8]));
        for length in 0..whole.len() {
            assert_eq!(find(&whole[..length], 3), None, "{length}");
        }
        // An attribute shorter than its header would never end.
        let mut endless = request(16, 1, &[0; 8]);
        endless[20] = 0;
        assert_eq!(find(&endless, 3), None);
    }

    #[test]
    fn an_error_is_a_refusal_and_an_acknowledgement_is_none() {
        let mut message = request(NLMSG_ERROR, 0, &[]);
        message[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(refusal(&message).and_then(|it| it.raw_os_error()), Some(libc::ENOENT));
        message[16..20].fill(0);
        assert!(refusal(&message).is_none());
        assert!(refusal(&[]).is_none());
    }

    #[test]
    fn the_loopback_interface_is_asked_without_error() {
        assert!(matches!(sends_redirected(1), Ok(None | Some(false))));
        assert!(sends_redirected(u32::MAX).is_err() || features(1).unwrap().is_none());
    }
}
