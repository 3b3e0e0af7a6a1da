//! What the table says of backends that are neither well nor dead.

use super::*;
use crate::health::Stage;

/// Red while it lives, then gone: its connections are its own to end.
#[tokio::test(start_paused = true)]
async fn an_announced_end_is_not_hard() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Status(200));
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_secs(1)).await;
    bench.answer("cp1", Reason::NotReady(Box::new(Reason::Status(500))));
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(bench.health("cp1"), Some(Health::Draining));
    bench.answer("cp1", Reason::Refused);
    bench.pass(Duration::from_secs(2)).await;
    let report = bench.report("cp1").unwrap();
    assert_eq!((report.health, &report.reason), (Health::Down, &Reason::Refused));
    assert!(!report.is_hard());
    bench.answer("cp1", Reason::Timeout(Stage::Connect));
    bench.pass(Duration::from_secs(3)).await;
    assert!(bench.report("cp1").unwrap().is_hard(), "its host is gone too");
}

#[tokio::test(start_paused = true)]
async fn trouble_of_ours_keeps_the_state_and_is_shown() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Status(401));
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_secs(1)).await;
    let before = bench.report("cp1").unwrap();
    assert_eq!(before.health, Health::Unverified);
    let trouble = Reason::Local("no file is left".to_owned());
    bench.answer("cp1", trouble.clone());
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(bench.report("cp1").unwrap(), Report { reason: trouble, ..before });
}

/// Each change of the table has the controller look at everything: a backend that flaps makes few.
#[tokio::test(start_paused = true)]
async fn a_flapping_backend_changes_the_table_seldom() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Status(200));
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_millis(100)).await;
    let expected = [Health::Up, Health::Down, Health::Up, Health::Down];
    let mut seen = Vec::new();
    // Two answers that agree, which let it come back, are a matter of chance; it is held from the second loss on.
    let mut held_for = 0;
    for second in 0..20_000 {
        let is_up = second % 2 == 0;
        bench.answer("cp1", if is_up { Reason::Status(200) } else { Reason::Refused });
        bench.pass(Duration::from_secs(1)).await;
        let health = bench.health("cp1").unwrap();
        if seen.last() != Some(&health) {
            seen.push(health);
        }
        held_for += u32::from(seen == expected);
        if held_for == 300 {
            break;
        }
    }
    assert_eq!(seen, expected);
    bench.answer("cp1", Reason::Status(200));
    bench.pass(Duration::from_secs(5)).await;
    let held = bench.report("cp1").unwrap();
    assert!(held.held && held.reason == Reason::Held(Duration::from_secs(10)), "{held:?}");
    bench.pass(Duration::from_secs(10)).await;
    let back = bench.report("cp1").unwrap();
    assert!(!back.held && back.health == Health::Up, "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_gets_its_share_in_steps() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    let pace = Pace { slow_start: Duration::from_secs(8), ..Pace::default() };
    let check = HealthCheck { pace, ..check() };
    bench.answer("cp1", Reason::Refused);
    monitor.reconcile(vec![Target {
        check: Arc::new(check),
        initial: Health::Down,
        ..target("cp1")
    }]);
    bench.pass(Duration::from_secs(3)).await;
    bench.answer("cp1", Reason::Connected);
    let mut shares = Vec::new();
    for _ in 0..200 {
        bench.pass(Duration::from_millis(100)).await;
        let report = bench.report("cp1").unwrap();
        if report.health == Health::Up && shares.last() != Some(&report.share) {
            shares.push(report.share);
        }
    }
    assert_eq!(shares, [25, 50, 75, 100]);
}

/// Held for flapping, it is not back after two probes; coming back slowly, it does not get all at once.
#[tokio::test(start_paused = true)]
async fn a_successor_goes_on_with_what_was() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Status(200));
    bench.answer("cp2", Reason::Status(200));
    let held = Past { hold: Duration::from_secs(10), ..Past::default() };
    let pace = Pace { slow_start: Duration::from_secs(8), ..Pace::default() };
    let check = Arc::new(HealthCheck { pace, ..check() });
    let back = Past { back: Some(now()), ..Past::default() };
    monitor.reconcile(vec![
        Target { initial: Health::Down, past: held, ..target("cp1") },
        Target { initial: Health::Up, past: back, check, ..target("cp2") },
    ]);
    assert_eq!(bench.report("cp2").unwrap().share, 25, "before the first probe");
    bench.pass(Duration::from_secs(9)).await;
    assert_eq!(bench.health("cp1"), Some(Health::Down));
    assert!(bench.report("cp1").unwrap().held);
    assert_eq!(bench.report("cp2").unwrap().share, 100);
    assert_eq!(bench.report("cp2").unwrap().past, Past::default());
    bench.pass(Duration::from_secs(3)).await;
    assert_eq!(bench.health("cp1"), Some(Health::Up));
    assert_eq!(bench.report("cp1").unwrap().past.hold, Duration::from_secs(10));
}
