//! Apiservers are restarted one after the other under load: with notice, and without.

use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use lb_tests::apiserver::Mode;
use lb_tests::load::{Running, Talk};
use lb_tests::recorder::{Failure, Report};

use crate::apiservers::{Apiservers, EVER, PATIENCE, SLACK, more_answers, wait_each};
use crate::measured;

/// New connections a second.
const RATE: u32 = 1000;
/// A client sends its SYN again after a second (RFC 6298 section 2.1); once is enough.
const SYN_AGAIN: Duration = Duration::from_millis(1900);
const NAMES: [&str; 3] = ["cp1", "cp2", "cp3"];

/// E37, three times: `/readyz` is red for `shutdown-delay-duration` before the port is closed.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_a_rolling_restart_with_notice_no_connection_fails() {
    const NOTICE: Duration = Duration::from_secs(5);
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let load = scene.load_of(Talk::Http, RATE, 0).unwrap();
    more_answers(&load, 500).unwrap();
    for name in NAMES {
        scene.control(name).set(Mode::Drain);
        sleep(NOTICE);
        scene.control(name).set(Mode::Leave);
        // What it has begun it ends.
        sleep(Duration::from_millis(500));
        scene.kill(name).unwrap();
        scene.start(name).unwrap();
        wait_each(&controller, "state", ["up"; 3], PATIENCE).unwrap();
    }
    let report = finish(load);
    measured(&format!("{} connections, {:?}", report.sent, report.by_server));
    assert_eq!(report.failed_total(), 0, "{:?}", &report.failures[..report.failures.len().min(9)]);
}

/// The same without a word. Whoever has a connection to the one that is killed loses it; whoever is about
/// to connect to it is not told, and connects to another with the next SYN.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_a_rolling_restart_without_notice_only_connections_in_flight_fail() {
    const OUT: Duration = Duration::from_millis(1300);
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let load = scene.load_of(Talk::Http, RATE, 0).unwrap();
    more_answers(&load, 500).unwrap();
    let mut kills = Vec::new();
    for (name, states) in [
        ("cp1", ["down", "up", "up"]),
        ("cp2", ["up", "down", "up"]),
        ("cp3", ["up", "up", "down"]),
    ] {
        let before = load.recorder.now();
        scene.kill(name).unwrap();
        kills.push(before..load.recorder.now());
        let took = wait_each(&controller, "state", states, OUT + SLACK).unwrap();
        measured(&format!("{name} out after {took:.2?}"));
        sleep(OUT.saturating_sub(took) + SLACK);
        scene.start(name).unwrap();
        wait_each(&controller, "state", ["up"; 3], PATIENCE).unwrap();
    }
    let report = finish(load);
    let held_back = controller.status().unwrap()["counters"]["drop_refused_syn"].as_u64();
    measured(&format!(
        "{} connections, failed {:?}, {held_back:?} refusals held back, slowest {:.2?}",
        report.sent, report.failed, report.connect_max
    ));
    assert!(held_back > Some(0), "nobody was about to connect");
    assert!(report.connect_max < SYN_AGAIN, "{:?}", report.connect_max);
    for (started, ended, why, words) in &report.failures {
        assert!(matches!(why, Failure::Reset | Failure::CutShort), "{why:?}: {words}");
        let in_flight = |kill: &Range<Duration>| *started <= kill.end && *ended >= kill.start;
        assert!(kills.iter().any(in_flight), "{started:?} to {ended:?}: {words}; {kills:?}");
    }
}

fn finish(load: Running) -> Report {
    more_answers(&load, 500).unwrap();
    load.stop().unwrap().report(&EVER)
}
