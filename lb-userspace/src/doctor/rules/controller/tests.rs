use std::path::{Path, PathBuf};

use super::super::testing::{config, has, severities};
use super::*;
use crate::admin::model::{EffectiveConfig, FlowCapacity, VrrpAlarm};
use crate::doctor::Severity;

fn file(keys: &str) -> File {
    File { path: PathBuf::from("/f.yaml"), config: Ok(config(keys)) }
}

fn status() -> Status {
    let text = include_str!("../../../admin/model/status.json");
    let mut status: Status = serde_json::from_str(text).unwrap();
    status.version = env!("CARGO_PKG_VERSION").to_owned();
    status.overrides.clear();
    status.services[0].alarms.clear();
    status.services[0].backends.truncate(1);
    status
}

fn running(keys: &str, status: Status) -> Controller {
    let config =
        EffectiveConfig { config: show(&config(keys)).unwrap().json, ..EffectiveConfig::default() };
    Controller::Running(Box::new(Running { status, config }))
}

#[test]
fn a_good_controller_is_found_good() {
    let found = judge(&file(""), &running("", status()));
    assert_eq!(severities(&found), [Severity::Ok], "{found:#?}");
}

#[test]
fn a_file_that_says_otherwise_is_compared_key_by_key() {
    let found = judge(&file("    drain_timeout: 5s\n"), &running("", status()));
    let differs = found.iter().find(|it| it.id == "config.applies").unwrap();
    assert_eq!(differs.severity, Severity::Warning);
    assert!(differs.what.ends_with("services[api].drain_timeout"), "{}", differs.what);
}

#[test]
fn a_file_that_is_wrong_or_not_there_is_a_problem() {
    let wrong = crate::config::parse("services: 1", Path::new("f"));
    let gone = crate::config::load(Path::new("/nowhere/f.yaml"));
    for config in [wrong, gone] {
        let found = judge(&File { path: PathBuf::from("f"), config }, &Controller::Unasked);
        assert!(has(&found, "config.valid", Severity::Problem), "{found:#?}");
    }
}

#[test]
fn a_controller_that_is_not_there_is_no_problem_and_one_that_hangs_is() {
    let id = "controller.running";
    let absent = judge(&file(""), &Controller::Absent("none".to_owned()));
    assert!(has(&absent, id, Severity::Info));
    let broken = judge(&file(""), &Controller::Broken("silent".to_owned()));
    assert!(has(&broken, id, Severity::Problem));
}

#[test]
fn what_a_controller_says_of_itself_is_judged() {
    use Severity::{Info, Problem, Warning};
    let changed = |change: fn(&mut Status)| {
        let mut status = status();
        change(&mut status);
        judge(&file(""), &running("", status))
    };
    let instance =
        |state: &str, alarms| Vrrp { state: state.to_owned(), alarms, ..Vrrp::default() };
    let cases: [(&str, Severity, Vec<Finding>); 7] = [
        ("controller.version", Info, changed(|it| it.version = "9".to_owned())),
        ("controller.service", Problem, changed(|it| it.services[0].panic = true)),
        ("controller.service", Problem, changed(|it| it.services[0].backends.clear())),
        ("controller.service", Warning, changed(|it| it.services[0].alarms.push("x".to_owned()))),
        ("flows.table", Warning, changed(|it| it.flows = full())),
        ("controller.vrrp", Problem, {
            let mut status = status();
            status.vrrp.push(instance("fault", vec![]));
            judge(&file(""), &running("", status))
        }),
        ("controller.vrrp", Problem, {
            let mut status = status();
            let alarm = VrrpAlarm {
                kind: "two_actives".to_owned(),
                message: "two".to_owned(),
                count: 1,
                last: String::new(),
            };
            status.vrrp.push(instance("active", vec![alarm]));
            judge(&file(""), &running("", status))
        }),
    ];
    for (id, severity, found) in cases {
        assert!(has(&found, id, severity), "{id}: {found:#?}");
    }
}

#[test]
fn backends_that_are_not_used_are_named() {
    let mut status = status();
    let mut down = status.services[0].backends[0].clone();
    (down.name, down.effective_weight) = ("cp9".to_owned(), 0);
    status.services[0].backends.push(down);
    let found = judge(&file(""), &running("", status));
    let service = found.iter().find(|it| it.id == "controller.service").unwrap();
    assert_eq!(service.severity, Severity::Warning);
    assert!(service.what.contains("1 of 2") && service.what.contains("cp9"), "{}", service.what);
}

fn full() -> Flows {
    let capacity = FlowCapacity { established: 100, half_open: 1 };
    Flows { established: 80, capacity, ..Flows::default() }
}
