//! Apiservers are restarted one after the other under load: with notice, and without.

use std::thread::sleep;
use std::time::Duration;

use lb_tests::apiserver::Mode;
use lb_tests::load::{Running, Talk};
use lb_tests::recorder::{Failure, Report};

use crate::apiservers::{Apiservers, EVER, PATIENCE, SLACK, more_answers, wait_each};
use crate::measured;

/// New connections a second.
const RATE: u32 = 1000;
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

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn of_a_rolling_restart_without_notice_connections_fail_for_a_moment() {
    const OUT: Duration = Duration::from_millis(1300);
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let load = scene.load_of(Talk::Http, RATE, 0).unwrap();
    more_answers(&load, 500).unwrap();
    let mut killed = Vec::new();
    for (name, states) in [
        ("cp1", ["down", "up", "up"]),
        ("cp2", ["up", "down", "up"]),
        ("cp3", ["up", "up", "down"]),
    ] {
        killed.push(load.recorder.now());
        scene.kill(name).unwrap();
        let took = wait_each(&controller, "state", states, OUT + SLACK).unwrap();
        measured(&format!("{name} out after {took:.2?}"));
        sleep(OUT.saturating_sub(took) + SLACK);
        scene.start(name).unwrap();
        wait_each(&controller, "state", ["up"; 3], PATIENCE).unwrap();
    }
    let report = finish(load);
    measured(&format!("{} connections, failed {:?}", report.sent, report.failed));
    for (started, _, why, words) in &report.failures {
        let kill = killed.iter().rev().find(|kill| *kill <= &(*started + SLACK)).copied();
        let after = started.saturating_sub(kill.unwrap_or_default());
        assert!(after <= OUT, "{words} {after:?} after the last kill");
        // Nobody waits for an answer that does not come.
        assert!(
            !matches!(why, Failure::ConnectTimeout | Failure::AnswerTimeout),
            "{why:?} {after:?} after the last kill"
        );
    }
}

fn finish(load: Running) -> Report {
    more_answers(&load, 500).unwrap();
    load.stop().unwrap().report(&EVER)
}
