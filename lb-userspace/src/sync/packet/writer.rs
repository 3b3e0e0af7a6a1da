//! Writes the parts of a message. Pure.

use std::net::{IpAddr, SocketAddr};

/// A message in the making.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    /// How many elements follow: whoever makes a list keeps it shorter than 65,536.
    pub(super) fn count(&mut self, count: usize) {
        self.u16(u16::try_from(count).unwrap_or(u16::MAX));
    }

    /// A part of less than 256 bytes, with its length in front.
    pub(super) fn sized(&mut self, part: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.u8(0);
        part(self);
        let length = self.0.len() - at - 1;
        self.0[at] = u8::try_from(length).unwrap_or(u8::MAX);
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.u8(4);
                self.bytes(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.u8(6);
                self.bytes(&v6.octets());
            }
        }
    }

    pub(super) fn endpoint(&mut self, endpoint: SocketAddr) {
        self.address(endpoint.ip());
        self.u16(endpoint.port());
    }
}
