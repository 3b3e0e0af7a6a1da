use super::*;
use crate::apiserver;
use crate::capture::Capture;
use crate::echo;
use crate::eventually::eventually_is;
use crate::topology::{API_PORT, Plan, Topology};

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn tls_load_and_watches_straight_at_a_backend_lose_nothing_until_it_dies() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    let target = SocketAddr::from((cp1.address, API_PORT));
    let pki = Pki::create(&lab.directory().join("pki"), &[("cp1", cp1.address)], &[]).unwrap();
    let (server, control) = apiserver::start(&cp1.netns, "cp1", target, &pki).unwrap();
    let pcap = lab.directory().join("cp1.pcap");
    let capture = Capture::start(&lab.fabric, "cp1", "tcp", &pcap).unwrap();

    let talk = Talk::tls(&pki).unwrap();
    let load = Load { target, talk, pace: Pace::Open { per_second: 50 }, watches: 3 };
    let running = load.start(&lab.client.netns.handle()).unwrap();
    let timeout = Duration::from_secs(5);
    let lines = || Ok(running.watches.lines());
    eventually_is("watch lines", timeout, lines, |lines| *lines > 30).unwrap();
    assert_eq!(running.watches.by_server()["cp1"], 3);
    apiserver::set_mode(&cp1.netns, apiserver::Mode::Drain).unwrap();
    assert_eq!(control.mode(), apiserver::Mode::Drain);
    let alive = Duration::ZERO..running.recorder.now();
    assert!(running.watches.breaks(&alive).is_empty());

    server.stop().unwrap();
    let everything = Duration::ZERO..Duration::MAX;
    let breaks = || Ok(running.watches.breaks(&everything).len());
    eventually_is("broken watches", timeout, breaks, |breaks| *breaks >= 3).unwrap();
    let report = running.recorder.report(&(Duration::ZERO..alive.end - Duration::from_millis(100)));
    assert!(report.sent > 30, "{report:?}");
    assert_eq!(report.by_server["cp1"], report.sent, "{report:?}");
    let after = alive.end..Duration::MAX;
    let refused = || Ok(running.recorder.report(&after).failed.get(&Failure::Refused).copied());
    eventually_is("refused connections", timeout, refused, Option::is_some).unwrap();
    running.stop().unwrap();
    capture.finish().unwrap().ensure_good().unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_closed_loop_ends_after_its_connections_whoever_closes_first() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    let target = SocketAddr::from((cp1.address, 7000));
    let _server = echo::start(&cp1.netns, "cp1", target).unwrap();
    for server_closes_first in [false, true] {
        let load = Load {
            target,
            talk: Talk::Plain { server_closes_first },
            pace: Pace::Closed { connections: 3_000, workers: 16 },
            watches: 0,
        };
        let recorder = load.start(&lab.client.netns.handle()).unwrap().wait().unwrap();
        let report = recorder.report(&(Duration::ZERO..Duration::MAX));
        assert_eq!(report.sent, 3_000);
        assert_eq!(report.by_server.get("cp1"), Some(&3_000), "{report:?}");
    }
}
