//! The wire of sock_diag(7), as far as TCP sockets and what BPF keeps with them. No I/O; messages in the form that rtnetlink has them.
//!
//! ```text
//!   inet_diag_req_v2 (56 bytes)                    inet_diag_msg (72 bytes)
//!  0 family  protocol  extensions  pad            0 family  state  timer  retransmissions
//!  4 states, a bit each                           4 inet_diag_sockid
//!  8 inet_diag_sockid                            52 expires, queues, user, inode
//!
//!   inet_diag_sockid (48 bytes)
//!  0 source port, destination port               36 interface
//!  4 source, 16 bytes; 20 destination            40 cookie
//! ```
//! Attributes follow. linux/inet_diag.h, linux/sock_diag.h.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtnetlink::packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `INET_DIAG_REQ_SK_BPF_STORAGES` with `SK_DIAG_BPF_STORAGE_REQ_MAP_FD` in it.
const ASK_FOR_STORAGES: u16 = 2;
const STORAGE_OF_MAP: u16 = 1;
/// `INET_DIAG_SK_BPF_STORAGES` with `SK_DIAG_BPF_STORAGE` in it, and in that the value.
const STORAGES: u16 = 20;
const STORAGE: u16 = 1;
const STORAGE_VALUE: u16 = 3;

const REQUEST_LEN: usize = 56;
const ANSWER_LEN: usize = 72;
const ID_LEN: usize = 48;
/// Of an attribute: length and kind.
const ATTRIBUTE_LEN: usize = 4;

/// States of a connection that can end, by their numbers in the kernel's tcp_states.h: ESTABLISHED,
/// SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// A socket as the kernel names it, and its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    family: u8,
    bytes: [u8; ID_LEN],
}

impl SocketId {
    /// What its connection is to; an IPv4-mapped address is one of IPv4.
    pub fn destination(&self) -> SocketAddr {
        let bytes = &self.bytes;
        let words: [u8; 16] = std::array::from_fn(|index| bytes[20 + index]);
        let address = if i32::from(self.family) == libc::AF_INET {
            IpAddr::from(Ipv4Addr::from([words[0], words[1], words[2], words[3]]))
        } else {
            IpAddr::from(Ipv6Addr::from(words)).to_canonical()
        };
        SocketAddr::new(address, u16::from_be_bytes([bytes[2], bytes[3]]))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Request(Request),
    Answer(Answer),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    kind: u16,
    bytes: Vec<u8>,
}

/// A socket, and what the map that was asked for keeps with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) id: SocketId,
    pub(super) kept: Option<Vec<u8>>,
}

impl Request {
    /// Sockets of a family with a connection to `port`, and what is kept with them in `map`.
    pub(super) fn dump(family: u8, port: u16, map: u32) -> Self {
        let mut bytes = header(family, CONNECTED);
        bytes[10..12].copy_from_slice(&port.to_be_bytes());
        let of_map = attribute(STORAGE_OF_MAP, &map.to_ne_bytes());
        bytes.extend(attribute(ASK_FOR_STORAGES, &of_map));
        Self { kind: SOCK_DIAG_BY_FAMILY, bytes }
    }

    pub(super) fn destroy(id: &SocketId) -> Self {
        let mut bytes = header(id.family, CONNECTED);
        bytes[8..].copy_from_slice(&id.bytes);
        Self { kind: SOCK_DESTROY, bytes }
    }
}

fn header(family: u8, states: u32) -> Vec<u8> {
    let mut bytes = vec![0; REQUEST_LEN];
    bytes[..2].copy_from_slice(&[family, lb_common::IPPROTO_TCP]);
    bytes[4..8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// One whose value needs no padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_LEN + value.len()).unwrap_or(u16::MAX);
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Request(request) => request.kind,
            Self::Answer(_) => SOCK_DIAG_BY_FAMILY,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Request(request) => request.bytes.len(),
            Self::Answer(_) => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Self::Request(request) = self {
            buffer.copy_from_slice(&request.bytes);
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let (fixed, attributes) = payload
            .split_at_checked(ANSWER_LEN)
            .ok_or_else(|| DecodeError::from("a socket of too few bytes"))?;
        let bytes = fixed[4..].first_chunk().copied();
        let bytes = bytes.ok_or_else(|| DecodeError::from("a socket without a name"))?;
        let id = SocketId { family: fixed[0], bytes };
        let kept = value(attributes, &[STORAGES, STORAGE, STORAGE_VALUE]);
        Ok(Self::Answer(Answer { id, kept }))
    }
}

/// What an attribute holds that is nested in others.
fn value(attributes: &[u8], path: &[u16]) -> Option<Vec<u8>> {
    let Some((kind, rest)) = path.split_first() else { return Some(attributes.to_vec()) };
    let found = NlasIterator::new(attributes).filter_map(Result::ok).find(|it| it.kind() == *kind);
    value(found?.value(), rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(payload: &[u8]) -> Result<Answer, DecodeError> {
        match Message::deserialize(&NetlinkHeader::default(), payload)? {
            Message::Answer(answer) => Ok(answer),
            Message::Request(_) => unreachable!("only answers are read"),
        }
    }

    fn socket(attributes: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..72).collect();
        bytes[0] = 2;
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn sockets_to_a_port_are_asked_for_with_what_a_map_keeps() {
        let request = Message::Request(Request::dump(2, 6443, 7));
        assert_eq!((request.message_type(), request.buffer_len()), (20, 56 + 12));
        let mut bytes = vec![0xff; 68];
        request.serialize(&mut bytes);
        assert_eq!(bytes[..4], [2, 6, 0, 0]);
        assert_eq!(bytes[8..12], [0, 0, 0x19, 0x2b]);
        assert!(bytes[12..56].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[56..], [12, 0, 2, 0, 8, 0, 1, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn a_socket_is_ended_by_the_name_that_it_was_found_under() {
        let answer = parse(&socket(&[])).unwrap();
        assert_eq!(answer.kept, None);
        let request = Request::destroy(&answer.id);
        assert_eq!((request.kind, request.bytes.len()), (21, 56));
        assert_eq!(request.bytes[8..], (4..52).collect::<Vec<u8>>());
    }

    #[test]
    fn a_socket_says_what_it_is_connected_to() {
        let id = |family, destination: &[u8]| {
            let mut bytes = [0; ID_LEN];
            bytes[2..4].copy_from_slice(&6443_u16.to_be_bytes());
            bytes[20..20 + destination.len()].copy_from_slice(destination);
            SocketId { family, bytes }
        };
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(id(2, &[10, 0, 0, 11]).destination(), to("10.0.0.11:6443"));
        let address: Ipv6Addr = "fd00::11".parse().unwrap();
        assert_eq!(id(10, &address.octets()).destination(), to("[fd00::11]:6443"));
        let mapped = Ipv4Addr::new(10, 0, 0, 11).to_ipv6_mapped();
        assert_eq!(id(10, &mapped.octets()).destination(), to("10.0.0.11:6443"));
    }

    #[test]
    fn what_is_kept_with_a_socket_is_found_among_its_attributes() {
        let one = [attribute(2, &[9, 9, 9, 9]), attribute(3, &[1, 2, 3, 4])].concat();
        let all = [attribute(8, &[0; 4]), attribute(20, &attribute(1, &one))].concat();
        assert_eq!(parse(&socket(&all)).unwrap().kept, Some(vec![1, 2, 3, 4]));
        let without_value = attribute(20, &attribute(1, &attribute(2, &[9; 4])));
        assert_eq!(parse(&socket(&without_value)).unwrap().kept, None);
        assert!(parse(&[2; 71]).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&payload);
        }
    }
}
