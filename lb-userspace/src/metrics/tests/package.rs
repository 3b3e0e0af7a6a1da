//! What the package brings for Prometheus and Grafana names metrics that there are, by labels that they have.

use serde_json::Value;

use super::*;

const ALERTS: &str = include_str!("../../../packaging/monitoring/alerts.yaml");
const ALERT_TESTS: &str = include_str!("../../../packaging/monitoring/alerts-test.yaml");
const DASHBOARD: &str = include_str!("../../../packaging/monitoring/dashboard.json");

#[test]
fn alerts_and_dashboard_name_only_metrics_that_there_are() {
    let known = names();
    for (file, text) in [("alerts", ALERTS), ("their tests", ALERT_TESTS), ("dashboard", DASHBOARD)]
    {
        let named: BTreeSet<_> = words(text).filter(|word| word.starts_with("fairlead_")).collect();
        assert!(named.len() > 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to() {
    let names: Vec<_> =
        ALERTS.lines().filter_map(|it| it.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(ALERT_TESTS.contains(&format!("{{ alertname: {name}, eval_time: ")), "{name}");
        assert!(ALERT_TESTS.contains(&format!("- alertname: {name}\n")), "{name}");
    }
    let silent = ALERT_TESTS.matches("exp_alerts: []").count();
    assert_eq!(silent, ALERT_TESTS.matches("exp_annotations:").count());
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().unwrap();
            assert!(targets.iter().all(|it| it["expr"].as_str().is_some_and(|it| !it.is_empty())));
        }
    }
    assert!(panels.len() > 20);
}

/// Of samples: a histogram has three.
fn names() -> BTreeSet<String> {
    let of = |family: &&families::Family| {
        let name = family.full_name();
        if family.kind == prometheus_client::metrics::MetricType::Histogram {
            ["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}")).to_vec()
        } else {
            vec![name]
        }
    };
    families::ALL.iter().flat_map(of).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
}
