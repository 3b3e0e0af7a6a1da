//! What becomes of connections when apiservers are unwell, each in its own way.

use std::thread::sleep;
use std::time::Duration;

use lb_tests::apiserver::Mode;
use lb_tests::controller::Controller;
use rstest::rstest;

use crate::apiservers::{
    Apiservers, PATIENCE, SLACK, alarms, assert_nothing_lost, more_answers, of_each, panics,
    wait_each,
};
use crate::measured;

/// New connections a second.
const RATE: u32 = 60;
const WATCHES: usize = 30;

/// E29: `/readyz` red, `/livez` green or red.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
#[case::live(Mode::Drain, "draining")]
#[case::not_live(Mode::Fail, "down")]
fn a_backend_that_is_not_ready_gets_no_new_connections_and_keeps_its_old_ones(
    #[case] mode: Mode,
    #[case] state: &str,
) {
    const OUT: Duration = Duration::from_millis(1600);
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&["damping: 0s"]).unwrap();
    let load = scene.load(RATE, WATCHES).unwrap();
    more_answers(&load, 60).unwrap();
    let streams = load.watches.of_server("cp2");
    assert!(!streams.is_empty(), "no stream at cp2");

    let since = load.recorder.now();
    scene.control("cp2").set(mode);
    wait_each(&controller, "state", ["up", state, "up"], OUT + SLACK).unwrap();
    // Long enough for a reset, were there one.
    sleep(Duration::from_secs(4));
    let last = load.recorder.served("cp2", since).map_or(Duration::ZERO, |(_, last)| last - since);
    measured(&format!("{mode:?}: the last new connection {last:.1?} after it turned red"));
    assert!(last <= OUT + SLACK, "{last:?}");
    assert_eq!(load.watches.of_server("cp2"), streams);
    let reason = of_each(&controller, "reason").unwrap()["cp2"].clone();
    assert!(reason.starts_with("500"), "{reason}");

    scene.control("cp2").set(Mode::Ok);
    wait_each(&controller, "state", ["up", "up", "up"], PATIENCE).unwrap();
    assert_nothing_lost(load);
}

/// E30.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_whose_process_is_killed_is_avoided() {
    const OUT: Duration = Duration::from_millis(1300);
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let load = scene.load(RATE, 0).unwrap();
    more_answers(&load, 60).unwrap();
    let since = load.recorder.now();
    scene.kill("cp2").unwrap();
    wait_each(&controller, "state", ["up", "down", "up"], OUT + SLACK).unwrap();
    more_answers(&load, 120).unwrap();
    let recorder = load.stop().unwrap();
    measured(&format!("{:?}", recorder.report(&(since..Duration::MAX)).failed));
    let late = recorder.report(&(since + OUT + SLACK..Duration::MAX));
    assert_eq!(late.failed_total(), 0, "{:?}", late.failures);
    let reasons = of_each(&controller, "reason").unwrap();
    assert_eq!(reasons["cp2"], "connection refused");
}

/// E32.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn backends_that_hide_their_health_are_used_and_named_once() {
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let load = scene.load(RATE, WATCHES).unwrap();
    scene.set_all(Mode::Unauthorized);
    wait_each(&controller, "health", ["unverified"; 3], PATIENCE).unwrap();
    wait_each(&controller, "state", ["up"; 3], PATIENCE).unwrap();
    assert!(alarms(&controller).unwrap().contains("used unverified: cp1, cp2, cp3"));
    // Some more probes, which say the same.
    sleep(Duration::from_secs(3));
    assert_eq!(controller.log().matches("hides its health").count(), 3, "{}", controller.log());
    assert_nothing_lost(load);

    scene.kill("cp1").unwrap();
    wait_each(&controller, "state", ["down", "up", "up"], PATIENCE).unwrap();
    sleep(Duration::from_secs(2));
    wait_each(&controller, "health", ["down", "unverified", "unverified"], PATIENCE).unwrap();
}

/// E33.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn when_all_are_unwell_the_last_set_is_used_until_one_recovers() {
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&["damping: 0s"]).unwrap();
    let load = scene.load(RATE, WATCHES).unwrap();
    scene.set_all(Mode::Fail);
    wait_each(&controller, "state", ["down"; 3], PATIENCE).unwrap();
    assert!(panics(&controller).unwrap());
    let since = load.recorder.now();
    // Longer than `reset_delay`.
    sleep(Duration::from_secs(5));
    let report = load.recorder.report(&(since..Duration::MAX));
    assert_eq!(report.by_server.len(), 3, "{:?}", report.by_server);
    assert_eq!(load.watches.open(), WATCHES);

    scene.control("cp1").set(Mode::Ok);
    // `down_interval` and a tenth, then the second success.
    let recovery = Duration::from_millis(2200 + 250);
    wait_each(&controller, "state", ["up", "down", "down"], recovery + SLACK).unwrap();
    assert!(!panics(&controller).unwrap());
    wait_each(&controller, "effective_weight", ["100", "0", "0"], SLACK).unwrap();
    assert_nothing_lost(load);
}

/// E34, and what E33 is when the servers say that they live.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
#[case::etcd(Mode::WithoutEtcd, "degraded", false)]
#[case::not_ready(Mode::Drain, "draining", true)]
fn what_all_have_in_common_stops_nobody(
    #[case] mode: Mode,
    #[case] state: &str,
    #[case] panic: bool,
) {
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&["damping: 0s"]).unwrap();
    let load = scene.load(RATE, WATCHES).unwrap();
    scene.set_all(mode);
    wait_each(&controller, "state", [state; 3], PATIENCE).unwrap();
    wait_each(&controller, "effective_weight", ["100"; 3], SLACK).unwrap();
    assert_eq!(panics(&controller).unwrap(), panic);
    more_answers(&load, 60).unwrap();

    scene.control("cp3").set(Mode::Ok);
    wait_each(&controller, "state", [state, state, "up"], PATIENCE).unwrap();
    wait_each(&controller, "effective_weight", ["0", "0", "100"], SLACK).unwrap();
    assert!(!panics(&controller).unwrap());
    more_answers(&load, 60).unwrap();
    assert_nothing_lost(load);
}

/// E39.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_slow_handshake_is_a_timeout_and_delays_no_other_probe() {
    const OUT: Duration = Duration::from_millis(4100);
    const WATCHED: Duration = Duration::from_secs(7);
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let since = of_each(&controller, "since").unwrap();
    scene.control("cp2").set(Mode::SlowHandshake);
    let probes = |name: &str| scene.control(name).connections();
    let before = (probes("cp1"), probes("cp3"));
    let took = wait_each(&controller, "state", ["up", "down", "up"], OUT + SLACK).unwrap();
    let reasons = of_each(&controller, "reason").unwrap();
    assert_eq!(reasons["cp2"], "timeout in the TLS handshake");
    sleep(WATCHED.saturating_sub(took));
    // One a second, a tenth more or less.
    let probed = (probes("cp1") - before.0, probes("cp3") - before.1);
    measured(&format!("down after {took:.1?}; others probed {probed:?} times in {WATCHED:?}"));
    assert!((6..=8).contains(&probed.0) && (6..=8).contains(&probed.1), "{probed:?}");
    let now = of_each(&controller, "since").unwrap();
    assert_eq!((&now["cp1"], &now["cp3"]), (&since["cp1"], &since["cp3"]));
}

/// E35: the second loss is the last change while it flaps.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_flapping_backend_is_held_until_it_stays_well() {
    const WINDOW: Duration = Duration::from_secs(4);
    let scene = Apiservers::build().unwrap();
    // Every phase is seen.
    let keys = ["damping: 4s", "interval: 200ms", "fast_interval: 100ms", "down_interval: 200ms"];
    let mut controller = scene.balanced(&keys).unwrap();
    // A probe that the change meets midway finds it degraded in between.
    let ends = [" -> up", " -> down"];
    let changes = |controller: &Controller<'_>| {
        let log = controller.log();
        let of_cp2 = log.lines().filter(|line| line.contains("/cp2 ("));
        of_cp2.filter(|line| ends.iter().any(|end| line.contains(end))).count()
    };
    let before = changes(&controller);
    for _ in 0..6 {
        scene.control("cp2").set(Mode::Fail);
        sleep(Duration::from_secs(1));
        scene.control("cp2").set(Mode::Ok);
        sleep(Duration::from_secs(1));
    }
    // Down, up, down.
    assert_eq!(changes(&controller) - before, 3, "{}", controller.log());
    let reason = of_each(&controller, "reason").unwrap()["cp2"].clone();
    assert!(reason.contains("held until it was well for 4 s"), "{reason}");

    // One that had forgotten it would use it after two probes.
    controller.kill9().unwrap();
    controller.start().unwrap();
    let took = wait_each(&controller, "state", ["up"; 3], WINDOW + 2 * SLACK).unwrap();
    measured(&format!("back {took:.1?} after the start of a successor"));
    assert!(took >= WINDOW - Duration::from_millis(1500), "{took:?}");
    assert_eq!(changes(&controller) - before, 4);
}

/// Whoever comes back gets its share in steps, also of a successor.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_that_comes_back_gets_its_share_in_steps() {
    const QUARTER: Duration = Duration::from_secs(5);
    let scene = Apiservers::build().unwrap();
    let keys = ["slow_start: 20s", "damping: 0s", "interval: 200ms", "fast_interval: 100ms"];
    let mut controller = scene.balanced(&keys).unwrap();
    let weights = |expected| wait_each(&controller, "effective_weight", expected, PATIENCE);
    scene.kill("cp2").unwrap();
    weights(["100", "0", "100"]).unwrap();
    scene.start("cp2").unwrap();
    weights(["100", "25", "100"]).unwrap();

    // At a ninth of all in place of a third.
    let load = scene.load(100, 0).unwrap();
    let since = load.recorder.now();
    let took = weights(["100", "50", "100"]).unwrap();
    measured(&format!("from a quarter to half of its weight: {took:.1?}"));
    assert!(took <= QUARTER + SLACK, "{took:?}");
    let served = load.recorder.answers(&(since..load.recorder.now()));
    let (all, of_cp2) = (served.values().sum::<usize>(), served.get("cp2").copied().unwrap_or(0));
    measured(&format!("{of_cp2} of {all} new connections while it had a quarter"));
    assert!(of_cp2 * 5 < all, "{of_cp2} of {all}");

    controller.kill9().unwrap();
    controller.start().unwrap();
    let weight = of_each(&controller, "effective_weight").unwrap()["cp2"].clone();
    assert!(weight == "50" || weight == "75", "{weight}");
    assert_nothing_lost(load);
}

/// Killed or asked to end, it leaves what it knew to its successor.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_successor_adopts_every_state() {
    let scene = Apiservers::build().unwrap();
    let mut controller = scene.balanced(&[]).unwrap();
    scene.control("cp1").set(Mode::Drain);
    scene.control("cp2").set(Mode::WithoutEtcd);
    let states = ["draining", "degraded", "up"];
    wait_each(&controller, "state", states, PATIENCE).unwrap();
    controller.cli(&["backend", "drain", "kube-apiserver/cp2"]).unwrap();
    for kill in [true, false] {
        if kill {
            controller.kill9().unwrap();
        } else {
            assert!(controller.stop(true).unwrap().success());
        }
        // Nobody answers: what is said is what was known.
        scene.control("cp1").set(Mode::SlowHandshake);
        scene.control("cp2").set(Mode::SlowHandshake);
        controller.start().unwrap();
        assert_eq!(of_each(&controller, "health").unwrap()["cp1"], "draining");
        assert_eq!(of_each(&controller, "health").unwrap()["cp2"], "degraded");
        scene.control("cp1").set(Mode::Drain);
        scene.control("cp2").set(Mode::WithoutEtcd);
        wait_each(&controller, "health", states, PATIENCE).unwrap();
    }
}
