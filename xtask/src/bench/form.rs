//! Whether a run's JSON has the form that others rely on. Pure.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::peer::Peer;

const RATES: [&str; 5] =
    ["throughput_gbit_s", "upload_gbit_s", "connections_s", "requests_s", "small_requests_s"];
const RANKS: [&str; 3] = ["p50", "p99", "p999"];

/// Of a run of the rounds: every peer is there, none has failed, and figures are positive numbers.
pub(crate) fn check(json: &Value) -> Result<()> {
    ensure!(json["schema"] == 1 && json["rounds"].as_u64() > Some(0), "no schema or no rounds");
    for key in ["machine", "versions"] {
        ensure!(json[key].as_object().is_some_and(|object| !object.is_empty()), "no {key}");
    }
    for key in ["ns_per_packet", "comparisons", "packets", "failover"] {
        ensure!(json[key].is_array(), "{key} is no list");
    }
    let notes = json["notes"].as_array().context("notes is no list")?;
    ensure!(notes.is_empty(), "something was not measured: {notes:?}");
    let peers = json["peers"].as_array().context("peers is no list")?;
    let names: Vec<_> = peers.iter().filter_map(|peer| peer["name"].as_str()).collect();
    ensure!(names == Peer::ALL.map(Peer::name), "peers are {names:?}");
    for (peer, name) in peers.iter().zip(names) {
        ensure!(peer["failed"].is_null(), "{name}: {}", peer["failed"]);
        for key in RATES {
            positive(&peer[key]).with_context(|| format!("{key} of {name}"))?;
        }
        for latency in ["latency_us", "latency_unloaded_us"] {
            for rank in RANKS {
                let value = &peer[latency][rank];
                positive(value).with_context(|| format!("{latency}.{rank} of {name}"))?;
            }
        }
        // A difference: in a short run it can be anything.
        let is_there = peer["cpu_s_per_gb"].is_number() || name == Peer::Direct.name();
        ensure!(is_there, "no cpu_s_per_gb of {name}");
        let connections = &peer["memory"]["connections"];
        positive(connections).with_context(|| format!("memory of {name}"))?;
    }
    Ok(())
}

fn positive(value: &Value) -> Result<()> {
    let number = value.as_f64().context("no number")?;
    ensure!(number > 0.0, "{number} is not positive");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::example;
    use super::*;

    #[test]
    fn a_peer_that_failed_or_is_missing_is_noticed() {
        let mut findings = example();
        assert_eq!(check(&findings.json()).unwrap_err().to_string(), "no versions");
        findings.versions.insert("nginx", "1".to_owned());
        assert!(check(&findings.json()).unwrap_err().to_string().contains("a & b"));
        findings.notes.clear();
        let error = format!("{:#}", check(&findings.json()).unwrap_err());
        assert!(error.contains("peers are"), "{error}");
        findings.peers = Peer::ALL.into();
        let error = format!("{:#}", check(&findings.json()).unwrap_err());
        assert!(error.starts_with("memory of direct"), "{error}");
    }
}
