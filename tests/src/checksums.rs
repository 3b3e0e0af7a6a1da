//! Checks the checksums of a pcap file, of IPv4, TCP and both kinds of ICMP, from scratch: no line here is
//! shared with what the project computes them by. Pure.

use anyhow::{Context, Result, bail, ensure};

use crate::packet::checksum::{checksum, l4_checksum};
use crate::packet::ip::Header;
use crate::packet::{ICMP, ICMPV6, RST, TCP};

/// What was found in a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub packets: usize,
    pub ipv4: usize,
    pub ipv6: usize,
    /// Whole TCP segments; fragments are not among them.
    pub tcp: usize,
    /// Whole messages of either protocol.
    pub icmp: usize,
    /// Cut by the capture, so that nothing can be said about them.
    pub truncated: usize,
    /// IPv4 headers with a wrong checksum, and packets of either family that are not there as a whole.
    pub bad_ip: usize,
    pub bad_tcp: usize,
    pub bad_icmp: usize,
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
        ensure!(self.bad() == 0, "bad checksums: {self:?}");
        Ok(())
    }

    const fn bad(&self) -> usize {
        self.bad_ip + self.bad_tcp + self.bad_icmp
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
    match frame.get(l3 - 2..l3) {
        Some([0x08, 0x00]) => sums.ipv4 += 1,
        Some([0x86, 0xdd]) => sums.ipv6 += 1,
        Some(_) | None => return,
    }
    let bad_before = sums.bad();
    match Header::parse(&frame[l3..]) {
        Ok(header) if header.payload.len() == header.payload_len => judge_payload(&header, sums),
        Ok(_) | Err(_) => sums.bad_ip += 1,
    }
    if sums.bad() > bad_before && sums.bad_numbers.len() < NAMED {
        sums.bad_numbers.push(sums.packets);
    }
}

fn judge_payload(header: &Header<'_>, sums: &mut Sums) {
    if header.is_part {
        return;
    }
    let (payload, protocol) = (header.payload, header.protocol);
    if protocol == TCP {
        sums.tcp += 1;
        sums.resets += usize::from(payload.get(13).is_some_and(|flags| flags & RST != 0));
        let sum = l4_checksum(header.src, header.dst, protocol, payload);
        sums.bad_tcp += usize::from(payload.len() < 20 || sum != 0);
    } else if protocol == ICMP && header.src.is_ipv4() {
        sums.icmp += 1;
        sums.bad_icmp += usize::from(checksum(&[payload]) != 0);
    } else if protocol == ICMPV6 && header.src.is_ipv6() {
        sums.icmp += 1;
        let sum = l4_checksum(header.src, header.dst, protocol, payload);
        sums.bad_icmp += usize::from(sum != 0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;
    use crate::packet::{ACK, Frame};

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
    fn a_right_segment_of_ipv6_passes_and_any_changed_bit_is_found() {
        let addresses = [0xb, 2].map(|last| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last));
        let [server, client] = addresses.map(|address| SocketAddr::from((address, 6443)));
        let segment = Frame::tcp(server, client).flags(ACK).payload(b"odd").padding(&[0xee; 2]);
        let echo = Frame::echo(addresses[0], addresses[1]).padding(&[0xee; 2]);
        for (frame, good) in [(segment, (1, 0)), (echo, (0, 1))] {
            let bytes = frame.bytes();
            let sums = check_pcap(&pcap(&bytes)).unwrap();
            assert_eq!((sums.ipv6, (sums.tcp, sums.icmp), sums.bad()), (1, good, 0), "{sums:?}");
            for byte in (22..bytes.len() - 2).chain(18..20) {
                let mut bytes = bytes.clone();
                bytes[byte] ^= 0x10;
                let sums = check_pcap(&pcap(&bytes)).unwrap();
                assert_eq!(sums.bad(), 1, "byte {byte}: {sums:?}");
            }
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
