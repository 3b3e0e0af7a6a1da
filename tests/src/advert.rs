//! VRRP advertisements that may be wrong in any way, put together from scratch: no line is shared with what
//! the project builds and reads them by. Pure.

use std::net::{IpAddr, Ipv4Addr};

use crate::packet::checksum::{checksum, l4_checksum};
use crate::packet::{Frame, Mac};

const VRRP: u8 = 112;
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_MAC: Mac = [1, 0, 0x5e, 0, 0, 18];
/// Of those who send them here: nobody's.
const SENDER: Mac = [2, 0, 0, 0, 0, 0x77];
/// Of the shortest Ethernet frame, without its checksum.
const SHORTEST: usize = 60;

/// A version 3 advertisement; sound until something is changed.
#[derive(Clone, Debug)]
pub struct Advert {
    pub source: Ipv4Addr,
    pub ttl: u8,
    /// Version and type.
    pub first: u8,
    pub vrid: u8,
    pub priority: u8,
    /// `None`: what fits.
    pub count: Option<u8>,
    /// In centiseconds, and the four reserved bits.
    pub interval: u16,
    pub vips: Vec<Ipv4Addr>,
    /// Bytes that are missing at its end.
    pub missing: usize,
    pub is_sum_wrong: bool,
}

impl Advert {
    pub fn new(source: Ipv4Addr, vrid: u8, priority: u8, vip: Ipv4Addr) -> Self {
        Self {
            source,
            ttl: 255,
            first: 0x31,
            vrid,
            priority,
            count: None,
            interval: 10,
            vips: vec![vip],
            missing: 0,
            is_sum_wrong: false,
        }
    }

    /// The VRRP message.
    pub fn message(&self) -> Vec<u8> {
        let count = u8::try_from(self.vips.len()).unwrap_or(u8::MAX);
        let [high, low] = self.interval.to_be_bytes();
        let count = self.count.unwrap_or(count);
        let mut message = vec![self.first, self.vrid, self.priority, count, high, low, 0, 0];
        message.extend(self.vips.iter().flat_map(Ipv4Addr::octets));
        message.truncate(message.len().saturating_sub(self.missing));
        seal(self.source, &mut message);
        if self.is_sum_wrong {
            message[6] ^= 0x55;
        }
        message
    }

    /// In a frame of at least Ethernet's shortest.
    pub fn frame(&self) -> Vec<u8> {
        frame(self.source, self.ttl, &self.message())
    }
}

/// The message of a version 2 advertisement with this authentication: its type and its data.
pub fn version_2(
    (vrid, priority): (u8, u8),
    seconds: u8,
    vip: Ipv4Addr,
    (auth_type, auth): (u8, [u8; 8]),
) -> Vec<u8> {
    let mut message = vec![0x21, vrid, priority, 1, auth_type, seconds, 0, 0];
    message.extend(vip.octets());
    message.extend(auth);
    let sum = checksum(&[&message]);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Makes a message's checksum right, that with the pseudo-header of a multicast.
pub fn seal(source: Ipv4Addr, message: &mut [u8]) {
    seal_to(source.into(), GROUP.into(), message);
}

/// Makes a message's checksum right, that with the pseudo-header of these addresses.
pub fn seal_to(source: IpAddr, destination: IpAddr, message: &mut [u8]) {
    if let Some(sum) = message.get_mut(6..8) {
        sum.fill(0);
        let sum = l4_checksum(source, destination, VRRP, message);
        message[6..8].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Whether a message's checksum is right, with the pseudo-header of these addresses.
pub fn is_sealed(source: IpAddr, destination: IpAddr, message: &[u8]) -> bool {
    l4_checksum(source, destination, VRRP, message) == 0
}

/// Whether it is right without a pseudo-header, as version 2 has it.
pub fn is_sealed_alone(message: &[u8]) -> bool {
    checksum(&[message]) == 0
}

/// A multicast frame with a message.
pub fn frame(source: Ipv4Addr, ttl: u8, message: &[u8]) -> Vec<u8> {
    framed(Frame::raw(source, GROUP, VRRP, message).ttl(ttl), GROUP_MAC)
}

/// A frame with a message to one node, or to a group of either family.
pub fn frame_to(source: IpAddr, (destination, mac): (IpAddr, Mac), message: &[u8]) -> Vec<u8> {
    framed(Frame::raw(source, destination, VRRP, message).ttl(255), mac)
}

fn framed(frame: Frame, mac: Mac) -> Vec<u8> {
    let mut bytes = frame.tos(0xc0).macs(SENDER, mac).bytes();
    bytes.resize(bytes.len().max(SHORTEST), 0);
    bytes
}
