//! Connections and data through the VIP, with every backend well or one of them not.

use std::collections::BTreeMap;
use std::env;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use lb_tests::capture::Capture;
use lb_tests::eventually::{Seen, eventually, eventually_is};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Recorder;
use lb_tests::standstill;
use lb_tests::topology::{API_PORT, Arms, Plan, Topology};
use lb_tests::transfer::{MIB, TransferServer, Way, transfer};

use crate::measured;

const EVER: Range<Duration> = Duration::ZERO..Duration::MAX;
/// What must happen at all happens within this.
const EVENTUALLY: Duration = Duration::from_secs(10);

/// Short connections by one client, to three equal backends: none is lost, none is slow, and the
/// backends get equal shares. Then nothing is left of them.
fn short_connections(connections: u64, server_closes_first: bool) {
    standstill::watch().unwrap();
    let lab = Topology::build(&Plan::default()).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up(&lab).unwrap();

    let load = Load {
        target: plain::target(&lab),
        talk: Talk::Plain { server_closes_first },
        pace: Pace::Closed { connections, workers: 16 },
        watches: 0,
    };
    let recorder = load.start(&lab.client.netns.handle()).unwrap().wait().unwrap();
    let took = recorder.now();
    let report = recorder.report(&EVER);
    let rate = connections as f64 / took.as_secs_f64();
    measured(&format!(
        "{connections} short connections in {took:.1?}: {rate:.0}/s, to connect p50 {:?} p99 {:?} \
         max {:?}, {:?}",
        report.connect_p50, report.connect_p99, report.connect_max, report.by_server,
    ));
    assert_eq!(report.failed_total(), 0, "{:?}", &report.failures[..report.failures.len().min(10)]);
    assert_eq!(u64::try_from(report.answered).unwrap(), connections);
    let slowest = recorder.slowest_to_connect();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let share = connections as f64 / 3.0;
    for host in &lab.backends {
        let got = report.by_server[host.name.as_str()] as f64;
        assert!((got - share).abs() < 0.1 * share, "{}: {got} of {connections}", host.name);
    }
    if !server_closes_first {
        let established = || Ok(controller.status()?["flows"]["established"].as_u64().unwrap());
        let (none, patience) = (|flows: &u64| *flows == 0, Duration::from_secs(8));
        let start = recorder.now();
        eventually_is("no established flow", patience, established, none).unwrap();
        measured(&format!("no flow left after {:.1?}", recorder.now() - start));
    }
    let status = controller.status().unwrap();
    measured(&format!("flows {}, counters {}", status["flows"], status["counters"]));
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_100_000_short_connections_none_is_lost_or_slow_and_the_shares_are_equal() {
    // For whoever has the time: a million takes some minutes.
    let connections = env::var("FAIRLEAD_TEST_CONNECTIONS");
    short_connections(connections.map_or(100_000, |number| number.parse().unwrap()), false);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_20_000_connections_that_the_server_closes_none_is_lost_or_slow() {
    short_connections(20_000, true);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_gibibyte_each_way_arrives_intact_and_with_good_checksums() {
    let lab = Topology::build(&Plan { backends: 1, ..Plan::default() }).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    let _server = TransferServer::start(&cp1.netns, &cp1.listens(API_PORT)[..]).unwrap();
    let _controller = plain::start_up(&lab).unwrap();

    sampled_transfers(&lab, &["client", "cp1"], 1, 32 * MIB);
    for way in [Way::Download, Way::Upload] {
        let clock = Recorder::new();
        moved_intact(&lab, way, 1024 * MIB);
        let took = clock.now();
        let rate = 8.0 * 1024.0 * 1.048_576e6 / took.as_secs_f64() / 1e9;
        measured(&format!("1 GiB {way:?} in {took:.1?}: {rate:.2} Gbit/s"));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn client_and_backends_on_two_interfaces_are_joined() {
    let lab = Topology::build(&Plan { arms: Arms::Two, ..Plan::default() }).unwrap();
    let servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up(&lab).unwrap();

    let load = Load {
        target: plain::target(&lab),
        talk: Talk::Plain { server_closes_first: false },
        pace: Pace::Closed { connections: 2_000, workers: 16 },
        watches: 0,
    };
    let report = load.start(&lab.client.netns.handle()).unwrap().wait().unwrap().report(&EVER);
    assert_eq!((report.failed_total(), report.answered), (0, 2_000), "{report:?}");
    assert_eq!(report.by_server.len(), 3, "{:?}", report.by_server);
    // Each connection has at least SYN, ACK, data and FIN one way; SYN-ACK, data and FIN the other.
    for (counter, least) in [("redirect_request", 8_000), ("redirect_reply", 6_000)] {
        let count = plain::wait_counter(&controller, counter, |count| *count >= least).unwrap();
        measured(&format!("{counter} {count}"));
    }

    drop(servers);
    let _servers: Vec<TransferServer> = lab
        .backends
        .iter()
        .map(|host| TransferServer::start(&host.netns, &host.listens(API_PORT)[..]).unwrap())
        .collect();
    for host in &lab.backends {
        controller.wait_backend(&host.name, "up", Duration::from_secs(10)).unwrap();
    }
    // Enough of them that each backend is chosen: one in 90 million tries would miss one.
    sampled_transfers(&lab, &["client", "cp1", "cp2", "cp3"], 24, MIB);
    let clock = Recorder::new();
    for way in [Way::Download, Way::Upload] {
        moved_intact(&lab, way, 128 * MIB);
    }
    measured(&format!("128 MiB each way between interfaces in {:.1?}", clock.now()));
    assert_eq!(controller.status().unwrap()["counters"]["forward_request"], 0);
}

/// Data both ways, on so many connections each, with every packet captured at the hosts' ends of the fabric: the checksums are good.
fn sampled_transfers(lab: &Topology, hosts: &[&str], connections: usize, length: u64) {
    let captures: Vec<Capture> = hosts
        .iter()
        .map(|host| {
            let file = lab.directory().join(format!("{host}.pcap"));
            Capture::start(&lab.fabric, host, "tcp", &file).unwrap()
        })
        .collect();
    for way in [Way::Download, Way::Upload] {
        (0..connections).for_each(|_| moved_intact(lab, way, length));
    }
    for (host, capture) in hosts.iter().zip(captures) {
        let sums = capture.finish().unwrap();
        sums.ensure_good().unwrap();
        measured(&format!("captured at {host}: {sums:?}"));
    }
}

fn moved_intact(lab: &Topology, way: Way, length: u64) {
    let target = plain::target(lab);
    let hashes = lab.client.netns.on_thread(|| transfer(target, way, length)).unwrap();
    assert_eq!(hashes.sent, hashes.received, "{way:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_killed_backend_gets_no_new_connection_after_two_seconds_until_it_is_back() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let mut servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up(&lab).unwrap();
    let load = Load {
        target: plain::target(&lab),
        talk: Talk::Plain { server_closes_first: false },
        pace: Pace::Open { per_second: 1_000 },
        watches: 0,
    };
    let running = load.start(&lab.client.netns.handle()).unwrap();
    let recorder = &running.recorder;
    sleep(Duration::from_secs(2));

    let killed = recorder.now();
    drop(servers.remove("cp2"));
    controller.wait_backend("cp2", "down", Duration::from_secs(5)).unwrap();
    let down = recorder.now();
    sleep((killed + Duration::from_secs(4)).saturating_sub(recorder.now()));
    let back = recorder.now();
    let _server = plain::echo_server(lab.backend("cp2").unwrap()).unwrap();
    let served = || Ok(recorder.served("cp2", back));
    let patience = Duration::from_secs(10);
    let (first, _) =
        eventually_is("cp2 serves", patience, served, Option::is_some).unwrap().unwrap();
    let all_serve = recorder.now();
    sleep(Duration::from_secs(2));
    let recorder = running.stop().unwrap();

    let before = recorder.report(&(Duration::ZERO..killed));
    let during = recorder.report(&(killed..killed + Duration::from_secs(2)));
    let after = recorder.report(&(killed + Duration::from_secs(2)..Duration::MAX));
    let last_failure = during.failures.iter().map(|(started, ..)| *started).max();
    measured(&format!(
        "{} connections, {} lost; the last of them {:?} after the kill; down after {:?}, first \
         answer {:?} after it was back; longest gap {:?}",
        before.sent + during.sent + after.sent,
        during.failed_total(),
        last_failure.map(|at| at.saturating_sub(killed)),
        down - killed,
        first - back,
        during.longest_gap,
    ));
    assert_eq!(before.failed_total(), 0, "{:?}", before.failed);
    assert_eq!(after.failed_total(), 0, "{:?}: {:?}", after.failed, after.failures.first());
    assert_eq!(after.answered, after.sent);
    // The load was what was promised.
    assert!(after.sent > 2_000, "{}", after.sent);
    let in_the_end = recorder.report(&(all_serve..Duration::MAX)).by_server;
    assert_eq!(in_the_end.len(), 3, "{in_the_end:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn removing_and_adding_a_backend_moves_no_connection_and_few_new_flows() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up(&lab).unwrap();
    let target = plain::target(&lab);

    let mut held = inside(&lab, || hold(target, 4_000..4_300));
    let all = inside(&lab, || servers_by_port(target));
    let shares = count(held.iter().map(|client| &client.server));
    assert_eq!(shares.len(), 3, "{shares:?}");

    let mut backends = plain::backends(&lab);
    let removed = backends.pop().unwrap();
    controller.write_config(&plain::config(&lab, &backends, controller.socket())).unwrap();
    controller.reload().unwrap();
    still_served(&mut held, "cp3 is removed");
    // Connections of a backend that is down are reset after three seconds; this one is not down.
    sleep(Duration::from_secs(4));
    still_served(&mut held, "cp3 has been away");
    let without = inside(&lab, || servers_by_port(target));
    let (necessary, moved) = moves(&all, &without, removed.0);
    measured(&format!("removal moves {necessary} necessarily, {moved} besides, of {}", all.len()));
    assert!(!without.values().any(|server| server == removed.0));
    assert!(moved * 20 < all.len(), "{moved} of {}", all.len());

    backends.push(removed);
    controller.write_config(&plain::config(&lab, &backends, controller.socket())).unwrap();
    controller.reload().unwrap();
    controller.wait_backend(removed.0, "up", Duration::from_secs(10)).unwrap();
    still_served(&mut held, "cp3 is back");
    let again = inside(&lab, || servers_by_port(target));
    let (necessary, moved) = moves(&without, &again, removed.0);
    measured(&format!("adding moves {necessary} necessarily, {moved} besides"));
    assert!(moved * 20 < all.len(), "{moved} of {}", all.len());
    // A third of all, give or take a quarter of it.
    let third = all.len() / 3;
    assert!(necessary.abs_diff(third) < third / 4, "{necessary} of {}", all.len());
    assert_eq!(all, again);
    for client in held {
        client.close().unwrap();
    }
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_any_backend_connections_are_refused_at_once_until_the_first_one_answers() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let controller = plain::start(&lab).unwrap();
    let target = plain::target(&lab);
    let clock = Recorder::new();
    let connect = || {
        let start = clock.now();
        let result = inside(&lab, || Ok(TcpStream::connect_timeout(&target, EVENTUALLY)));
        (result, clock.now() - start)
    };
    let mut slowest = Duration::ZERO;
    // Before the first probes are over, and after each backend is known to be down.
    for round in 0..20 {
        let (result, took) = connect();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused, "round {round}");
        slowest = slowest.max(took);
        sleep(Duration::from_millis(150));
    }
    measured(&format!("refused within {slowest:.1?}"));
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    assert!(controller.status().unwrap()["counters"]["reset_no_backend"].as_u64() >= Some(20));

    let cp2 = lab.backend("cp2").unwrap();
    let _server = plain::echo_server(cp2).unwrap();
    let listening = clock.now();
    let server = eventually("a first answer", EVENTUALLY, || {
        let answer = lab.client.netns.on_thread(|| EchoClient::connect(target, None));
        Ok(match answer {
            Ok(client) => Seen::Done(client.server),
            Err(error) => Seen::Pending(format!("{error:#}")),
        })
    });
    assert_eq!(server.unwrap(), "cp2");
    let took = clock.now() - listening;
    measured(&format!("the first backend is used {took:.1?} after it listens"));
    assert!(took < Duration::from_secs(3), "{took:?}");
    for _ in 0..20 {
        assert_eq!(inside(&lab, || EchoClient::connect(target, None)).server, "cp2");
    }
}

fn inside<T: Send>(lab: &Topology, work: impl FnOnce() -> Result<T> + Send) -> T {
    lab.client.netns.on_thread(work).unwrap()
}

fn hold(target: SocketAddr, ports: Range<u16>) -> Result<Vec<EchoClient>> {
    ports.map(|port| EchoClient::connect(target, Some(port))).collect()
}

/// Who answers new connections from each of these ports.
fn servers_by_port(target: SocketAddr) -> Result<BTreeMap<u16, String>> {
    let ask = |port| {
        let client = EchoClient::connect(target, Some(port))?;
        let server = client.server.clone();
        client.abort()?;
        Ok((port, server))
    };
    (2_000..3_500).map(ask).collect()
}

/// A moved connection would end in a RST, or never get its line back.
fn still_served(held: &mut [EchoClient], when: &str) {
    for client in held {
        client
            .exchange(when)
            .unwrap_or_else(|error| panic!("{when}, {}: {error:#}", client.server));
    }
}

/// Flows that went from or to `changed`, and those that went between two others.
fn moves(
    before: &BTreeMap<u16, String>,
    after: &BTreeMap<u16, String>,
    changed: &str,
) -> (usize, usize) {
    let moved = before.iter().filter(|(port, server)| after[port] != **server);
    let (necessary, others): (Vec<_>, Vec<_>) =
        moved.partition(|(port, server)| *server == changed || after[port] == changed);
    (necessary.len(), others.len())
}

fn count<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}
