//! What changed from one status to the next, by the second. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::admin::model::{Backend, Status, Traffic};

/// Of a service, its name in it.
pub(super) type Name = (String, String);

/// What a backend does, by the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rate {
    /// Bytes from clients.
    pub(super) requests: f64,
    /// Bytes to clients.
    pub(super) replies: f64,
    pub(super) packets: f64,
    /// New connections.
    pub(super) opened: f64,
}

/// All rates between two statuses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) backends: BTreeMap<Name, Rate>,
    pub(super) total: Rate,
    /// Frames by counter, those that moved.
    pub(super) counters: BTreeMap<String, f64>,
}

impl Rates {
    /// `None`: the two are not of one controller, or of one moment.
    pub(super) fn between(before: &Status, after: &Status) -> Option<Self> {
        let at = |status: &Status| status.time.parse::<Timestamp>().ok();
        let seconds = at(after)?.duration_since(at(before)?).as_secs_f64();
        if seconds <= 0.0 || (before.pid, &before.started) != (after.pid, &after.started) {
            return None;
        }
        let mut rates = Self::default();
        let known: BTreeMap<Name, &Backend> = named(before).collect();
        for (name, backend) in named(after) {
            let Some(earlier) = known.get(&name) else { continue };
            let rate = rate(earlier, backend, seconds);
            let Rate { requests, replies, packets, opened } = &mut rates.total;
            *requests += rate.requests;
            *replies += rate.replies;
            *packets += rate.packets;
            *opened += rate.opened;
            rates.backends.insert(name, rate);
        }
        for (name, count) in &after.counters {
            let moved = count.saturating_sub(before.counters.get(name).copied().unwrap_or(0));
            if moved > 0 {
                rates.counters.insert(name.clone(), per_second(moved, seconds));
            }
        }
        Some(rates)
    }
}

fn named(status: &Status) -> impl Iterator<Item = (Name, &Backend)> {
    status.services.iter().flat_map(|service| {
        service.backends.iter().map(|it| ((service.name.clone(), it.name.clone()), it))
    })
}

fn rate(before: &Backend, after: &Backend, seconds: f64) -> Rate {
    // A backend that was removed and added again begins anew.
    let of = |earlier: u64, later: u64| per_second(later.saturating_sub(earlier), seconds);
    let bytes = |earlier: Traffic, later: Traffic| of(earlier.bytes, later.bytes);
    let packets = |backend: &Backend| backend.requests.packets + backend.replies.packets;
    Rate {
        requests: bytes(before.requests, after.requests),
        replies: bytes(before.replies, after.replies),
        packets: of(packets(before), packets(after)),
        opened: of(before.opened, after.opened),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    fn later(seconds: i64) -> Status {
        let mut status = fixture();
        let time: Timestamp = status.time.parse().unwrap();
        status.time = (time + jiff::SignedDuration::from_secs(seconds)).to_string();
        status
    }

    #[test]
    fn rates_are_differences_by_the_second() {
        let before = fixture();
        let mut after = later(2);
        let backend = &mut after.services[0].backends[0];
        backend.requests.bytes += 4000;
        backend.replies.bytes += 8000;
        backend.replies.packets += 10;
        backend.opened += 6;
        *after.counters.get_mut("drop_malformed").unwrap() += 1;
        let rates = Rates::between(&before, &after).unwrap();
        let expected = Rate { requests: 2000.0, replies: 4000.0, packets: 5.0, opened: 3.0 };
        assert_eq!(rates.backends[&("kube-apiserver".to_owned(), "cp1".to_owned())], expected);
        assert_eq!(rates.total, expected);
        assert_eq!(rates.counters, BTreeMap::from([("drop_malformed".to_owned(), 0.5)]));
    }

    #[test]
    fn what_cannot_be_compared_has_no_rate_and_what_begins_anew_none_below_zero() {
        let before = fixture();
        assert_eq!(Rates::between(&before, &before), None);
        let other = Status { pid: 1, ..later(1) };
        assert_eq!(Rates::between(&before, &other), None);
        let mut after = later(1);
        after.services[0].backends[0].requests.bytes = 0;
        assert_eq!(Rates::between(&before, &after).unwrap().total, Rate::default());
    }
}
