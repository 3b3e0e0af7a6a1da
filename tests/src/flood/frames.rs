//! The frames of a flood: templates whose sources, sequence numbers and checksums are made anew. Pure.

use std::net::SocketAddr;

use crate::family::Family;
use crate::packet::{ACK, FIN, Frame, Mac, PSH, RST, SYN, URG};
use crate::xdp_pass::THINNED;

/// Room for a frame of either family.
pub(super) const ROOM: usize = 78;

/// Length of every frame: the least that Ethernet has, or a SYN with one option.
pub(super) fn length(family: Family) -> usize {
    family.pick(60, ROOM)
}

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
    layout: Layout,
    shapes: Vec<Shape>,
    dice: Dice,
}

impl Frames {
    /// Frames from a MAC address to a service; `seed` must not be zero.
    pub(super) fn new(kind: Kind, macs: (Mac, Mac), target: SocketAddr, seed: u64) -> Self {
        let templates = match kind {
            Kind::Syn => vec![segment(target, SYN).options(&MSS)],
            Kind::Ack => vec![segment(target, ACK).ack(1)],
            Kind::Garbage => garbage(target),
        };
        let dressed = templates.into_iter().map(|frame| frame.macs(macs.0, macs.1).tos(THINNED));
        let shapes = dressed.map(|frame| Shape::of(&frame)).collect();
        let layout = Family::of(target.ip()).pick(Layout::V4, Layout::V6);
        Self { layout, shapes, dice: Dice(seed) }
    }

    pub(super) fn next(&mut self, frame: &mut [u8; ROOM]) {
        let random = self.dice.roll();
        let [port_high, port_low, pick, ..] = random.to_be_bytes();
        let shape = &self.shapes[usize::from(pick) % self.shapes.len()];
        let [a, b, c, d, seq @ ..] = self.dice.roll().to_be_bytes();
        // 64.0.0.0 to 126.255.255.255, or 3e00:: to 3fff:: : unicast, and nobody's here.
        let address = [self.layout.prefix | a & self.layout.random, b, c, d];
        shape.write(frame, &self.layout, address, [port_high, port_low], seq);
    }
}

/// A template with zeros for what changes.
#[derive(Debug)]
struct Shape {
    bytes: [u8; ROOM],
    /// Whether ports and sequence number are where they are without IP options.
    is_plain_tcp: bool,
}

/// Where in a frame what changes is, and what the first byte of a source may be.
#[derive(Debug)]
struct Layout {
    prefix: u8,
    random: u8,
    /// IPv6 has none.
    ip_checksum: Option<usize>,
    source: usize,
    tcp: usize,
}

impl Layout {
    const V4: Self =
        Self { prefix: 0x40, random: 0x3e, ip_checksum: Some(24), source: 26, tcp: 34 };
    const V6: Self = Self { prefix: 0x3e, random: 0x01, ip_checksum: None, source: 22, tcp: 54 };

    const fn sequence(&self) -> usize {
        self.tcp + 4
    }

    const fn tcp_checksum(&self) -> usize {
        self.tcp + 16
    }
}

const MSS: [u8; 4] = [2, 4, 5, 0xb4];

impl Shape {
    fn of(frame: &Frame) -> Self {
        let mut bytes = [0; ROOM];
        let template = frame.bytes();
        let used = template.len().min(ROOM);
        bytes[..used].copy_from_slice(&template[..used]);
        let is_plain_tcp =
            frame.segment().is_some() && frame.ip_options.is_empty() && frame.extensions.is_empty();
        Self { bytes, is_plain_tcp }
    }

    /// A wrong checksum of the template stays as wrong as it is.
    fn write(
        &self,
        frame: &mut [u8; ROOM],
        layout: &Layout,
        address: [u8; 4],
        port: [u8; 2],
        seq: [u8; 4],
    ) {
        *frame = self.bytes;
        frame[layout.source..layout.source + 4].copy_from_slice(&address);
        let source = words(address);
        if let Some(at) = layout.ip_checksum {
            add(frame, at, source);
        }
        if self.is_plain_tcp {
            frame[layout.tcp..layout.tcp + 2].copy_from_slice(&port);
            frame[layout.sequence()..layout.sequence() + 4].copy_from_slice(&seq);
            let port = u32::from(u16::from_be_bytes(port));
            add(frame, layout.tcp_checksum(), source + port + words(seq));
        }
    }
}

fn words([a, b, c, d]: [u8; 4]) -> u32 {
    u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
}

/// The checksum at `at`, after words that were zero became `sum` (RFC 1624 section 3).
fn add(frame: &mut [u8; ROOM], at: usize, sum: u32) {
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
fn segment(target: SocketAddr, flags: u8) -> Frame {
    Frame::tcp(nobody(target), target).flags(flags)
}

fn nobody(target: SocketAddr) -> SocketAddr {
    (Family::of(target.ip()).unspecified(), 0).into()
}

fn garbage(target: SocketAddr) -> Vec<Frame> {
    let nobody = nobody(target);
    let elsewhere = SocketAddr::new(target.ip(), target.port() ^ 1);
    vec![
        segment(target, FIN),
        segment(target, RST),
        segment(target, SYN | ACK),
        segment(target, SYN | FIN),
        segment(target, FIN | PSH | URG),
        segment(target, 0),
        segment(target, PSH | ACK).payload(b"junk"),
        segment(elsewhere, SYN),
        segment(target, SYN).fragment(0, true),
        segment(target, SYN).fragment(0x10, false),
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
        Frame::echo(nobody.ip(), target.ip()),
        Frame::raw(nobody.ip(), target.ip(), 47, b"a tunnel"),
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

    const MACS: (Mac, Mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

    fn target(family: Family) -> SocketAddr {
        family.pick("10.0.0.100:6443", "[fd00::100]:6443").parse().unwrap()
    }

    fn some(kind: Kind, family: Family) -> Vec<Vec<u8>> {
        let mut frames = Frames::new(kind, MACS, target(family), 7);
        let fill = |_| {
            let mut frame = [0; ROOM];
            frames.next(&mut frame);
            frame[..length(family)].to_vec()
        };
        (0..1000).map(fill).collect()
    }

    #[test]
    fn segments_are_sound_and_no_two_have_the_same_source() {
        for (kind, flags) in [(Kind::Syn, SYN), (Kind::Ack, ACK)] {
            for family in Family::ALL {
                let mut sources = BTreeSet::new();
                for bytes in some(kind, family) {
                    let frame = Frame::parse(&bytes).unwrap();
                    assert_eq!(frame.segment().unwrap().flags, flags);
                    assert_eq!((frame.destination(), frame.eth_dst), (target(family), MACS.1));
                    let first = match frame.src {
                        IpAddr::V4(src) => src.octets()[0],
                        IpAddr::V6(src) => src.octets()[0],
                    };
                    let nobodys = family.pick(64..127, 0x3e..0x40);
                    assert!(nobodys.contains(&first), "{}", frame.src);
                    sources.insert(frame.source());
                }
                assert_eq!(sources.len(), 1000);
            }
        }
    }

    #[test]
    fn garbage_is_of_many_shapes_and_little_of_it_is_sound() {
        for family in Family::ALL {
            let frames = some(Kind::Garbage, family);
            // Of IPv6: EtherType, version, length, next header, data offset and flags.
            let at = family.pick([12, 14, 17, 20, 23, 46, 47], [12, 14, 18, 19, 20, 66, 67]);
            let shapes: BTreeSet<_> = frames.iter().map(|frame| at.map(|at| frame[at])).collect();
            assert!(shapes.len() > 15, "{shapes:?}");
            let sound = frames.iter().filter(|frame| Frame::parse(frame).is_ok()).count();
            assert!((100..700).contains(&sound), "{family:?}: {sound}");
        }
    }
}
