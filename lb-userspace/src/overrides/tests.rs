use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-01-02T03:04:05.006Z";
const LATER: &str = "2026-01-02T03:05:00.000Z";
const ROOT: Option<Peer> = Some(Peer::local(0, Some(1000)));

fn name(backend: &str) -> BackendName {
    ("api".to_owned(), backend.to_owned())
}

fn drain() -> BackendChange {
    BackendChange { admin: Some(Admin::Draining), ..BackendChange::default() }
}

#[test]
fn what_is_said_holds_until_it_is_undone() {
    let mut overrides = Overrides::default();
    overrides.change(name("cp1"), &drain(), NOW, ROOT).unwrap();
    let weigh = BackendChange { weight: Some(7), ..BackendChange::default() };
    overrides.change(name("cp1"), &weigh, LATER, None).unwrap();
    let expected = Override { admin: desired::Admin::Draining, weight: Some(7) };
    assert_eq!(overrides.effective()[&name("cp1")], expected);

    let listed = overrides.list(|_| false);
    assert_eq!(listed.len(), 1);
    let admin = Said { value: Admin::Draining, since: NOW.to_owned(), by: ROOT };
    assert_eq!((listed[0].configured, &listed[0].admin), (false, &Some(admin)));
    let weight = Said { value: 7, since: LATER.to_owned(), by: None };
    assert_eq!(listed[0].weight, Some(weight));

    let enable = BackendChange { admin: Some(Admin::Enabled), ..BackendChange::default() };
    overrides.change(name("cp1"), &enable, LATER, None).unwrap();
    assert_eq!(overrides.effective()[&name("cp1")].weight, Some(7));
    let reset = BackendChange { reset_weight: true, ..BackendChange::default() };
    overrides.change(name("cp1"), &reset, LATER, None).unwrap();
    assert!(overrides.is_empty() && overrides.effective().is_empty());
}

#[test]
fn what_is_said_again_keeps_its_time_and_author() {
    let mut overrides = Overrides::default();
    overrides.change(name("cp1"), &drain(), NOW, ROOT).unwrap();
    let before = overrides.clone();
    overrides.change(name("cp1"), &drain(), LATER, None).unwrap();
    assert_eq!(overrides, before);
}

#[test]
fn a_full_store_refuses_what_is_new_and_changes_what_is_there() {
    let mut overrides = Overrides::default();
    for number in 0..MAX_ENTRIES {
        overrides.change(name(&number.to_string()), &drain(), NOW, None).unwrap();
    }
    assert_eq!(overrides.change(name("one more"), &drain(), NOW, None), Err(Full));
    assert!(!overrides.contains(&name("one more")));
    let weigh = BackendChange { weight: Some(7), ..BackendChange::default() };
    overrides.change(name("0"), &weigh, NOW, None).unwrap();
    assert_eq!(Overrides::from_json(&overrides.to_json().unwrap()).unwrap(), overrides);
}

#[test]
fn damaged_files_are_told_apart() {
    for (text, expected) in [
        ("", "not what a controller writes"),
        ("{\"version\": 1, \"overrides\": [{\"serv", "not what a controller writes"),
        ("{\"version\": 2, \"states\": {}}", "of version 2"),
        ("[]", "not what a controller writes"),
        (
            r#"{"version": 1, "overrides": [{"service": "a", "backend": "b",
                "weight": {"value": 1001, "since": "x"}}]}"#,
            "1001 is more than 1000",
        ),
    ] {
        let error = Overrides::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_files_form_is_as_published() {
    let text = r#"{"version":1,"overrides":[{"service":"api","backend":"cp1",
        "admin":{"value":"draining","since":"2026-01-02T03:04:05.006Z","by":{"uid":0,"login_uid":1000}}}]}"#;
    let mut expected = Overrides::default();
    expected.change(name("cp1"), &drain(), NOW, ROOT).unwrap();
    assert_eq!(Overrides::from_json(text.as_bytes()).unwrap(), expected);
}

proptest! {
    #[test]
    fn whatever_is_said_is_read_back(
        changes in prop::collection::vec((0..4u8, 0..3u8, prop::option::of(0..=1000u16), any::<bool>()), 0..40),
    ) {
        let mut overrides = Overrides::default();
        for (backend, admin, weight, reset_weight) in changes {
            let admin = [None, Some(Admin::Draining), Some(Admin::Enabled)][usize::from(admin)];
            let change = BackendChange { admin, weight, reset_weight };
            overrides.change(name(&backend.to_string()), &change, NOW, ROOT).unwrap();
            let read = Overrides::from_json(&overrides.to_json().unwrap()).unwrap();
            prop_assert_eq!(&read, &overrides);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Overrides::from_json(&bytes);
    }
}
