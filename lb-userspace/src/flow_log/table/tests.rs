use std::net::SocketAddr;
use std::time::Duration;

use lb_common::nat::Kind;
use serde_json::Value;

use super::*;

const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

fn id() -> FlowId {
    FlowId { client: address("10.0.0.2:40000"), vip: address("10.0.0.100:6443") }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn progress(seq_end: u32, fin_end: u32, flags: u32) -> Progress {
    Progress { seq_end, ack: 0, fin_end, flags: flags | flag::SYN }
}

fn record(original: Progress, reply: Progress) -> FlowRecord {
    FlowRecord {
        id: id(),
        kind: Kind::Nat,
        source: address("10.0.0.100:2000"),
        backend: address("10.0.0.11:6443"),
        original,
        reply: Some(reply),
    }
}

fn open() -> FlowRecord {
    record(progress(1000, 0, 0), progress(u32::MAX - 4, 0, 0))
}

/// What each event leads to, a second after the one before.
fn lines(told: &[Told]) -> Vec<Value> {
    let mut table = Table::new(10);
    let mut lines = Vec::new();
    for (second, told) in told.iter().enumerate() {
        let at = EPOCH + Duration::from_secs(second as u64);
        let said = table.note(*told, at);
        lines.extend(said.iter().map(|line| serde_json::from_str::<Value>(&line.json()).unwrap()));
    }
    lines
}

#[test]
fn a_connection_has_a_line_when_it_begins_and_one_when_it_ends() {
    let half = record(progress(1100, 1101, flag::FIN | flag::FIN_FIRST), progress(200, 0, 0));
    let closed =
        record(progress(1101, 1101, flag::FIN | flag::FIN_FIRST), progress(200, 201, flag::FIN));
    let told =
        [Told::Put(open()), Told::Put(half), Told::Put(closed), Told::Removed(id(), Why::Idle)];
    let lines = lines(&told);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let [start, end] = [&lines[0], &lines[1]];
    assert_eq!((&start["event"], &start["client"]), (&"start".into(), &"10.0.0.2:40000".into()));
    assert_eq!((&start["backend"], &start["mode"]), (&"10.0.0.11:6443".into(), &"nat".into()));
    assert!(start.get("reason").is_none());
    assert_eq!((&end["event"], &end["reason"]), (&"end".into(), &"closed_by_client".into()));
    assert_eq!((&end["start"], &end["duration_ms"]), (&start["time"], &2000.into()));
    // The backend's numbers have wrapped.
    assert_eq!((&end["client_bytes"], &end["backend_bytes"]), (&100.into(), &205.into()));
}

#[test]
fn the_end_says_who_ended_it() {
    let (none, fin, first, rst) = (0, flag::FIN, flag::FIN | flag::FIN_FIRST, flag::RST);
    for (client, backend, reason) in [
        (first, fin, "closed_by_client"),
        (fin, first, "closed_by_backend"),
        (rst, none, "reset_by_client"),
        (none, rst, "reset_by_backend"),
        (first, rst, "reset_by_backend"),
    ] {
        let over = record(progress(1001, 1001, client), progress(1, 1, backend));
        let lines = lines(&[Told::Put(open()), Told::Put(over)]);
        assert_eq!(lines[1]["reason"], reason);
    }
}

#[test]
fn one_that_is_removed_ends_without_its_bytes() {
    let lines = lines(&[Told::Put(open()), Told::Removed(id(), Why::Purged)]);
    assert_eq!((&lines[1]["reason"], &lines[1]["duration_ms"]), (&"purged".into(), &1000.into()));
    assert!(lines[1]["client_bytes"].is_null() && lines[1]["backend_bytes"].is_null());
}

#[test]
fn one_that_was_there_before_has_no_beginning() {
    let over = record(progress(1101, 0, flag::RST), progress(200, 0, 0));
    let lines = lines(&[Told::Put(over), Told::Put(over)]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0]["start"].is_null() && lines[0]["client_bytes"].is_null());
}

#[test]
fn addresses_and_ports_that_are_used_again_are_another_connection() {
    let over = record(progress(1101, 0, flag::RST), progress(200, 0, 0));
    let other = FlowRecord { backend: address("10.0.0.12:6443"), ..open() };
    let told =
        [Told::Put(open()), Told::Put(over), Told::Put(open()), Told::Put(other), Told::Put(other)];
    let events: Vec<(Value, Value)> =
        lines(&told).iter().map(|line| (line["event"].clone(), line["reason"].clone())).collect();
    let expected = [
        ("start".into(), Value::Null),
        ("end".into(), "reset_by_client".into()),
        ("start".into(), Value::Null),
        ("end".into(), "replaced".into()),
        ("start".into(), Value::Null),
    ];
    assert_eq!(events, expected);
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut table = Table::new(1);
    table.note(Told::Put(open()), EPOCH);
    let other = FlowId { client: address("10.0.0.2:40001"), ..id() };
    table.note(Told::Put(FlowRecord { id: other, ..open() }), EPOCH);
    assert_eq!((table.take_untold(), table.take_untold()), (1, 0));
}
