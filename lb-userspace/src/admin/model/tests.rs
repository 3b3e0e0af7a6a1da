use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const CONTRACT: &str = include_str!("status.json");

/// status.json → Status → the same JSON: no key is lost, renamed or made of another type.
#[test]
fn status_has_the_shape_of_the_contract() {
    let contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let status: Status = serde_json::from_str(CONTRACT).unwrap();
    assert_eq!(serde_json::to_value(&status).unwrap(), contract);
    assert_eq!(status.services[0].backends[0].health, Health::Up);
    assert_eq!(status.services[0].backends[1].admin, Admin::Draining);
    assert_eq!(status.vips[1].lease_ms, None);
}

#[test]
fn states_are_called_the_same_everywhere() {
    for state in
        [State::Unknown, State::Up, State::Degraded, State::Draining, State::Down, State::Disabled]
    {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    for admin in [Admin::Enabled, Admin::Draining, Admin::Disabled] {
        assert_eq!(serde_json::to_value(admin).unwrap(), admin.as_str());
    }
}

#[test]
fn an_empty_status_has_every_list() {
    let status = serde_json::to_value(Status::default()).unwrap();
    for key in ["xdp", "services", "vips", "vrrp"] {
        assert_eq!(status[key], json!([]), "{key}");
    }
    assert_eq!(status["counters"], json!({}));
}

#[test]
fn a_change_says_only_what_changes() {
    let change = BackendChange { admin: Some(Admin::Disabled), ..BackendChange::default() };
    assert_eq!(serde_json::to_value(change).unwrap(), json!({ "admin": "disabled" }));
    assert!(serde_json::from_str::<BackendChange>(r#"{"wieght":1}"#).is_err());
    assert!(serde_json::from_str::<BackendChange>(r#"{"weight":65536}"#).is_err());
}

#[test]
fn times_are_rfc_3339_in_utc() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_006);
    assert_eq!(rfc3339(time), "2026-01-02T03:04:05.006Z");
    assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) * 1000));
}
