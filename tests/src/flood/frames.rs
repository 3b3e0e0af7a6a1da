//! The frames of a flood: templates whose sources, sequence numbers and checksums are made anew. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::packet::{ACK, FIN, Frame, Mac, PSH, RST, SYN, URG};
use crate::xdp_pass::THINNED;

/// Length of every frame: the least that Ethernet has.
pub(super) const LENGTH: usize = 60;

/// What floods are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Syn,
    /// Without data, of connections that nobody has.
    Ack,
    /// All that should not be: wrong flags, lengths, checksums, protocols; fragments.
    Garbage,
}

/// Fills frames, each from a source of its own.
#[derive(Debug)]
pub(super) struct Frames {
    shapes: Vec<Shape>,
    dice: Dice,
}

impl Frames {
    /// Frames from a MAC address to a service; `seed` must not be zero.
    pub(super) fn new(kind: Kind, macs: (Mac, Mac), target: SocketAddrV4, seed: u64) -> Self {
        let templates = match kind {
            Kind::Syn => vec![segment(target, SYN).options(&MSS)],
            Kind::Ack => vec![segment(target, ACK).ack(1)],
            Kind::Garbage => garbage(target),
        };
        let dressed = templates.into_iter().map(|frame| frame.macs(macs.0, macs.1).tos(THINNED));
        let shapes = dressed.map(|frame| Shape::of(&frame)).collect();
        Self { shapes, dice: Dice(seed) }
    }

    pub(super) fn next(&mut self, frame: &mut [u8; LENGTH]) {
        let random = self.dice.roll();
        let [port_high, port_low, pick, ..] = random.to_be_bytes();
        let shape = &self.shapes[usize::from(pick) % self.shapes.len()];
        let [a, b, c, d, seq @ ..] = self.dice.roll().to_be_bytes();
        // 64.0.0.0 to 126.255.255.255: unicast, and nobody's here.
        let address = [0x40 | a & 0x3e, b, c, d];
        shape.write(frame, address, [port_high, port_low], seq);
    }
}

/// A template with zeros for what changes.
#[derive(Debug)]
struct Shape {
    bytes: [u8; LENGTH],
    /// Whether ports and sequence number are where they are without IP options.
    is_plain_tcp: bool,
}

const IP_CHECKSUM: usize = 24;
const SOURCE: usize = 26;
const PORT: usize = 34;
const SEQUENCE: usize = 38;
const TCP_CHECKSUM: usize = 50;
const MSS: [u8; 4] = [2, 4, 5, 0xb4];

impl Shape {
    fn of(frame: &Frame) -> Self {
        let mut bytes = [0; LENGTH];
        let template = frame.bytes();
        let used = template.len().min(LENGTH);
        bytes[..used].copy_from_slice(&template[..used]);
        let is_plain_tcp = frame.segment().is_some() && frame.ip_options.is_empty();
        Self { bytes, is_plain_tcp }
    }

    /// A wrong checksum of the template stays as wrong as it is.
    fn write(&self, frame: &mut [u8; LENGTH], address: [u8; 4], port: [u8; 2], seq: [u8; 4]) {
        *frame = self.bytes;
        frame[SOURCE..SOURCE + 4].copy_from_slice(&address);
        let source = words(address);
        add(frame, IP_CHECKSUM, source);
        if self.is_plain_tcp {
            frame[PORT..PORT + 2].copy_from_slice(&port);
            frame[SEQUENCE..SEQUENCE + 4].copy_from_slice(&seq);
            let port = u32::from(u16::from_be_bytes(port));
            add(frame, TCP_CHECKSUM, source + port + words(seq));
        }
    }
}

fn words([a, b, c, d]: [u8; 4]) -> u32 {
    u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
}

/// The checksum at `at`, after words that were zero became `sum` (RFC 1624 section 3).
fn add(frame: &mut [u8; LENGTH], at: usize, sum: u32) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut sum = u32::from(!old) + sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low, ..] = (!sum << 16).to_be_bytes();
    frame[at] = high;
    frame[at + 1] = low;
}

/// From a source of zeros, to be filled in.
fn segment(target: SocketAddrV4, flags: u8) -> Frame {
    Frame::tcp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), target).flags(flags)
}

fn garbage(target: SocketAddrV4) -> Vec<Frame> {
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let elsewhere = SocketAddrV4::new(*target.ip(), target.port() ^ 1);
    vec![
        segment(target, FIN),
        segment(target, RST),
        segment(target, SYN | ACK),
        segment(target, SYN | FIN),
        segment(target, FIN | PSH | URG),
        segment(target, 0),
        segment(target, PSH | ACK).payload(b"junk"),
        segment(elsewhere, SYN),
        segment(target, SYN).frags(0x2000),
        segment(target, SYN).frags(0x0010),
        segment(target, SYN).total_len(1500),
        segment(target, SYN).total_len(30),
        segment(target, SYN).data_offset(15),
        segment(target, SYN).data_offset(2),
        segment(target, SYN).ihl(3),
        segment(target, SYN).ttl(1),
        segment(target, SYN).version(7),
        segment(target, SYN).ip_options(&[1, 1, 1, 0]),
        segment(target, SYN).ether_type(0x88b5),
        Frame::udp(nobody, target, b"question"),
        Frame::echo(*nobody.ip(), *target.ip()),
        Frame::raw(*nobody.ip(), *target.ip(), 47, b"a tunnel"),
    ]
}

/// Marsaglia's xorshift.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 6443);
    const MACS: (Mac, Mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

    fn some(kind: Kind) -> Vec<[u8; LENGTH]> {
        let mut frames = Frames::new(kind, MACS, TARGET, 7);
        let fill = |_| {
            let mut frame = [0; LENGTH];
            frames.next(&mut frame);
            frame
        };
        (0..1000).map(fill).collect()
    }

    #[test]
    fn segments_are_sound_and_no_two_have_the_same_source() {
        for (kind, flags) in [(Kind::Syn, SYN), (Kind::Ack, ACK)] {
            let frames = some(kind);
            let mut sources = BTreeSet::new();
            for bytes in frames {
                let frame = Frame::parse(&bytes).unwrap();
                assert_eq!(frame.segment().unwrap().flags, flags);
                assert_eq!((frame.destination(), frame.eth_dst), (TARGET.into(), MACS.1));
                let IpAddr::V4(src) = frame.src else { unreachable!("of IPv4") };
                assert!((64..127).contains(&src.octets()[0]), "{src}");
                sources.insert(frame.source());
            }
            assert_eq!(sources.len(), 1000);
        }
    }

    #[test]
    fn garbage_is_of_many_shapes_and_little_of_it_is_sound() {
        let frames = some(Kind::Garbage);
        let shapes: BTreeSet<_> = frames
            .iter()
            .map(|frame| {
                [frame[12], frame[14], frame[17], frame[20], frame[23], frame[46], frame[47]]
            })
            .collect();
        assert!(shapes.len() > 15, "{shapes:?}");
        let sound = frames.iter().filter(|frame| Frame::parse(*frame).is_ok()).count();
        assert!((100..700).contains(&sound), "{sound}");
    }
}
