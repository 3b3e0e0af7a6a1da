use std::path::PathBuf;

use super::super::testing::{has, severities};
use super::*;
use crate::doctor::Severity;
use crate::health::{Finding as Probed, Reason, Stage};

const NOW: &str = "2026-01-01T00:00:00Z";

fn at(days: i64) -> Timestamp {
    let now: Timestamp = NOW.parse().unwrap();
    Timestamp::from_second(now.as_second() + days * DAY).unwrap()
}

fn valid(from: i64, to: i64) -> Certificate {
    Certificate { subject: "CN=kube-apiserver".to_owned(), not_before: at(from), not_after: at(to) }
}

fn answer() -> Apiserver {
    Apiserver {
        service: "api".to_owned(),
        backend: "cp1".to_owned(),
        endpoint: "10.0.0.11:6443".parse().unwrap(),
        found: Reason::Status(200).into(),
        certificate: Some(Ok(valid(-10, 300))),
        ahead_ms: Some(400),
    }
}

fn found(reason: Reason) -> Apiserver {
    Apiserver { found: Probed::from(reason), ..answer() }
}

fn judged(answer: Apiserver) -> Vec<Finding> {
    judge(&Apiservers { answers: vec![answer], left_out: 0, files: vec![], now: at(0) })
}

#[test]
fn good_apiservers_are_counted() {
    let answers = vec![answer(); 3];
    let found = judge(&Apiservers { answers, left_out: 0, files: vec![], now: at(0) });
    assert_eq!(severities(&found), [Severity::Ok], "{found:#?}");
    assert!(found[0].what.starts_with("3 backends answer"), "{found:#?}");
}

#[test]
fn every_fault_of_an_apiserver_is_named() {
    use Severity::{Info, Problem, Warning};
    let shows = |certificate| Apiserver { certificate: Some(certificate), ..answer() };
    let ahead = |ms| Apiserver { ahead_ms: Some(ms), ..answer() };
    let (ready, certificate, clock) =
        ("apiserver.ready", "apiserver.certificate", "apiserver.clock");
    for (id, severity, answer) in [
        (ready, Problem, found(Reason::Refused)),
        (ready, Problem, found(Reason::Timeout(Stage::Connect))),
        (ready, Problem, found(Reason::Status(500))),
        (ready, Problem, found(Reason::Certificate("expired".to_owned()))),
        (ready, Problem, found(Reason::Closed)),
        (ready, Warning, found(Reason::Status(403))),
        (ready, Warning, found(Reason::Local("no files".to_owned()))),
        (ready, Warning, found(Reason::NotReady(Box::new(Reason::Status(500))))),
        (certificate, Problem, shows(Ok(valid(-400, -1)))),
        (certificate, Problem, shows(Ok(valid(1, 300)))),
        (certificate, Warning, shows(Ok(valid(-300, 29)))),
        (certificate, Info, shows(Err("it is no certificate".to_owned()))),
        (clock, Warning, ahead(-5000)),
        (clock, Problem, ahead(3_600_000)),
    ] {
        let found = judged(answer.clone());
        assert!(has(&found, id, severity), "{id} {answer:?}: {found:#?}");
    }
    assert!(judged(ahead(-5000)).iter().any(|it| it.what.contains("5 s behind")));
}

#[test]
fn of_many_some_are_said_and_the_rest_is_counted() {
    let answers = vec![found(Reason::Refused); 100];
    let found = judge(&Apiservers { answers, left_out: 7, files: vec![], now: at(0) });
    let refused = found.iter().filter(|it| it.severity == Severity::Problem).count();
    assert_eq!(refused, MOST_SAID);
    assert!(found.iter().any(|it| it.what.ends_with("(and 92 more)")), "{found:#?}");
    assert!(found.iter().any(|it| it.what.starts_with("7 backends were not asked")));
}

#[test]
fn certificates_of_files_are_judged_too_and_one_that_does_is_enough() {
    let file = |certificates: Vec<Certificate>| {
        let files =
            vec![CertificateFile { path: PathBuf::from("/ca"), certificates: Ok(certificates) }];
        judge(&Apiservers { answers: vec![], left_out: 0, files, now: at(0) })
    };
    let id = "file.certificate";
    assert!(has(&file(vec![valid(-1, 300)]), id, Severity::Ok));
    assert!(has(&file(vec![valid(-9, -1)]), id, Severity::Problem));
    assert!(has(&file(vec![valid(-9, -1), valid(-1, 300)]), id, Severity::Warning));
    assert!(has(&file(vec![valid(-9, 9)]), id, Severity::Warning));
}
