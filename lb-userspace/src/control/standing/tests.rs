use std::path::Path;
use std::time::SystemTime;

use rstest::rstest;

use super::*;
use crate::config::{EXAMPLE, file};
use crate::control::desired::{View, desired};
use crate::health::Reason;
use Health::{Degraded, Down, Draining, Unknown, Unverified, Up};

/// What a backend's probes say: its health, and what is wrong with its certificate.
type Said = (Health, Option<&'static str>);

const OLD: Option<&str> = Some("expired");
const CP1: Option<&str> = Some("not valid for kubernetes, but for cp1");
const CP2: Option<&str> = Some("not valid for kubernetes, but for cp2");

/// What the probes of three backends say → what is made of it.
#[rstest]
#[case::one_alone([(Down, OLD), (Up, None), (Up, None)], [Down, Up, Up])]
#[case::two_of_three([(Down, OLD), (Down, OLD), (Up, None)], [Down, Down, Up])]
#[case::all([(Down, OLD), (Down, OLD), (Down, OLD)], [Unverified; 3])]
#[case::all_of_other_names([(Down, CP1), (Down, CP2), (Down, CP1)], [Unverified; 3])]
#[case::not_the_same([(Down, OLD), (Down, CP1), (Down, OLD)], [Down; 3])]
#[case::all_that_answer([(Down, OLD), (Down, None), (Down, OLD)], [Unverified, Down, Unverified])]
#[case::one_is_not_probed([(Down, OLD), (Unknown, None), (Down, OLD)], [Down, Unknown, Down])]
#[case::not_decided_yet([(Down, OLD), (Up, OLD), (Down, OLD)], [Down, Up, Down])]
#[case::one_is_degraded([(Down, OLD), (Degraded, None), (Down, OLD)], [Down, Degraded, Down])]
#[case::one_drains([(Down, OLD), (Draining, None), (Down, OLD)], [Down, Draining, Down])]
#[case::one_is_unverified([(Down, OLD), (Unverified, None), (Down, OLD)], [Down, Unverified, Down])]
#[case::all_dead([(Down, None), (Down, None), (Down, None)], [Down; 3])]
fn a_fault_of_all_is_nobodys(#[case] said: [Said; 3], #[case] expected: [Health; 3]) {
    let bench = Bench::new(said);
    let standing = bench.standing();
    let healths: Vec<_> = bench.names().map(|name| standing.health[&name]).collect();
    assert_eq!(healths, expected);
    assert_eq!(
        !standing.alarms.is_empty(),
        said.iter()
            .any(|(health, fault)| *health == Unverified || *health == Down && fault.is_some()),
    );
}

#[test]
fn alarms_name_the_fault_and_the_backends() {
    let alarms = |said| -> Vec<String> {
        let alarms = Bench::new(said).standing().alarms.remove("kube-apiserver").unwrap();
        alarms.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        alarms([(Down, OLD), (Up, None), (Unverified, None)]),
        [
            "cp1: certificate: expired; taken out",
            "health hidden from anonymous requests (401 or 403); used unverified: cp3"
        ]
    );
    let all = alarms([(Down, CP1), (Down, CP2), (Down, CP1)]);
    assert!(
        all[0].contains("(not valid for kubernetes); used unverified: cp1, cp2, cp3"),
        "{all:?}"
    );
    assert_eq!(all.len(), 1);
}

/// What probes said, what they say → what is told.
#[test]
fn alarms_are_told_when_they_come_change_and_go() {
    let hidden =
        "kube-apiserver: health hidden from anonymous requests (401 or 403); used unverified: ";
    let shared = "kube-apiserver: certificates: every backend that answers has the same fault (expired); \
                  used unverified: cp1, cp2, cp3";
    let one = "kube-apiserver: cp1: certificate: expired; taken out";
    let over = |text: &str| text.replacen(": ", ": resolved: ", 1);
    let well = [(Up, None); 3];
    let first = [(Unverified, None), (Up, None), (Up, None)];
    let both = [(Unverified, None), (Unverified, None), (Up, None)];
    let expired = [(Down, OLD), (Up, None), (Up, None)];
    let all = [(Down, OLD); 3];
    let cases = [
        (well, first, vec![format!("{hidden}cp1")]),
        (first, first, vec![]),
        (first, both, vec![format!("{hidden}cp1, cp2")]),
        (both, first, vec![format!("{hidden}cp1")]),
        (first, well, vec![over(&format!("{hidden}cp1"))]),
        (well, expired, vec![one.to_owned()]),
        (expired, all, vec![over(one), shared.to_owned()]),
        (all, well, vec![over(shared)]),
    ];
    for (before, after, expected) in cases {
        let (before, after) = (Bench::new(before).standing(), Bench::new(after).standing());
        let told: Vec<_> = after.news(&before).iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn that_nobody_takes_connections_is_an_alarm_once_it_is_known() {
    let unserved = |said| {
        let bench = Bench::new(said);
        let mut standing = bench.standing();
        standing.alarms.clear();
        let view = View { health: standing.health.clone(), ..View::default() };
        standing.note_unserved(&desired(&bench.config, &view));
        standing.texts("kube-apiserver")
    };
    let alarm = ["no IPv4 backend takes new connections, so they are refused"];
    assert_eq!(unserved([(Down, None); 3]), alarm);
    assert_eq!(unserved([(Down, None), (Draining, None), (Down, None)]), alarm);
    for other in [Up, Unverified, Degraded, Unknown] {
        assert!(unserved([(Down, None), (other, None), (Down, None)]).is_empty(), "{other}");
    }
}

/// It gets no traffic whatever its certificate is, and must not decide over the others.
#[test]
fn a_backend_that_operators_took_out_does_not_count() {
    let mut bench = Bench::new([(Up, None), (Down, OLD), (Down, OLD)]);
    let name = bench.names().next().unwrap();
    assert_eq!(bench.standing().health.values().filter(|it| **it == Unverified).count(), 0);
    let change = Override { admin: Admin::Disabled, weight: None };
    bench.overrides.insert(name.clone(), change);
    let standing = bench.standing();
    assert_eq!(standing.health.values().filter(|it| **it == Unverified).count(), 2);
    assert_eq!(standing.health[&name], Up);
}

/// It answers properly, so the others' fault is theirs.
#[test]
fn a_held_backend_is_trusted() {
    let mut bench = Bench::new([(Down, OLD), (Down, OLD), (Down, OLD)]);
    let report = bench.table.values_mut().next().unwrap();
    (report.held, report.share) = (true, 50);
    report.reason = Reason::Held(std::time::Duration::from_secs(10));
    let standing = bench.standing();
    assert!(standing.health.values().all(|health| *health == Down));
    let first = bench.names().next().unwrap();
    assert_eq!(standing.held, BTreeSet::from([first.clone()]));
    assert_eq!(standing.shares, BTreeMap::from([(first, 50)]));
}

#[test]
fn a_backend_that_moved_is_not_known() {
    let mut bench = Bench::new([(Up, None); 3]);
    bench.config.services[0].backends[1].port = 1;
    assert_eq!(bench.standing().health.len(), 2);
}

struct Bench {
    config: Config,
    table: HealthTable,
    overrides: BTreeMap<BackendName, Override>,
}

impl Bench {
    fn new(said: [Said; 3]) -> Self {
        let config = file::parse(EXAMPLE, Path::new("example")).unwrap();
        let service = &config.services[0];
        let reports = service.backends.iter().zip(said).map(|(backend, (health, fault))| {
            let reason = fault.map_or(Reason::Refused, |it| Reason::Certificate(it.to_owned()));
            let key = key(&service.name, &backend.name, backend.endpoint());
            (key, Report::new(health, reason, SystemTime::UNIX_EPOCH))
        });
        let table = reports.collect();
        Self { config, table, overrides: BTreeMap::new() }
    }

    fn standing(&self) -> Standing {
        standing(&self.config, &self.table, &self.overrides)
    }

    fn names(&self) -> impl Iterator<Item = BackendName> {
        let service = &self.config.services[0];
        service.backends.iter().map(|backend| (service.name.clone(), backend.name.clone()))
    }
}
