//! Everything that a run found; what is printed and written is made of it. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::failover::Outage;
use super::goals::{self, Comparison};
use super::growth::Grown;
use super::lab::Fabric;
use super::machine::Machine;
use super::memory::Memory;
use super::metric::Metric;
use super::observed::{Cost, Looking};
use super::packets::Packets;
use super::peer::Peer;
use super::samples::Samples;

/// Of the JSON; a key that is added does not change it.
const SCHEMA: u32 = 1;

#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) machine: Machine,
    pub(crate) versions: BTreeMap<&'static str, String>,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) seconds: f64,
    pub(crate) quick: bool,
    pub(crate) fabric: Fabric,
    /// Requests each second under which loaded latency was measured, of every peer.
    pub(crate) loaded_rate: u32,
    /// Those that were to be measured, in order.
    pub(crate) peers: Vec<Peer>,
    pub(crate) samples: Samples,
    /// Why a peer has no figures.
    pub(crate) failed: BTreeMap<Peer, String>,
    /// Peers that this machine cannot have, and why.
    pub(crate) unavailable: BTreeMap<&'static str, &'static str>,
    pub(crate) ns_per_packet: Vec<NsFigure>,
    /// Of known flows in `nat`, by their number.
    pub(crate) ns_by_flows: Vec<NsFigure>,
    pub(crate) tables: Vec<Rebuilt>,
    pub(crate) packets: Vec<Packets>,
    pub(crate) looking: Looking,
    pub(crate) memory: BTreeMap<Peer, Memory>,
    pub(crate) growth: Vec<Grown>,
    pub(crate) outages: Vec<Outage>,
    /// What else there is to say of the run.
    pub(crate) notes: Vec<String>,
}

/// Nanoseconds that the XDP program takes for a packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NsFigure {
    pub(crate) mode: String,
    pub(crate) family: u8,
    pub(crate) path: String,
    pub(crate) flows: u64,
    /// Above the floor.
    pub(crate) ns: f64,
    /// Of a program that only sends, on the same frames.
    pub(crate) floor_ns: f64,
    /// Quartiles of the rounds.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A table of backends that was built anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Rebuilt {
    pub(crate) backends: u64,
    pub(crate) slots: u64,
    pub(crate) ms: f64,
}

impl Findings {
    pub(crate) fn comparisons(&self) -> Vec<Comparison> {
        goals::judge(&self.samples)
    }

    /// Of an operator's looking.
    pub(crate) fn costs(&self) -> Vec<Cost> {
        self.looking.costs(&self.packets)
    }

    /// Those with figures.
    pub(crate) fn measured(&self) -> Vec<Peer> {
        let has = |peer: &Peer| !self.failed.contains_key(peer) && self.has_figures(*peer);
        self.peers.iter().copied().filter(has).collect()
    }

    fn has_figures(&self, peer: Peer) -> bool {
        Metric::ALL.into_iter().any(|metric| self.samples.summary(peer, metric).is_some())
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "schema": SCHEMA,
            "started": self.started,
            "seconds": self.seconds,
            "quick": self.quick,
            "rounds": self.samples.rounds(),
            "machine": self.machine,
            "versions": self.versions,
            "fabric": self.fabric,
            "loaded_rate": self.loaded_rate,
            "peers": self.peers.iter().map(|peer| self.peer(*peer)).collect::<Vec<_>>(),
            "unavailable": self.unavailable,
            "comparisons": self.comparisons(),
            "ns_per_packet": self.ns_per_packet,
            "packets": self.packets,
            "looking": { "packets": self.costs(), "scrape": self.looking.scrape },
            "growth": {
                "known_flows": self.ns_by_flows,
                "tables": self.tables,
                "configurations": self.growth,
            },
            "failover": self.outages,
            "notes": self.notes,
        })
    }

    /// Medians where everybody looks for them, and all of each figure in `figures`.
    fn peer(&self, peer: Peer) -> Value {
        let failed = self.failed.get(&peer);
        let mut object = Map::new();
        object.insert("name".to_owned(), peer.name().into());
        object.insert("failed".to_owned(), failed.map(String::as_str).into());
        let mut figures = Map::new();
        for metric in Metric::ALL {
            let summary = if failed.is_some() { None } else { self.samples.summary(peer, metric) };
            insert(&mut object, metric.key(), summary.map(|summary| summary.median).into());
            if let Some(summary) = summary {
                let mut figure = json!(summary);
                figure["unit"] = metric.unit().into();
                figures.insert(metric.key().to_owned(), figure);
            }
        }
        object.insert("figures".to_owned(), figures.into());
        let mut memory = json!(self.memory.get(&peer));
        if let Some(kib) = self.balancer_kib(peer) {
            memory["balancer_kib"] = kib.into();
        }
        object.insert("memory".to_owned(), memory);
        object.into()
    }

    /// What a balancer takes with idle connections open. `None`: not measured, or there is none.
    pub(crate) fn balancer_kib(&self, peer: Peer) -> Option<i64> {
        let direct = self.memory.get(&Peer::Direct)?;
        self.memory.get(&peer).filter(|_| peer != Peer::Direct).map(|own| own.of_balancer(direct))
    }
}

/// Under `a`, or under `b` in the object `a` if the key is `a.b`.
fn insert(object: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            object.insert(key.to_owned(), value);
        }
        Some((outer, inner)) => {
            let outer = object.entry(outer).or_insert_with(|| json!({}));
            outer[inner] = value;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::observed::{Scrape, Timed};
    use super::*;
    use crate::bench::samples::Turn;

    /// Two peers with some figures, and one that failed.
    pub(crate) fn example() -> Findings {
        let mut samples = Samples::default();
        for round in 0..5 {
            let turn = |factor: f64| -> Turn {
                let value = factor * (100.0 + f64::from(round));
                Metric::ALL.into_iter().map(|metric| (metric, value)).collect()
            };
            samples.push(
                [
                    (Peer::Direct, turn(1.0)),
                    (Peer::Haproxy, turn(4.0)),
                    (Peer::FairleadNat, turn(2.0)),
                ]
                .into(),
            );
        }
        Findings {
            peers: vec![Peer::Direct, Peer::Haproxy, Peer::Nftables, Peer::FairleadNat],
            samples,
            failed: [(Peer::Nftables, "only <cp1> answered".to_owned())].into(),
            unavailable: [("ipvs", "this kernel has no IPVS")].into(),
            ns_per_packet: vec![NsFigure {
                mode: "nat".to_owned(),
                family: 4,
                path: "forward".to_owned(),
                flows: 1,
                ns: 40.0,
                floor_ns: 33.0,
                low: 39.0,
                high: 41.0,
            }],
            looking: Looking {
                timed: vec![Timed {
                    what: "counting".to_owned(),
                    path: "request".to_owned(),
                    flows: 1,
                    with: vec![110.0, 111.0, 112.0],
                    without: vec![100.0, 101.0, 102.0],
                }],
                scrape: Some(Scrape { ms: 3.0, idle: 0.01 }),
            },
            notes: vec!["a & b".to_owned()],
            ..Findings::default()
        }
    }

    #[test]
    fn the_json_has_the_form_that_is_promised() {
        let json = example().json();
        let peers = json["peers"].as_array().unwrap();
        let names: Vec<_> = peers.iter().map(|peer| peer["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["direct", "haproxy", "nftables", "fairlead-nat"]);
        let ours = &peers[3];
        for key in ["throughput_gbit_s", "connections_s", "requests_s", "cpu_s_per_gb"] {
            assert!(ours[key].is_f64(), "{key}: {ours}");
        }
        assert_eq!(ours["latency_us"]["p50"], 204.0);
        assert!(ours["latency_us"]["p99"].is_f64());
        assert_eq!(ours["figures"]["requests_s"]["rounds"], 5);
        let figure = &json["ns_per_packet"][0];
        for (key, value) in [("mode", json!("nat")), ("family", json!(4)), ("flows", json!(1))] {
            assert_eq!(figure[key], value, "{key}");
        }
        assert_eq!((&figure["ns"], &figure["floor_ns"]), (&json!(40.0), &json!(33.0)));
        let looking = &json["looking"];
        assert_eq!(looking["packets"][0]["more_ns"]["median"], 10.0);
        assert!(looking["packets"][0]["packet"].is_null(), "no packets were measured");
        assert_eq!(looking["scrape"]["ms"], 3.0);
    }

    #[test]
    fn a_peer_that_failed_has_a_reason_and_no_figures() {
        let peer = &example().json()["peers"][2];
        assert_eq!(peer["failed"], "only <cp1> answered");
        assert!(peer["throughput_gbit_s"].is_null() && peer["latency_us"]["p50"].is_null());
        assert_eq!(peer["figures"], json!({}));
    }
}
