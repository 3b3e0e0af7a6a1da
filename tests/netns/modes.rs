//! Connections and data through the VIP in every mode and either family.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use lb_tests::capture::Capture;
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::netns::Netns;
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Report;
use lb_tests::standstill;
use lb_tests::topology::{API_PORT, Backends, Gateway, Plan, Topology};
use lb_tests::transfer::{MIB, TransferServer, Way, transfer};
use rstest::rstest;

use crate::measured;

pub(super) const NAT: Backends = Backends::Neighbours;
pub(super) const DNAT: Backends = Backends::Behind(Gateway::Vip);
pub(super) const DSR: Backends = Backends::HoldVips;

const EVER: Range<Duration> = Duration::ZERO..Duration::MAX;
const CONNECTIONS: u64 = 2_000;
/// In dsr nobody but the client is seen to close.
const SOON: &str = "    timeouts: { closing: 2s, half_closed: 2s }\n";

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn short_connections_are_answered_whoever_closes_first(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up_with(&lab, family, SOON).unwrap();
    for server_closes_first in [false, true] {
        let report = short_connections(&lab, plain::target_of(&lab, family), server_closes_first);
        let what = format!("{} {family:?}, server first: {server_closes_first}", lab.mode);
        ensure_all_answered(&report, &what);
    }
    ensure_clients_are_seen(&lab, family);
    ensure_flows_end(&controller);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_service_of_both_families_serves_each_by_its_own() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary().unwrap(), lab.directory());
    let named = |family: Family, suffix: &str| -> Vec<_> {
        let backends = plain::backends_of(&lab, family).into_iter();
        backends.map(|(name, address)| (format!("{name}{suffix}"), address)).collect()
    };
    let backends = [named(V4, ""), named(V6, "-v6")].concat();
    let backends: Vec<_> = backends.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    controller.write_config(&plain::config(&lab, &backends, controller.socket())).unwrap();
    controller.start().unwrap();
    for (name, _) in &backends {
        controller.wait_backend(name, "up", Duration::from_secs(10)).unwrap();
    }
    for family in Family::ALL {
        for server_closes_first in [false, true] {
            let target = plain::target_of(&lab, family);
            let report = short_connections(&lab, target, server_closes_first);
            ensure_all_answered(&report, &format!("both families, {family:?}"));
        }
        ensure_clients_are_seen(&lab, family);
    }
}

/// Every frame of it at the client's and the backend's end of the fabric has good checksums.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn data_arrives_intact_both_ways_with_good_checksums(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    const LENGTH: u64 = 64 * MIB;
    let lab = Topology::build(&Plan { backends_are, backends: 1, ..Plan::default() }).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    let _server = TransferServer::start(&cp1.netns, &cp1.listens(API_PORT)[..]).unwrap();
    let _controller = plain::start_up_of(&lab, family).unwrap();
    let target = plain::target_of(&lab, family);

    // Probes of type tcp end by RST.
    let filter = format!("tcp and not host {}", lab.lbs[0].host.address_of(family));
    let captures = ["client", "cp1"].map(|host| {
        let file = lab.directory().join(format!("{host}.pcap"));
        (host, Capture::start(&lab.fabric, host, &filter, &file).unwrap())
    });
    for way in [Way::Download, Way::Upload] {
        let hashes = lab.client.netns.on_thread(|| transfer(target, way, LENGTH)).unwrap();
        assert_eq!(hashes.sent, hashes.received, "{way:?}");
    }
    for (host, capture) in captures {
        let sums = capture.finish().unwrap();
        sums.ensure_good().unwrap();
        measured(&format!("{} {family:?}, captured at {host}: {sums:?}", lab.mode));
        // What tcpdump lost of it does not matter, as long as most is there.
        let of_family = family.pick(sums.ipv4, sums.ipv6);
        assert!(of_family > 50_000, "{sums:?}");
        assert_eq!(sums.resets, 0, "{sums:?}");
    }
}

fn short_connections(lab: &Topology, target: SocketAddr, server_closes_first: bool) -> Report {
    let load = Load {
        target,
        talk: Talk::Plain { server_closes_first },
        pace: Pace::Closed { connections: CONNECTIONS, workers: 16 },
        watches: 0,
    };
    standstill::watch().unwrap();
    let recorder = load.start(&lab.client.netns.handle()).unwrap().wait().unwrap();
    Report { connect_max: recorder.slowest_to_connect(), ..recorder.report(&EVER) }
}

fn ensure_all_answered(report: &Report, what: &str) {
    let shares = &report.by_server;
    measured(&format!("{what}: {shares:?}, to connect at most {:?}", report.connect_max));
    assert_eq!(report.failed_total(), 0, "{what}: {:?}", report.failures.first());
    assert_eq!(u64::try_from(report.answered).unwrap(), CONNECTIONS, "{what}");
    assert!(report.connect_max < Duration::from_millis(900), "{what}: {:?}", report.connect_max);
    let third = CONNECTIONS as f64 / 3.0;
    assert_eq!(shares.len(), 3, "{what}: {shares:?}");
    let even = shares.values().all(|share| (*share as f64 - third).abs() < 0.25 * third);
    assert!(even, "{what}: {shares:?}");
}

/// By their own addresses, but in `nat`, which shows servers a VIP. A backend that is a client of its own
/// service is shown as a VIP in `dnat` too.
fn ensure_clients_are_seen(lab: &Topology, family: Family) {
    let seen = |netns: &Netns| {
        let mut client =
            netns.on_thread(|| EchoClient::connect(plain::target_of(lab, family), None)).unwrap();
        (client.seen_as().unwrap(), client.local_addr().unwrap())
    };
    for _ in 0..20 {
        let (seen_as, own) = seen(&lab.client.netns);
        if lab.mode == "nat" {
            assert_eq!(seen_as.ip(), lab.vip_of(family));
        } else {
            assert_eq!(seen_as, own, "{}", lab.mode);
        }
        if lab.mode == "dnat" {
            let (seen_as, _) = seen(&lab.backend("cp1").unwrap().netns);
            assert_eq!(seen_as.ip(), lab.vip_of(family));
        }
    }
}

/// Those that are over, at [`SOON`].
fn ensure_flows_end(controller: &Controller<'_>) {
    // What is counted is the last complete sweep's.
    sleep(Duration::from_secs(3));
    let flows = || Ok(controller.status()?["flows"]["established"].as_u64());
    let none = |flows: &Option<u64>| *flows == Some(0);
    eventually_is("no flow left", Duration::from_secs(10), flows, none).unwrap();
}
