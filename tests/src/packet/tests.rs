use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::*;

/// A SYN-ACK, as a Linux host sent it.
const WIRE: [u8; 58] = [
    0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0x26, 0x26, 10, 77, 0, 11, 10, 77, 0, 2, // IPv4
    0x19, 0x2b, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x12, 0xff, 0xff, 0xce, 0x01, 0, 0, 2, 4,
    5, 0xb4, // maximum segment size
];

fn addresses(of_v6: bool) -> [SocketAddr; 2] {
    let [server, client] = [(11, 6443), (2, 40_000)].map(|(last, port)| {
        if of_v6 {
            (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last), port).into()
        } else {
            (Ipv4Addr::new(10, 77, 0, u8::try_from(last).unwrap()), port).into()
        }
    });
    [server, client]
}

fn syn_ack(of_v6: bool) -> Frame {
    let [server, client] = addresses(of_v6);
    Frame::tcp(server, client)
        .macs([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .id(0)
        .flags(SYN | ACK)
        .seq(1)
        .ack(2)
        .window(0xffff)
        .options(&[2, 4, 5, 0xb4])
}

fn error(of_v6: bool, quoted: usize) -> Frame {
    let [server, client] = addresses(of_v6);
    let quote = syn_ack(of_v6).packet();
    Frame::error(client.ip(), server.ip(), Report::TooBig(1400), &quote[..quoted.min(quote.len())])
}

#[test]
fn a_frame_is_built_as_on_the_wire_and_read_back() {
    assert_eq!(syn_ack(false).bytes(), WIRE);
    assert_eq!(Frame::parse(&WIRE).unwrap(), syn_ack(false));
    let tagged = syn_ack(false).tag(QINQ, 5).tag(VLAN, 7).ip_options(&[1; 8]).padding(&[0; 3]);
    assert_eq!(Frame::parse(&tagged.bytes()).unwrap(), tagged);
    let v6 = syn_ack(true).tos(0xb9).flow_label(0xa_bcde).tag(VLAN, 7).padding(&[0; 3]);
    assert_eq!(Frame::parse(&v6.bytes()).unwrap(), v6);
}

/// The example of RFC 4443's form with a checksum that another implementation computed.
#[test]
fn an_icmpv6_echo_has_the_checksum_that_linux_gives_it() {
    let [server, client] = addresses(true);
    let bytes = Frame::echo(client.ip(), server.ip()).bytes();
    let header = [0x60, 0, 0, 0, 0, 12, 58, 64];
    assert_eq!(bytes[14..22], header);
    // fd77::2 and fd77::b, length 12, next header 58, and the message: added by hand.
    let sum = 2 * 0xfd77 + 2 + 0xb + 12 + 58 + 0x8000 + 0x1234 + 1 + 0x6661 + 0x6972;
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    assert_eq!(bytes[56..58], (!folded).to_be_bytes());
}

#[test]
fn what_only_one_family_has_leaves_the_other_alone() {
    let v4 = syn_ack(false);
    assert_eq!(v4.clone().flow_label(5).extension(Extension::padding(HOP_BY_HOP, 1)), v4);
    let v6 = syn_ack(true);
    assert_eq!(v6.clone().id(5).frags(0x2000).ip_options(&[1; 4]), v6);
}

#[test]
fn chains_of_extension_headers_are_read_back() {
    let chain = [
        Extension::padding(HOP_BY_HOP, 1),
        Extension::padding(DESTINATION, 3),
        Extension::routing(4, 0),
        Extension::fragment(0, false, 7),
        Extension::authentication(),
        Extension::new(MOBILITY, &[1, 2, 3]),
    ];
    let frame = chain.into_iter().fold(syn_ack(true), Frame::extension);
    let bytes = frame.bytes();
    assert_eq!(Frame::parse(&bytes).unwrap(), frame);
    assert_eq!((bytes[20], bytes[54], bytes[54 + 8]), (HOP_BY_HOP, DESTINATION, ROUTING));
    assert!(Frame::parse(&syn_ack(true).fragment(0, true).bytes()).is_err());
    assert!(Frame::parse(&syn_ack(false).fragment(2, false).bytes()).is_err());
    let lies = syn_ack(true).extension(Extension::padding(DESTINATION, 1).claiming(9));
    assert!(Frame::parse(&lies.bytes()).is_err());
}

/// Of IPv6 no checksum covers class, flow label and hop limit, and another next header is another
/// protocol, unread; of IPv4 one checksum covers all.
#[test]
fn any_changed_bit_that_a_checksum_covers_is_found() {
    for frame in
        [syn_ack(false), syn_ack(true), error(false, 28), error(false, 99), error(true, 99)]
    {
        let bytes = frame.bytes();
        assert_eq!(Frame::parse(&bytes).unwrap(), frame);
        for byte in ETH_LEN..bytes.len() {
            let uncovered = frame.is_ipv6() && (byte < 18 || byte == 20 || byte == 21);
            let mut changed = bytes.clone();
            changed[byte] ^= 0x10;
            assert!(uncovered || Frame::parse(&changed).is_err(), "byte {byte} of {frame:?}");
            assert!(Frame::parse(&bytes[..byte]).is_err(), "{byte} bytes");
        }
    }
}

#[test]
fn a_wrong_checksum_within_a_quote_is_found() {
    for (of_v6, at, covered) in
        [(false, 10, true), (false, 20 + 16, true), (true, 40 + 16, true), (true, 7, false)]
    {
        let mut quote = syn_ack(of_v6).packet();
        quote[at] ^= 1;
        let [server, client] = addresses(of_v6);
        let frame = Frame::error(client.ip(), server.ip(), Report::PortUnreachable, &quote);
        assert_eq!(Frame::parse(&frame.bytes()).is_err(), covered, "{of_v6} {at}");
        // Cut, its TCP checksum can't be judged.
        let cut = quote.len() - 1;
        let frame = Frame::error(client.ip(), server.ip(), Report::PortUnreachable, &quote[..cut]);
        assert_eq!(Frame::parse(&frame.bytes()).is_err(), at == 10, "{of_v6} {at}");
    }
}

#[test]
fn errors_have_the_types_and_codes_of_their_family() {
    let header = |of_v6, report| {
        let [server, client] = addresses(of_v6);
        let quote = syn_ack(of_v6).packet();
        let frame = Frame::error(client.ip(), server.ip(), report, &quote);
        let message = frame.message().unwrap();
        (message.kind, message.code, message.word)
    };
    assert_eq!(header(false, Report::TooBig(1400)), (3, 4, 1400));
    assert_eq!(header(true, Report::TooBig(1400)), (2, 0, 1400));
    assert_eq!(header(false, Report::TimeExceeded), (11, 0, 0));
    assert_eq!(header(true, Report::PortUnreachable), (1, 4, 0));
    assert_eq!(header(false, Report::ParameterProblem(9)), (12, 0, 9 << 24));
}
