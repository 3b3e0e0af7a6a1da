use std::future::pending;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::super::Failure;
use super::*;
use crate::config;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_answer_becomes_backends_and_a_new_one_replaces_them() {
    let dns = Dns::default();
    dns.answers("cp.example", &["10.0.0.1", "10.0.0.2"], 10);
    let mut names = dns.names(&["cp.example"], &Recorded::new());
    assert_eq!(backends(&names), "");
    names.changed().await;
    assert_eq!(backends(&names), "n0@10.0.0.1 n0@10.0.0.2");
    dns.answers("cp.example", &["10.0.0.2", "10.0.0.3"], 10);
    let asked = Instant::now();
    names.changed().await;
    assert_eq!(backends(&names), "n0@10.0.0.2 n0@10.0.0.3");
    assert!(asked.elapsed() <= 5 * SECOND, "{:?}", asked.elapsed());
}

/// A name that is there all the time, while DNS fails in every way and recovers.
#[tokio::test(start_paused = true)]
async fn whatever_dns_fails_to_say_removes_nothing() {
    let dns = Dns::default();
    dns.answers("cp.example", &["10.0.0.1"], 1);
    let mut names = dns.names(&["cp.example"], &Recorded::new());
    names.changed().await;
    let failures = [
        Failure::Timeout,
        Failure::NoSuchName,
        Failure::NoAddress,
        Failure::Server("Server Failure".to_owned()),
        Failure::Local("no socket".to_owned()),
    ];
    for failure in failures {
        dns.fails("cp.example", failure.clone());
        names.changed().await;
        assert_eq!(backends(&names), "n0@10.0.0.1");
        let answers = names.answers();
        assert_eq!(answers.values().next().unwrap().failure, Some(failure));
        // Said once: nothing changes as long as it fails in the same way.
        assert!(tokio::time::timeout(100 * SECOND, names.changed()).await.is_err());
    }
    dns.answers("cp.example", &["10.0.0.1"], 1);
    names.changed().await;
    assert_eq!(names.answers().values().next().unwrap().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_dns_has_no_backends_and_goes_on_trying() {
    let dns = Dns::default();
    dns.fails("cp.example", Failure::Timeout);
    let mut names = dns.names(&["cp.example"], &Recorded::new());
    names.changed().await;
    assert_eq!(backends(&names), "");
    tokio::time::sleep(1000 * SECOND).await;
    dns.answers("cp.example", &["10.0.0.1"], 60);
    let tried = Instant::now();
    names.changed().await;
    assert_eq!(backends(&names), "n0@10.0.0.1");
    assert!(tried.elapsed() <= 30 * SECOND, "{:?}", tried.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_start_goes_on_with_what_was_written_down() {
    let dns = Dns::default();
    dns.fails("cp.example", Failure::Timeout);
    let address = "10.0.0.7".parse().unwrap();
    let recorded = Recorded::from([("cp.example".to_owned(), vec![address])]);
    let names = dns.names(&["cp.example", "other.example"], &recorded);
    assert_eq!(backends(&names), "n0@10.0.0.7");
    assert_eq!(names.to_record(), recorded);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_hangs_delays_no_other() {
    let dns = Dns::default();
    dns.hangs("a.example");
    dns.answers("b.example", &["10.0.0.2"], 60);
    let mut names = dns.names(&["a.example", "b.example"], &Recorded::new());
    names.changed().await;
    assert_eq!(backends(&names), "n1@10.0.0.2");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_gone_is_no_longer_asked_for_and_the_others_keep_their_answers() {
    let dns = Dns::default();
    dns.answers("a.example", &["10.0.0.1"], 60);
    dns.answers("b.example", &["10.0.0.2"], 1);
    let mut names = dns.names(&["a.example", "b.example"], &Recorded::new());
    while names.answers().values().any(|answer| answer.addresses.is_empty()) {
        names.changed().await;
    }
    names.reconcile(file(&["a.example"]));
    assert_eq!(backends(&names), "n0@10.0.0.1");
    let asked = dns.asked("b.example");
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(dns.asked("b.example"), asked);
    assert!(dns.asked("a.example") > 1);
}

/// Says what a test wants of each name.
#[derive(Clone, Default)]
struct Dns(Arc<Mutex<BTreeMap<String, Script>>>);

#[derive(Clone, Default)]
struct Script {
    /// None: never.
    found: Option<Found>,
    asked: usize,
}

impl Dns {
    fn names(&self, hosts: &[&str], recorded: &Recorded) -> Names {
        let dns = self.clone();
        let lookup: Lookup = Arc::new(move |question| {
            let found = {
                let mut scripts = dns.0.lock().unwrap();
                let script = scripts.entry(question.host.clone()).or_default();
                script.asked += 1;
                script.found.clone()
            };
            Box::pin(async move {
                match found {
                    Some(found) => found,
                    None => pending().await,
                }
            })
        });
        let mut names = Names::with(file(hosts), recorded, System::default(), lookup);
        names.changes.mark_unchanged();
        names
    }

    fn set(&self, host: &str, found: Option<Found>) {
        self.0.lock().unwrap().entry(host.to_owned()).or_default().found = found;
    }

    fn answers(&self, host: &str, addresses: &[&str], ttl: u64) {
        let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
        self.set(host, Some(Ok((addresses, Duration::from_secs(ttl)))));
    }

    fn fails(&self, host: &str, failure: Failure) {
        self.set(host, Some(Err(failure)));
    }

    fn hangs(&self, host: &str) {
        self.set(host, None);
    }

    fn asked(&self, host: &str) -> usize {
        self.0.lock().unwrap()[host].asked
    }
}

fn file(hosts: &[&str]) -> Config {
    let backends: Vec<String> = hosts
        .iter()
        .enumerate()
        .map(|(index, host)| format!("{{ name: n{index}, host: {host} }}"))
        .collect();
    let backends = backends.join(", ");
    let text =
        format!("services: [{{ name: a, vips: [10.0.0.100], port: 1, backends: [{backends}] }}]\n");
    config::parse(&text, Path::new("f")).unwrap()
}

fn backends(names: &Names) -> String {
    let config = names.current();
    let backends = config.services[0].backends.iter();
    backends.map(|it| it.name.as_str()).collect::<Vec<_>>().join(" ")
}
