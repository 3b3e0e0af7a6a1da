//! What is written, of a controller that has everything.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::connect::ConnectTimes;
use lb_common::counters::Counter;
use prometheus_client::metrics::histogram::Histogram;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::admin::model::{Service, Status};
use crate::health::BackendKey;
mod package;
mod readme;

#[test]
fn every_family_is_written_and_no_other() {
    let text = render(readings(everything()), Form::Text);
    let written: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap().0.to_owned())
        .collect();
    let expected: Vec<_> = families::ALL.iter().map(|family| family.full_name()).collect();
    let unique: BTreeSet<_> = written.iter().collect();
    assert_eq!(unique.len(), written.len());
    assert_eq!(unique, expected.iter().collect());
    // Each of them has a sample of its own here.
    for name in &expected {
        let sample = |line: &str| line.strip_prefix(&**name).is_some_and(|rest| !rest.is_empty());
        assert!(text.lines().any(sample), "{name}");
    }
}

#[test]
fn values_are_those_of_the_status() {
    let status = everything();
    let text = render(readings(status), Form::OpenMetrics);
    for line in [
        "fairlead_build_info{version=\"0.1.0\"} 1",
        "fairlead_packets_total{verdict=\"drop\",reason=\"malformed\"} 3",
        "fairlead_packets_total{verdict=\"forward\",reason=\"request\"} 1000",
        "fairlead_flows{state=\"established\"} 12.0",
        "fairlead_flows_limit{state=\"half_open\"} 65536.0",
        "fairlead_service_backends{service=\"kube-apiserver\",state=\"draining\"} 1.0",
        "fairlead_backend_state{service=\"kube-apiserver\",backend=\"cp1\",state=\"up\"} 1.0",
        "fairlead_backend_state{service=\"kube-apiserver\",backend=\"cp1\",state=\"down\"} 0.0",
        "fairlead_backend_health{service=\"kube-apiserver\",backend=\"cp2\",health=\"down\"} 1.0",
        "fairlead_backend_bytes_total{service=\"kube-apiserver\",backend=\"cp1\",direction=\"reply\"} 1500000",
        "fairlead_backend_refused_syns_total{service=\"kube-apiserver\",backend=\"cp2\"} 2",
        "fairlead_backend_probe_duration_seconds_count{service=\"kube-apiserver\",backend=\"cp1\"} 1",
        "fairlead_backend_probe_duration_seconds_bucket{le=\"0.004\",service=\"kube-apiserver\",backend=\"cp1\"} 1",
        "fairlead_backend_connect_duration_seconds_sum{service=\"kube-apiserver\",backend=\"cp1\"} 0.00025",
        "fairlead_backend_connect_duration_seconds_bucket{le=\"0.000064\",service=\"kube-apiserver\",backend=\"cp1\"} 3",
        "fairlead_backend_connect_duration_seconds_bucket{le=\"0.000128\",service=\"kube-apiserver\",backend=\"cp1\"} 4",
        "fairlead_backend_connect_duration_seconds_bucket{le=\"+Inf\",service=\"kube-apiserver\",backend=\"cp1\"} 4",
        "fairlead_vip_owner{vip=\"10.0.0.100\"} 1.0",
        "fairlead_vip_lease_remaining_seconds{vip=\"10.0.0.100\"} 2.4",
        "fairlead_vrrp_state{vrrp_instance=\"api\",state=\"active\"} 1.0",
        "fairlead_vrrp_master_transitions_total{vrrp_instance=\"api\"} 3",
        "fairlead_vrrp_worst_lateness_seconds{vrrp_instance=\"api\"} 0.25",
        "fairlead_vrrp_peer_lateness_seconds{vrrp_instance=\"api\",peer=\"10.0.0.3\"} 0.0015",
        "fairlead_vrrp_alarm{vrrp_instance=\"api\",kind=\"late\"} 1.0",
        "fairlead_sync_peer_state{peer=\"10.0.0.3:7946\",state=\"synced\"} 1.0",
        "fairlead_sync_lag_seconds{peer=\"10.0.0.3:7946\"} 0.007",
        "fairlead_sync_refused_connections_total{reason=\"key\"} 4",
        "fairlead_config_reloads_total{result=\"failure\"} 1",
        "fairlead_config_last_reload_successful 0.0",
        "fairlead_controller_busy_seconds_count{task=\"sweep\"} 1",
        "fairlead_notifications_total{number=\"0\",target=\"https://alerts.example/...\",result=\"failed\"} 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\nis not in\n{text}");
    }
    let vip = text.lines().filter(|line| line.starts_with("fairlead_vip_lease_remaining_seconds{"));
    assert_eq!(vip.count(), 1, "a VIP of no instance has no end");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_counter_of_vrrp_and_of_the_datapath_is_there() {
    let view = crate::vrrp::packet::Discard::COUNTERS;
    let known: BTreeSet<_> = render::vrrp_counters().collect();
    assert!(view.iter().all(|name| known.contains(name)));
    let mut status = everything();
    status.counters = Counter::ALL.iter().map(|it| (it.name().to_owned(), 7)).collect();
    let text = render(readings(status), Form::Text);
    let written = text.lines().filter(|line| line.starts_with("fairlead_packets_total{"));
    assert_eq!(written.count(), Counter::ALL.len());
}

#[test]
fn names_may_have_any_character() {
    let mut status = everything();
    status.services[0].backends[0].name = "a\"b\\c\nd".to_owned();
    let text = render(readings(status), Form::OpenMetrics);
    assert!(text.contains(r#"backend="a\"b\\c\nd",direction="request"} 1000"#), "{text}");
}

#[test]
fn there_are_at_most_so_many() {
    let mut status = everything();
    let backend = status.services[0].backends[0].clone();
    for number in 0..1100 {
        let mut backend = backend.clone();
        backend.name = format!("b{number}");
        status.services[0].backends.push(backend);
    }
    let service = status.services[0].clone();
    for number in 0..300 {
        let mut service = service.clone();
        (service.name, service.backends) = (format!("s{number}"), Vec::new());
        status.services.push(service);
    }
    let text = render(readings(status), Form::Text);
    let samples = |name: &str| {
        let start = format!("fairlead_{name}{{");
        text.lines().filter(|line| line.starts_with(&start)).count()
    };
    assert_eq!(samples("backend_weight"), 1024);
    assert_eq!(samples("service_panic"), 256);
    assert!(text.contains("fairlead_omitted_objects{kind=\"backends\"} 78.0"));
    assert!(text.contains("fairlead_omitted_objects{kind=\"services\"} 45.0"));
    assert!(
        text.contains("fairlead_service_backends{service=\"kube-apiserver\",state=\"up\"} 1101.0")
    );
}

#[test]
fn the_backends_of_services_that_are_left_out_are_left_out_too() {
    let mut status = everything();
    let service = status.services[0].clone();
    let backends = service.backends.len();
    for number in 1..260 {
        status.services.push(Service { name: format!("s{number}"), ..service.clone() });
    }
    let text = render(readings(status), Form::Text);
    assert!(text.contains("fairlead_omitted_objects{kind=\"services\"} 4.0"));
    let omitted = format!("fairlead_omitted_objects{{kind=\"backends\"}} {}.0", 4 * backends);
    assert!(text.contains(&omitted), "{omitted}");
}

#[test]
fn who_accepts_no_openmetrics_gets_the_older_form() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    for (accept, form) in [
        (prometheus, Form::OpenMetrics),
        ("", Form::OpenMetrics),
        ("*/*", Form::OpenMetrics),
        ("text/plain;version=0.0.4", Form::Text),
        ("text/html, text/plain;q=0.1", Form::Text),
    ] {
        assert_eq!(Form::accepted(accept), form, "{accept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rendering_serves_for_a_while_and_no_longer() {
    let (sender, status) = watch::channel(Arc::new(everything()));
    let metrics = Metrics::new(status, Live::default(), Latencies::default());
    let first = metrics.text(Form::Text).await;
    sender.send_modify(|status| Arc::make_mut(status).idle_resets = 77);
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(metrics.text(Form::Text).await, first);
    let other = metrics.text(Form::OpenMetrics).await;
    assert!(String::from_utf8_lossy(&other).contains("fairlead_idle_resets_total 77"));
    tokio::time::advance(Duration::from_millis(60)).await;
    let later = metrics.text(Form::Text).await;
    assert!(String::from_utf8_lossy(&later).contains("fairlead_idle_resets_total 77"));
}

/// All that a controller can have.
fn everything() -> Status {
    let mut status: serde_json::Value =
        serde_json::from_str(include_str!("../admin/model/status.json")).unwrap();
    let counters: BTreeMap<_, _> = render::vrrp_counters().map(|name| (name, 3)).collect();
    let mut instance = json!({
        "name": "api", "interface": "eth0", "vrid": 51, "version": 3, "vips": ["10.0.0.100"],
        "state": "active", "draining": false, "priority": 200, "since": "2026-01-02T03:04:05.006Z",
        "reason": "started", "term": 1, "advert_interval_ms": 1000, "counters": counters,
        "peers": [{ "address": "10.0.0.3", "priority": 100, "last_seen_ms": 120,
            "advert_interval_ms": 1000, "jitter_us": 1500, "checksum": "rfc9568" }],
        "alarms": [{ "kind": "late", "message": "late", "count": 1,
            "last": "2026-01-02T03:04:05.006Z" }],
    });
    instance["counters"]["worst_lateness_us"] = json!(250_000);
    status["vrrp"] = json!([instance]);
    status["sync"] = json!({
        "warm": true, "refused": { "key": 4 }, "not_kept": { "full": 1 }, "lost_changes": 5,
        "peers": [{ "address": "10.0.0.3:7946", "state": "synced",
            "since": "2026-01-02T03:04:05.006Z", "sent": 1, "received": 2, "held": 3,
            "held_by_peer": 4, "lag_ms": 7, "resyncs": 0, "ignored": 0, "discarded": 0,
            "last_digest": { "ago_ms": 900, "differing": 2 } }],
    });
    serde_json::from_value(status).unwrap()
}

fn readings(status: Status) -> Readings {
    let latencies = status.services.iter().flat_map(|service| {
        service.backends.iter().map(|backend| {
            let key = BackendKey {
                service: service.name.clone(),
                backend: backend.name.clone(),
                endpoint: backend.address,
            };
            let histogram = Histogram::new([0.001, 0.004]);
            histogram.observe(0.003);
            (key, histogram)
        })
    });
    let latencies = latencies.collect();
    let live = Live::default();
    live.was_busy(Task::Sweep, Duration::from_millis(2));
    live.reloaded(false, Duration::from_millis(40));
    let mut times = ConnectTimes::default();
    (times.buckets[1], times.buckets[2], times.sum_us) = (3, 1, 250);
    // Backends of the fixture have no identifiers.
    let connects = BTreeMap::from([(0, times)]);
    Readings { status: Arc::new(status), live, latencies, connects }
}

/// For a figure: `--ignored --nocapture`, and `--release` for that of a user's build.
#[test]
#[ignore = "measures: cargo test -p lb-userspace --lib -- --ignored --nocapture metrics"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn what_a_rendering_takes() {
    for backends in [3, 100, 1024] {
        let mut status = everything();
        let backend = status.services[0].backends[0].clone();
        status.services[0].backends = (0..backends)
            .map(|number| {
                let mut backend = backend.clone();
                backend.name = format!("cp{number}");
                backend
            })
            .collect();
        let readings = readings(status);
        let start = std::time::Instant::now();
        let bytes = (0..10).map(|_| render(readings.clone(), Form::OpenMetrics).len()).max();
        eprintln!("{backends} backends: {:?}, {bytes:?} bytes", start.elapsed() / 10);
    }
}
