//! Packets written by hand, both ways; their checksums are worked out here once more.

use super::*;

const PASSWORD: [u8; 8] = *b"secret\0\0";

struct Golden {
    envelope: Envelope,
    advert: Advert,
    packet: Vec<u8>,
    /// What comes before the packet in its sum.
    pseudo: Vec<u8>,
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v3_ipv4() -> Golden {
    Golden {
        envelope: multicast_v4(),
        advert: Advert { addresses: [VIP_V4, ip("10.0.0.101")].into_iter().collect(), ..advert() },
        // version 3, type 1; VRID 51; priority 200; two addresses; 100 centiseconds
        packet: hex("31 33 c8 02  00 64 07 07  0a 00 00 64  0a 00 00 65"),
        // 10.0.0.3, 224.0.0.18, protocol 112, 16 bytes
        pseudo: hex("0a 00 00 03  e0 00 00 12  00 70 00 10"),
    }
}

fn v3_ipv4_message_only() -> Golden {
    let advert = Advert { checksum: ChecksumForm::Message, ..v3_ipv4().advert };
    let packet = hex("31 33 c8 02  00 64 f1 9c  0a 00 00 64  0a 00 00 65");
    Golden { advert, packet, pseudo: Vec::new(), ..v3_ipv4() }
}

fn v3_ipv4_unicast() -> Golden {
    Golden {
        envelope: unicast_v4(),
        packet: hex("31 33 c8 02  00 64 dd 17  0a 00 00 64  0a 00 00 65"),
        // 10.0.0.3, 10.0.0.2
        pseudo: hex("0a 00 00 03  0a 00 00 02  00 70 00 10"),
        ..v3_ipv4()
    }
}

fn v3_ipv6() -> Golden {
    Golden {
        envelope: multicast_v6(),
        advert: Advert {
            vrid: 7,
            priority: 0,
            interval: Duration::from_millis(40_950),
            addresses: [ip("fe80::64"), ip("fd00::64")].into_iter().collect(),
            ..advert()
        },
        packet: hex("31 07 00 02  0f ff c4 7c
             fe 80 00 00 00 00 00 00  00 00 00 00 00 00 00 64
             fd 00 00 00 00 00 00 00  00 00 00 00 00 00 00 64"),
        // fe80::3, ff02::12, length 40 in 32 bits, next header 112
        pseudo: hex("fe 80 00 00 00 00 00 00  00 00 00 00 00 00 00 03
             ff 02 00 00 00 00 00 00  00 00 00 00 00 00 00 12
             00 00 00 28  00 00 00 70"),
    }
}

fn v2_plain() -> Golden {
    Golden {
        envelope: multicast_v4(),
        advert: Advert {
            version: Version::V2,
            priority: 255,
            interval: Duration::from_secs(5),
            checksum: ChecksumForm::Message,
            ..advert()
        },
        // auth type 0, 5 seconds; then the auth data all the same
        packet: hex("21 33 ff 01  00 05 d5 61  0a 00 00 64  00 00 00 00  00 00 00 00"),
        pseudo: Vec::new(),
    }
}

fn v2_password() -> Golden {
    let advert = Advert { auth: Auth::Simple(PASSWORD), ..v2_plain().advert };
    let packet = hex("21 33 ff 01  01 05 98 15  0a 00 00 64  73 65 63 72  65 74 00 00");
    Golden { advert, packet, ..v2_plain() }
}

#[rstest]
#[case::v3_ipv4(v3_ipv4())]
#[case::v3_ipv4_message_only(v3_ipv4_message_only())]
#[case::v3_ipv4_unicast(v3_ipv4_unicast())]
#[case::v3_ipv6(v3_ipv6())]
#[case::v2_plain(v2_plain())]
#[case::v2_password(v2_password())]
fn golden_packets_both_ways(#[case] golden: Golden) {
    let Golden { envelope, advert, packet, pseudo } = golden;
    let checksum = packet[6..8].to_vec();
    let mut blank = packet.clone();
    blank[6..8].fill(0);
    let sum = sum_of(&[&pseudo, &blank]).to_be_bytes();
    assert_eq!(checksum, sum, "the sum in the packet: {sum:02x?}");
    assert_eq!(built(&advert, &envelope), packet);
    assert_eq!(parse(&packet, &envelope, advert.version), Ok(advert));
}
