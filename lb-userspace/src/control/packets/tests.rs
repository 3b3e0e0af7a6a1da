use std::net::SocketAddr;

use lb_common::conntrack::Timeouts;

use super::*;
use crate::admin::model::packet::PacketQuery;
use crate::control::flows::{BackendNames, InstalledBackend, Named};

fn directory() -> Directory {
    let names =
        |service: &str| BackendNames { service: service.to_owned(), name: "cp1".to_owned() };
    let at = |address: &str| InstalledBackend { epoch: 0, address: address.parse().unwrap() };
    Directory {
        services: [(1, Named { name: "api".to_owned(), timeouts: Timeouts::default() })].into(),
        backends: [(7, names("api")), (8, names("api")), (9, names("other"))].into(),
        installed: [(7, at("10.0.0.11:6443")), (8, at("[fd00::11]:6443"))].into(),
    }
}

fn asked(change: impl FnOnce(&mut PacketQuery)) -> Result<Filter, String> {
    let mut query = PacketQuery::default();
    change(&mut query);
    filter(&query.wish()?, &directory(), HEADERS)
}

#[test]
fn without_a_wish_all_that_is_about_vips_is_told() {
    let filter = asked(|_| ()).unwrap();
    for counter in Counter::ALL {
        let is_ours = !["pass_not_ip", "pass_not_vip", "pass_foreign"].contains(&counter.name());
        assert_eq!(filter.counters & Filter::bit(*counter) != 0, is_ours, "{}", counter.name());
    }
    assert!(filter.client_mask.is_unspecified() && filter.vip.is_unspecified());
    assert_eq!((filter.backends[0].id, filter.sides, filter.snap), (0, side::BOTH, HEADERS));
    assert_eq!(filter.limit, RateLimit::new(1000, 100));
}

#[test]
fn dropped_and_passed_packets_leave_nothing() {
    let leaving = asked(|_| ()).unwrap().leaving;
    for (counter, leaves) in [
        (Counter::ForwardReply, true),
        (Counter::RedirectRequest, true),
        (Counter::ResetNoFlow, true),
        (Counter::AnswerTimeExceeded, true),
        (Counter::DropStaleReply, false),
        (Counter::PassNotTcp, false),
    ] {
        assert_eq!(leaving & Filter::bit(counter) != 0, leaves, "{}", counter.name());
    }
}

#[test]
fn a_range_of_clients_is_a_mask_in_either_family() {
    for (range, inside, outside) in [
        ("10.0.0.0/24", "10.0.0.200", "10.0.1.0"),
        ("10.0.0.2", "10.0.0.2", "10.0.0.3"),
        ("0.0.0.0/0", "192.0.2.1", "fd00::1"),
        ("fd00::/64", "fd00::1:2", "fd00:0:0:1::1"),
        ("::/0", "fd00::1", "10.0.0.1"),
    ] {
        let filter = asked(|query| query.client = Some(range.to_owned())).unwrap();
        let is_in = |address: &str| {
            IpBe::new(address.parse().unwrap()).is_within(filter.client, filter.client_mask)
        };
        assert!(is_in(inside), "{range} {inside}");
        // A prefix of IPv6 without length has those of IPv4 in it, which are mapped into it.
        assert!(!is_in(outside) || range == "::/0", "{range} {outside}");
    }
}

#[test]
fn a_backends_name_stands_for_all_that_are_called_so() {
    let filter = asked(|query| query.backend = Some("api/cp1".to_owned())).unwrap();
    assert_eq!(filter.backends.map(|it| it.id)[..3], [7, 8, 0]);
    let first: SocketAddr = "10.0.0.11:6443".parse().unwrap();
    assert_eq!(filter.backends[0].address.get(), first.ip());
    assert_eq!(filter.backends[0].port.get(), first.port());
    let filter = asked(|query| query.backend = Some("cp1".to_owned())).unwrap();
    assert_eq!(filter.backends.map(|it| it.id)[..4], [7, 8, 9, 0]);
    assert!(asked(|query| query.backend = Some("api/cp2".to_owned())).is_err());
}

/// Ethernet, a tag, IPv4, TCP with data, cut off behind the header.
#[test]
fn a_frame_that_is_cut_off_has_its_length_from_its_headers() {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0];
    bytes.extend([0x45, 0, 1, 0, 0, 0, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 100]);
    bytes.extend([0x9c, 0x40, 0x19, 0x2b, 0, 0, 0, 5, 0, 0, 0, 6, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    let frame = describe_frame(&bytes, 274);
    assert_eq!((frame.length, frame.vlans), (274, vec![7]));
    assert_eq!(frame.source_mac.as_deref(), Some("02:00:00:00:00:02"));
    assert_eq!(frame.source, Some("10.0.0.2".parse().unwrap()));
    assert_eq!((frame.source_port, frame.destination_port), (Some(40_000), Some(6443)));
    assert_eq!((frame.hops, frame.protocol.as_deref()), (Some(63), Some("tcp")));
    let tcp = frame.tcp.unwrap();
    assert_eq!((tcp.flags.as_str(), tcp.seq, tcp.ack, tcp.payload), ("PSH ACK", 5, 6, 256 - 40));
}

#[test]
fn whatever_is_captured_is_described() {
    let bytes: Vec<u8> = (0..=255).collect();
    for start in 0..bytes.len() {
        for length in [0, 1, 13, 14, 34, 60, 128] {
            let end = (start + length).min(bytes.len());
            let _ = describe_frame(&bytes[start..end], 1500);
        }
    }
}
