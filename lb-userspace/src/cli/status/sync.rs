//! Nodes that share flows in `fairlead status`. Pure.

use jiff::Timestamp;

use super::{age, push};
use crate::admin::model::{Status, SyncPeer};

/// A line for each peer, and for what was refused; empty without sync.
pub(super) fn sync(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let Some(sync) = &status.sync else { return text };
    if let Some(error) = &sync.error {
        push(&mut text, format_args!("sync: ALARM  {error}"));
    }
    if !sync.warm {
        push(&mut text, format_args!("sync: not all flows of the peers are here yet"));
    }
    for peer in &sync.peers {
        describe(peer, now, &mut text);
    }
    let counted = [("refused", &sync.refused), ("not kept", &sync.not_kept)];
    for (what, counts) in counted.iter().filter(|(_, counts)| !counts.is_empty()) {
        let words: Vec<String> =
            counts.iter().map(|(why, count)| format!("{why} {count}")).collect();
        push(&mut text, format_args!("sync {what}: {}", words.join(", ")));
    }
    text
}

fn describe(peer: &SyncPeer, now: Timestamp, text: &mut String) {
    let SyncPeer { address, state, since, sent, held, held_by_peer, lag_ms, .. } = peer;
    let name = peer.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let age = age(since, now);
    let error = peer.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    if state == "connecting" {
        return push(text, format_args!("sync {address}{name}: {state} for {age}{error}"));
    }
    let digest = peer.last_digest.map_or_else(String::new, |digest| {
        let seconds = digest.ago_ms / 1000;
        format!(", compared {seconds}s ago: {} of 1024 buckets differed", digest.differing)
    });
    push(
        text,
        format_args!(
            "sync {address}{name}: {state} for {age}; {sent} sent, {held_by_peer} held there, {held} held \
             here, lag {lag_ms} ms{digest}"
        ),
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn peers_and_refusals_are_shown() {
        let base = json!({
            "address": "10.0.0.3:7946", "state": "connecting", "since": "2026-01-02T03:05:05Z",
            "sent": 7, "received": 0, "held": 5, "held_by_peer": 6, "lag_ms": 12, "resyncs": 0,
            "ignored": 0, "discarded": 0,
        });
        let (mut away, mut there) = (base.clone(), base);
        away["error"] = json!("connection refused");
        there["state"] = json!("synced");
        there["name"] = json!("lb2");
        there["last_digest"] = json!({ "ago_ms": 1200, "differing": 3 });
        let sync = json!({
            "listen": "10.0.0.2:7946", "warm": false, "peers": [away, there],
            "refused": { "key": 2, "stranger": 1 }, "not_kept": {}, "lost_changes": 0,
        });
        let status = Status { sync: serde_json::from_value(sync).unwrap(), ..Status::default() };
        assert_eq!(
            super::sync(&status, "2026-01-02T03:06:05Z".parse().unwrap()),
            "sync: not all flows of the peers are here yet\n\
             sync 10.0.0.3:7946: connecting for 1m0s: connection refused\n\
             sync 10.0.0.3:7946 (lb2): synced for 1m0s; 7 sent, 6 held there, 5 held here, lag 12 ms, \
             compared 1s ago: 3 of 1024 buckets differed\n\
             sync refused: key 2, stranger 1\n"
        );
        assert_eq!(super::sync(&Status::default(), Timestamp::now()), "");
    }
}
