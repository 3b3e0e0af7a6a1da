//! Connections and data through the VIP, with every backend well or one of them not.

use std::time::Duration;

use lb_tests::eventually::eventually_is;
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::plain;
use lb_tests::topology::{Plan, Topology};

use crate::measured;

const EVER: std::ops::Range<Duration> = Duration::ZERO..Duration::MAX;

/// Short connections by one client, to three equal backends: none is lost, none is slow, and the
/// backends get equal shares. Then nothing is left of them.
fn short_connections(connections: u64, server_closes_first: bool) {
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
    assert!(report.connect_max < Duration::from_secs(1), "{:?}", report.connect_max);
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
    short_connections(100_000, false);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_20_000_connections_that_the_server_closes_none_is_lost_or_slow() {
    short_connections(20_000, true);
}
