use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

mod golden;
mod mutated;

const FROM_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
const FROM_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3));
const VIP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

fn multicast_v4() -> Envelope {
    Envelope { source: FROM_V4, destination: MULTICAST_V4.into(), ttl: 255 }
}

fn multicast_v6() -> Envelope {
    Envelope { source: FROM_V6, destination: MULTICAST_V6.into(), ttl: 255 }
}

fn unicast_v4() -> Envelope {
    Envelope { destination: Ipv4Addr::new(10, 0, 0, 2).into(), ..multicast_v4() }
}

fn advert() -> Advert {
    Advert {
        version: Version::V3,
        vrid: 51,
        priority: 200,
        interval: Duration::from_secs(1),
        addresses: [VIP_V4].into_iter().collect(),
        auth: Auth::None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

fn built(advert: &Advert, envelope: &Envelope) -> Vec<u8> {
    build(advert, envelope, &mut [0; MAX_LEN]).to_vec()
}

/// The ones' complement of the sum of 16-bit words, from scratch.
fn sum_of(parts: &[&[u8]]) -> u16 {
    let mut bytes: Vec<u8> = parts.concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let mut sum: u64 = bytes.chunks(2).map(|it| u64::from(it[0]) * 256 + u64::from(it[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A version 3 packet in IPv4 with `change` made to it, and its checksum right again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = built(&advert(), &multicast_v4());
    change(&mut packet);
    packet[6..8].fill(0);
    let sum = sum_of(&[&packet]);
    packet[6..8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// V1 to V9, in their order.
#[rstest]
#[case::v1_ttl(changed(|_| ()), Envelope { ttl: 254, ..multicast_v4() }, Discard::Ttl(254))]
#[case::v2_nothing(Vec::new(), multicast_v4(), Discard::Length)]
#[case::v2_no_header(changed(|it| it.truncate(8))[..7].to_vec(), multicast_v4(), Discard::Length)]
#[case::v2_no_address(changed(|it| it.truncate(8)), multicast_v4(), Discard::Length)]
#[case::v2_short(changed(|it| it.truncate(11)), multicast_v4(), Discard::Length)]
#[case::v2_count(changed(|it| it[3] = 2), multicast_v4(), Discard::Length)]
#[case::v3_older(changed(|it| it[0] = 0x21), multicast_v4(), Discard::Version(2))]
#[case::v3_newer(changed(|it| it[0] = 0x41), multicast_v4(), Discard::Version(4))]
#[case::v4_type(changed(|it| it[0] = 0x32), multicast_v4(), Discard::Type(2))]
#[case::v5_checksum(
    { let mut it = changed(|_| ()); it[2] ^= 1; it }, multicast_v4(), Discard::Checksum
)]
#[case::v6_vrid(changed(|it| it[1] = 0), multicast_v4(), Discard::Vrid(0))]
#[case::v7_count(changed(|it| { it[3] = 0; it.truncate(8); }), multicast_v4(), Discard::AddressList)]
#[case::v8_interval(
    changed(|it| it[4..6].fill(0)), multicast_v4(), Discard::Interval(Duration::ZERO)
)]
#[case::v8_reserved_is_no_interval(
    changed(|it| { it[4] = 0xf0; it[5] = 0; }), multicast_v4(), Discard::Interval(Duration::ZERO)
)]
fn is_discarded(#[case] packet: Vec<u8>, #[case] envelope: Envelope, #[case] expected: Discard) {
    assert_eq!(parse(&packet, &envelope, Version::V3), Err(expected));
    assert!(Discard::COUNTERS.contains(&expected.counter()));
}

#[test]
fn each_discard_has_a_counter_of_its_own() {
    let all = [
        Discard::Ttl(0),
        Discard::Length,
        Discard::Version(0),
        Discard::Type(0),
        Discard::Checksum,
        Discard::Vrid(0),
        Discard::AddressList,
        Discard::Interval(Duration::ZERO),
        Discard::AuthType(0),
        Discard::AuthFailure,
        Discard::Cast,
        Discard::Stranger,
        Discard::OwnSource,
        Discard::NotRunning,
    ];
    let counters: Vec<&str> = all.iter().map(|discard| discard.counter()).collect();
    assert_eq!(counters, Discard::COUNTERS);
}

/// V9, and V2 with Ethernet's padding.
#[rstest]
#[case::reserved_bits(changed(|it| it[4] |= 0xf0))]
#[case::padding([changed(|_| ()), vec![0xa5; 34]].concat())]
fn is_taken(#[case] packet: Vec<u8>) {
    let parsed = parse(&packet, &multicast_v4(), Version::V3).unwrap();
    assert_eq!(parsed, Advert { checksum: ChecksumForm::Message, ..advert() });
}

#[test]
fn a_router_may_be_between_unicast_peers() {
    let envelope = Envelope { ttl: 60, ..unicast_v4() };
    assert!(parse(&built(&advert(), &envelope), &envelope, Version::V3).is_ok());
}

#[test]
fn version_2_without_its_auth_data_is_too_short() {
    let advert = Advert { version: Version::V2, checksum: ChecksumForm::Message, ..advert() };
    let packet = built(&advert, &multicast_v4());
    assert_eq!(packet.len(), 20);
    for length in 0..20 {
        let parsed = parse(&packet[..length], &multicast_v4(), Version::V2);
        assert_eq!(parsed, Err(Discard::Length), "{length}");
    }
    assert_eq!(parse(&packet, &multicast_v4(), Version::V2), Ok(advert));
}

#[test]
fn the_old_unicast_checksum_is_taken_and_labelled() {
    let packet = built(&advert(), &multicast_v4());
    let parsed = parse(&packet, &unicast_v4(), Version::V3).unwrap();
    assert_eq!(parsed.checksum, ChecksumForm::MulticastPseudoHeader);
}

/// T5: the pseudo-header has the address that the packet goes to.
#[test]
fn every_unicast_peer_gets_its_own_checksum() {
    let other = Envelope { destination: Ipv4Addr::new(10, 0, 0, 9).into(), ..unicast_v4() };
    let (one, two) = (built(&advert(), &unicast_v4()), built(&advert(), &other));
    assert_ne!(one[6..8], two[6..8]);
    assert_eq!(parse(&two, &other, Version::V3), Ok(advert()));
}

/// T2 and T3: rounded, then clamped.
#[rstest]
#[case(Version::V3, 40_958, [0x0f, 0xff])]
#[case(Version::V3, 60_000, [0x0f, 0xff])]
#[case(Version::V3, 40_950, [0x0f, 0xff])]
#[case(Version::V3, 1004, [0, 100])]
#[case(Version::V3, 1005, [0, 101])]
#[case(Version::V3, 0, [0, 1])]
#[case(Version::V2, 0, [0, 1])]
#[case(Version::V2, 1400, [0, 1])]
#[case(Version::V2, 255_000, [0, 255])]
#[case(Version::V2, 400_000, [0, 255])]
fn interval_on_the_wire(#[case] version: Version, #[case] millis: u64, #[case] expected: [u8; 2]) {
    let interval = Duration::from_millis(millis);
    let packet = built(&Advert { version, interval, ..advert() }, &multicast_v4());
    assert_eq!(packet[4..6], expected);
}

/// T6 and T9.
#[test]
fn addresses_keep_their_order_and_are_of_the_packets_family() {
    let v6: IpAddr = "fe80::1".parse().unwrap();
    let addresses = [VIP_V4, v6, FROM_V4].into_iter().collect();
    let packet = built(&Advert { addresses, ..advert() }, &multicast_v4());
    assert_eq!(packet[3], 2);
    assert_eq!(packet[8..], [10, 0, 0, 100, 10, 0, 0, 3]);
}

#[test]
fn as_many_addresses_as_can_be_counted() {
    let addresses: Vec<IpAddr> = (0..255).map(|n| Ipv6Addr::from_bits(n).into()).collect();
    let advert = Advert { addresses: addresses.into_iter().collect(), ..advert() };
    let packet = built(&advert, &multicast_v6());
    assert_eq!(packet.len(), MAX_LEN);
    assert_eq!(parse(&packet, &multicast_v6(), Version::V3), Ok(advert));
}

#[test]
fn version_and_vrid_can_be_peeked_at() {
    assert_eq!(peek(&[0x31, 7]), Some((3, 7)));
    assert_eq!(peek(&[0x31]), None);
}

prop_compose! {
    fn any_advert()(
        version in prop_oneof![Just(Version::V2), Just(Version::V3)],
        vrid in 1..=255_u8,
        priority in any::<u8>(),
        interval in 1..=255_u64,
        addresses in proptest::collection::vec(any::<u32>(), 1..=20),
        data in any::<Option<[u8; 8]>>(),
        message in any::<bool>(),
    ) -> Advert {
        let (auth, checksum) = match version {
            Version::V2 => (data.map_or(Auth::None, Auth::Simple), ChecksumForm::Message),
            Version::V3 if message => (Auth::None, ChecksumForm::Message),
            Version::V3 => (Auth::None, ChecksumForm::PseudoHeader),
        };
        let interval = match version {
            Version::V2 => Duration::from_secs(interval),
            Version::V3 => Duration::from_millis(interval * 10),
        };
        let addresses = addresses.into_iter().map(|it| Ipv4Addr::from_bits(it).into()).collect();
        Advert { version, vrid, priority, interval, addresses, auth, checksum }
    }
}

proptest! {
    /// A pseudo-header whose sum is zero makes both forms the same.
    #[test]
    fn what_is_built_is_parsed(advert in any_advert()) {
        let packet = built(&advert, &multicast_v4());
        let parsed = parse(&packet, &multicast_v4(), advert.version);
        prop_assert_eq!(parsed, Ok(advert));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), ttl: u8) {
        for envelope in [multicast_v4(), multicast_v6(), unicast_v4()] {
            for version in [Version::V2, Version::V3] {
                let _ = parse(&bytes, &Envelope { ttl, ..envelope }, version);
            }
        }
    }
}
