//! Instances of VRRP in `fairlead status`. Pure.

use jiff::Timestamp;

use super::{age, push};
use crate::admin::model::{Status, Vrrp, VrrpAlarm, VrrpPeer};

/// A line for each instance, each of its peers and each alarm; empty without VRRP.
pub(super) fn vrrp(status: &Status, now: Timestamp) -> String {
    status.vrrp.iter().map(|instance| describe(instance, now)).collect()
}

fn describe(instance: &Vrrp, now: Timestamp) -> String {
    let Vrrp { name, interface, vrid, state, priority, since, reason, .. } = instance;
    let (age, mut text) = (age(since, now), String::new());
    push(
        &mut text,
        format_args!(
            "vrrp {name}: {state} for {age} ({reason}); priority {priority}, VRID {vrid} on {interface}"
        ),
    );
    for VrrpPeer { address, priority, last_seen_ms, .. } in &instance.peers {
        push(
            &mut text,
            format_args!("  peer {address}: priority {priority}, heard {last_seen_ms} ms ago"),
        );
    }
    for VrrpAlarm { message, count, .. } in &instance.alarms {
        push(&mut text, format_args!("  ALARM  {message} ({count} times)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn state_peers_and_alarms_are_shown() {
        let instance: Vrrp = serde_json::from_value(json!({
            "name": "api", "interface": "eth0", "vrid": 51, "state": "backup", "priority": 249,
            "since": "2026-01-02T03:05:05Z", "reason": "a higher priority was heard",
            "peers": [{"address": "10.0.0.3", "priority": 250, "last_seen_ms": 120}],
            "alarms": [{"kind": "interval", "message": "10.0.0.3 has another interval", "count": 3,
                        "last": "2026-01-02T03:06:00Z"}],
        }))
        .unwrap();
        let status = Status { vrrp: vec![instance], ..Status::default() };
        assert_eq!(
            vrrp(&status, "2026-01-02T03:06:05Z".parse().unwrap()),
            "vrrp api: backup for 1m0s (a higher priority was heard); priority 249, VRID 51 on eth0\n\
             \x20 peer 10.0.0.3: priority 250, heard 120 ms ago\n\
             \x20 ALARM  10.0.0.3 has another interval (3 times)\n"
        );
        assert_eq!(vrrp(&Status::default(), Timestamp::now()), "");
    }
}
