//! What the tests show.

use crate::admin::model::{Event, Status, What};

/// That of the contract, six seconds later than its backends changed.
pub(super) fn fixture() -> Status {
    let mut status: Status =
        serde_json::from_str(include_str!("../../admin/model/status.json")).unwrap();
    status.services[0].backends[0].probe_us = Some(3200);
    status
}

pub(super) fn events() -> Vec<Event> {
    let what = What::Vip { address: "10.0.0.100".to_owned(), gained: true };
    let time = "2026-01-02T03:04:05.006Z".to_owned();
    vec![Event { sequence: 7, time, message: what.to_string(), what }]
}
