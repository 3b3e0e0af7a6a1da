//! Checks the IPv4 and TCP checksums of a pcap file, from scratch: no line here is shared with what the
//! project computes them by. Pure.

use anyhow::{Context, Result, bail, ensure};

/// What was found in a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub packets: usize,
    pub ipv4: usize,
    /// Whole TCP segments; fragments are not among them.
    pub tcp: usize,
    /// Cut by the capture, so that nothing can be said about them.
    pub truncated: usize,
    pub bad_ip: usize,
    pub bad_tcp: usize,
    pub resets: usize,
    /// Numbers of the first bad packets, as tcpdump and wireshark count them.
    pub bad_numbers: Vec<usize>,
}

/// How many bad packets are named.
const NAMED: usize = 10;

impl Sums {
    /// Fails unless there was TCP in the capture and all of it was right.
    pub fn ensure_good(&self) -> Result<()> {
        ensure!(self.tcp > 0, "no TCP in the capture: {self:?}");
        ensure!(self.bad_ip == 0 && self.bad_tcp == 0, "bad checksums: {self:?}");
        Ok(())
    }
}

/// Judges every packet of a pcap file with Ethernet frames.
pub fn check_pcap(pcap: &[u8]) -> Result<Sums> {
    let big_endian = match pcap.get(..4).context("no pcap header")? {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => false,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => true,
        magic => bail!("not a pcap file: it starts with {magic:02x?}"),
    };
    let u32_at = |offset: usize| -> Option<usize> {
        let bytes: [u8; 4] = pcap.get(offset..offset + 4)?.try_into().ok()?;
        let value = if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(value).ok()
    };
    let link_type = u32_at(20).context("no pcap header")?;
    ensure!(link_type == 1, "link type {link_type} is not Ethernet");

    let mut sums = Sums::default();
    let mut offset = 24;
    // A record's header: seconds, fraction, captured length, original length. tcpdump may have been
    // stopped in the middle of the last record.
    while let (Some(captured), Some(original)) = (u32_at(offset + 8), u32_at(offset + 12)) {
        let Some(frame) = pcap.get(offset + 16..offset + 16 + captured) else {
            break;
        };
        sums.packets += 1;
        if captured < original {
            sums.truncated += 1;
        } else {
            judge_frame(frame, &mut sums);
        }
        offset += 16 + captured;
    }
    Ok(sums)
}

fn judge_frame(frame: &[u8], sums: &mut Sums) {
    let mut l3 = 14;
    while matches!(frame.get(l3 - 2..l3), Some([0x81, 0x00] | [0x88, 0xa8])) {
        l3 += 4;
    }
    if frame.get(l3 - 2..l3) != Some(&[0x08, 0x00]) {
        return;
    }
    let bad_before = sums.bad_ip + sums.bad_tcp;
    if judge_ipv4(&frame[l3..], sums).is_none() {
        sums.bad_ip += 1;
    }
    if sums.bad_ip + sums.bad_tcp > bad_before && sums.bad_numbers.len() < NAMED {
        sums.bad_numbers.push(sums.packets);
    }
}

/// `None`: the header's lengths do not fit the frame.
fn judge_ipv4(packet: &[u8], sums: &mut Sums) -> Option<()> {
    sums.ipv4 += 1;
    let header_len = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let header = packet.get(..header_len.max(20))?;
    if ones_sum(&[header]) != 0xffff {
        sums.bad_ip += 1;
        return Some(());
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header[9] != 6 || fragment {
        return Some(());
    }
    // What follows the total length is Ethernet's padding.
    let segment = packet.get(header_len..total)?;
    let length = u16::try_from(segment.len()).ok()?.to_be_bytes();
    sums.tcp += 1;
    if segment.get(13)? & 0x04 != 0 {
        sums.resets += 1;
    }
    if ones_sum(&[&header[12..20], &[0, 6], &length, segment]) != 0xffff {
        sums.bad_tcp += 1;
    }
    Some(())
}

/// The ones' complement sum of RFC 1071; every part but the last has an even length. Over data that
/// contains its own right checksum it is 0xffff.
fn ones_sum(parts: &[&[u8]]) -> u64 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN-ACK: Ethernet, IPv4, TCP with four bytes of options, and padding.
    const FRAME: [u8; 60] = [
        0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
        0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0x26, 0x26, 10, 77, 0, 11, 10, 77, 0, 2, // IPv4
        0x19, 0x2b, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x12, 0xff, 0xff, 0xce, 0x01, 0, 0,
        2, 4, 5, 0xb4, // maximum segment size
        0xee, 0xee, // padding
    ];

    #[test]
    fn a_right_segment_passes_and_any_changed_bit_is_found() {
        let sums = check_pcap(&pcap(&FRAME)).unwrap();
        assert_eq!((sums.packets, sums.tcp, sums.bad_ip, sums.bad_tcp), (1, 1, 0, 0), "{sums:?}");
        for byte in 26..58 {
            let mut frame = FRAME;
            frame[byte] ^= 0x10;
            let sums = check_pcap(&pcap(&frame)).unwrap();
            assert_eq!(sums.bad_ip + sums.bad_tcp, 1, "byte {byte}: {sums:?}");
            assert!(sums.ensure_good().is_err());
        }
    }

    #[test]
    fn what_is_not_a_pcap_is_refused_and_a_cut_one_is_read_to_its_end() {
        assert!(check_pcap(b"hello, world").is_err());
        let file = pcap(&FRAME);
        assert_eq!(check_pcap(&file[..file.len() - 1]).unwrap().packets, 0);
    }

    fn pcap(frame: &[u8]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        let length = u32::try_from(frame.len()).unwrap();
        let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
        file.extend(words(&[0, 0, length, length]));
        file.extend(frame);
        file
    }
}
