use std::collections::VecDeque;
use std::future::pending;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::config::{Pace, Probe, Request};
use crate::health::testing::{Behaviour, OK, Server};

mod states;

fn check() -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp,
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        pace: Pace::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_backend_does_not_delay_another() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.hang("cp1");
    bench.answer("cp2", Reason::Connected);
    monitor.reconcile(vec![target("cp1"), target("cp2")]);
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(bench.health("cp1"), Some(Health::Unknown));
    assert_eq!(bench.health("cp2"), Some(Health::Up));
    assert_eq!(bench.probes("cp1"), 1);
    assert!((9..=12).contains(&bench.probes("cp2")), "{}", bench.probes("cp2"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_goes_down_and_comes_back() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Status(200));
    monitor.reconcile(vec![target("cp1")]);
    assert_eq!(bench.report("cp1").unwrap().reason, Reason::NotProbed);
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bench.report("cp1").unwrap().reason, Reason::Status(200));

    bench.answer("cp1", Reason::Refused);
    bench.pass(Duration::from_secs(2)).await;
    let down = bench.report("cp1").unwrap();
    assert_eq!((down.health, &down.reason), (Health::Down, &Reason::Refused));

    bench.answer("cp1", Reason::Status(200));
    bench.pass(Duration::from_secs(2)).await;
    let up = bench.report("cp1").unwrap();
    assert_eq!((up.health, &up.reason), (Health::Up, &Reason::Status(200)));
    assert!(up.since >= down.since);
}

#[tokio::test(start_paused = true)]
async fn one_failure_shows_nowhere() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Status(200));
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_millis(10)).await;
    let mut table = bench.table.clone();
    table.mark_unchanged();
    bench.answer_once("cp1", Reason::Refused);
    bench.pass(Duration::from_secs(3)).await;
    assert!(!table.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_changed_check_keeps_the_state() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Connected);
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_millis(10)).await;
    let before = bench.report("cp1").unwrap();

    bench.hang("cp1");
    let pace = Pace { interval: Duration::from_secs(9), ..Pace::default() };
    let check = HealthCheck { pace, ..check() };
    monitor.reconcile(vec![Target { check: Arc::new(check), ..target("cp1") }]);
    bench.pass(Duration::from_secs(5)).await;
    assert_eq!(bench.report("cp1").unwrap(), before);
    assert_eq!(bench.probes("cp1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_changed_check_abandons_the_probe_under_way() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.hang("cp1");
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_secs(1)).await;
    bench.answer("cp1", Reason::Connected);
    let source = Some(IpAddr::from([127, 0, 0, 9]));
    monitor.reconcile(vec![Target { source, ..target("cp1") }]);
    bench.pass(Duration::from_millis(10)).await;
    assert_eq!(bench.health("cp1"), Some(Health::Up));
    assert_eq!(bench.last_source("cp1"), source);
}

#[tokio::test(start_paused = true)]
async fn the_same_targets_again_change_nothing() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Connected);
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_millis(10)).await;
    let mut table = bench.table.clone();
    table.mark_unchanged();
    monitor.reconcile(vec![Target { initial: Health::Down, ..target("cp1") }]);
    bench.pass(Duration::from_millis(10)).await;
    assert_eq!(bench.probes("cp1"), 1);
    assert!(!table.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_adopted_state_holds_until_probes_speak_against_it() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Refused);
    monitor.reconcile(vec![Target { initial: Health::Up, ..target("cp1") }]);
    bench.pass(Duration::from_millis(10)).await;
    let report = bench.report("cp1").unwrap();
    assert_eq!((report.health, report.reason), (Health::Up, Reason::Adopted));
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bench.health("cp1"), Some(Health::Down));
}

#[tokio::test(start_paused = true)]
async fn a_removed_backend_leaves_the_table_and_is_not_probed() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Connected);
    bench.hang("cp2");
    monitor.reconcile(vec![target("cp1"), target("cp2")]);
    bench.pass(Duration::from_secs(2)).await;
    let probes = bench.probes("cp1");
    monitor.reconcile(Vec::new());
    assert!(bench.table.borrow().is_empty());
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(bench.probes("cp1"), probes);
    assert!(bench.table.borrow().is_empty());
    assert_eq!(Arc::strong_count(&monitor.table), 1, "a task still runs");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_monitor_stops_its_tasks() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.hang("cp1");
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_secs(1)).await;
    let table = Arc::downgrade(&monitor.table);
    drop(monitor);
    bench.pass(Duration::from_millis(10)).await;
    assert!(table.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_answered_before_the_interval_is_over() {
    let bench = Bench::new();
    let mut monitor = bench.monitor();
    bench.answer("cp1", Reason::Connected);
    monitor.reconcile(vec![target("cp1")]);
    bench.pass(Duration::from_millis(500)).await;
    assert_eq!(bench.probes("cp1"), 1);
    for _ in 0..1000 {
        assert!(monitor.probe_now(&target("cp1").key));
    }
    bench.pass(Duration::from_millis(10)).await;
    assert_eq!(bench.probes("cp1"), 2);
    assert!(!monitor.probe_now(&target("cp2").key));
}

#[tokio::test]
async fn real_probes_reach_a_real_server() {
    let server = Server::plain(Behaviour::Answer(OK)).await;
    let (sender, mut table) = watch::channel(HealthTable::new());
    let mut monitor = HealthMonitor::new(sender, Handle::current());
    let mut target = target("cp1");
    target.key.endpoint = server.endpoint;
    let check = Arc::make_mut(&mut target.check);
    check.probe = Probe::Http { request: Request::new("/readyz") };
    check.timeout = Duration::from_secs(20);
    let key = target.key.clone();
    monitor.reconcile(vec![target]);
    let table = table.wait_for(|table| table[&key].health == Health::Up).await.unwrap();
    assert_eq!(table[&key].reason, Reason::Status(200));
}

/// A monitor whose probes find what the test says, or hang.
struct Bench {
    sender: Mutex<Option<watch::Sender<HealthTable>>>,
    table: watch::Receiver<HealthTable>,
    script: Arc<Mutex<BTreeMap<String, Script>>>,
}

#[derive(Default)]
struct Script {
    once: VecDeque<Reason>,
    /// None: hangs.
    always: Option<Reason>,
    /// Their sources.
    probes: Vec<Option<IpAddr>>,
}

impl Bench {
    fn new() -> Self {
        let (sender, table) = watch::channel(HealthTable::new());
        Self { sender: Mutex::new(Some(sender)), table, script: Arc::default() }
    }

    fn monitor(&self) -> HealthMonitor {
        let script = Arc::clone(&self.script);
        let prober: Prober = Arc::new(move |key, settings| {
            let mut scripts = script.lock().unwrap();
            let script = scripts.entry(key.backend.clone()).or_default();
            script.probes.push(settings.source);
            let found = script.once.pop_front().or_else(|| script.always.clone());
            Box::pin(async move {
                match found {
                    Some(reason) => reason.into(),
                    None => pending().await,
                }
            })
        });
        let sender = self.sender.lock().unwrap().take().unwrap();
        HealthMonitor { prober, ..HealthMonitor::new(sender, Handle::current()) }
    }

    fn script<T>(&self, backend: &str, change: impl FnOnce(&mut Script) -> T) -> T {
        change(self.script.lock().unwrap().entry(backend.to_owned()).or_default())
    }

    fn answer(&self, backend: &str, reason: Reason) {
        self.script(backend, |script| script.always = Some(reason));
    }

    fn answer_once(&self, backend: &str, reason: Reason) {
        self.script(backend, |script| script.once.push_back(reason));
    }

    fn hang(&self, backend: &str) {
        self.script(backend, |script| script.always = None);
    }

    fn probes(&self, backend: &str) -> usize {
        self.script(backend, |script| script.probes.len())
    }

    fn last_source(&self, backend: &str) -> Option<IpAddr> {
        self.script(backend, |script| script.probes.last().copied().flatten())
    }

    fn report(&self, backend: &str) -> Option<Report> {
        self.table.borrow().get(&target(backend).key).cloned()
    }

    fn health(&self, backend: &str) -> Option<Health> {
        self.report(backend).map(|report| report.health)
    }

    /// Lets the paused clock run on.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn target(backend: &str) -> Target {
    let key = BackendKey {
        service: "kube-apiserver".to_owned(),
        backend: backend.to_owned(),
        endpoint: "127.0.0.1:6443".parse().unwrap(),
    };
    Target {
        key,
        check: Arc::new(check()),
        source: None,
        initial: Health::Unknown,
        past: Past::default(),
    }
}
