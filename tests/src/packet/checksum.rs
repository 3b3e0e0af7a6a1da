//! Internet checksums from scratch: no line is shared with what the project computes them by. Pure.

use std::net::IpAddr;

/// The Internet checksum (RFC 1071); every part but the last has an even length. Over data that
/// contains its own right checksum it is zero.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(pair[0]) * 256 + u64::from(low);
        }
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// With the pseudo-header of RFC 9293 section 3.1 or of RFC 8200 section 8.1.
pub(crate) fn l4_checksum(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX).to_be_bytes();
    checksum(&[&octets(src), &octets(dst), &[0, protocol], &length, segment])
}

/// In the order of the wire: 4 or 16 bytes.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
