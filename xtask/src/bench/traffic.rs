//! The rounds: every peer in turn, again and again, so that what drifts on the machine drifts for all.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_tests::topology::Topology;

use super::correct;
use super::effort::Effort;
use super::findings::Findings;
use super::lab::{self, Standing};
use super::memory;
use super::peer::Peer;
use super::progress::Progress;
use super::turn;

/// Of what HAProxy answers at most, under which loaded latency is measured.
const LOAD: f64 = 0.7;
/// Requests each second where there is no HAProxy to ask.
const DEFAULT_RATE: u32 = 10_000;

/// Measures all peers of `findings` that pass their check.
pub(super) fn run(
    findings: &mut Findings,
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
) -> Result<()> {
    let mut labs: Vec<(Peer, Topology)> = Vec::new();
    for peer in findings.peers.clone() {
        progress.part(&format!("building the lab of {}", peer.label()))?;
        labs.push((peer, lab::build(peer, findings.fabric)?));
    }
    let mut standings = Vec::new();
    for (peer, lab) in &labs {
        progress.part(&format!("checking {}", peer.label()))?;
        let standing = Standing::start(*peer, lab, binary);
        match standing.and_then(|standing| correct::check(&standing).map(|()| standing)) {
            Ok(standing) => standings.push(standing),
            Err(error) => {
                findings.failed.insert(*peer, format!("{error:#}"));
            }
        }
    }
    findings.loaded_rate = rate(&standings, progress)?;
    rounds(findings, effort, &mut standings, progress)?;
    for standing in &standings {
        let label = standing.peer.label();
        progress.part(&format!("memory with idle connections: {label}"))?;
        match memory::measure(standing, effort.idle) {
            Ok(memory) => drop(findings.memory.insert(standing.peer, memory)),
            Err(error) => findings.notes.push(format!("{label}: no figure of memory: {error:#}")),
        }
    }
    Ok(())
}

/// The same for all peers: a part of what HAProxy can.
fn rate(standings: &[Standing<'_>], progress: &Progress) -> Result<u32> {
    progress.part("finding a rate of requests for all")?;
    let Some(haproxy) = standings.iter().find(|standing| standing.peer == Peer::Haproxy) else {
        return Ok(DEFAULT_RATE);
    };
    let thousands = turn::capacity(haproxy)? * LOAD / 1e3;
    // Whole thousands: there are fewer than 10,000 of them.
    let thousands = (1..10_000).take_while(|count| f64::from(*count) <= thousands).last();
    Ok(thousands.unwrap_or(1) * 1000)
}

fn rounds(
    findings: &mut Findings,
    effort: &Effort,
    standings: &mut Vec<Standing<'_>>,
    progress: &Progress,
) -> Result<()> {
    let mut longest = Duration::ZERO;
    for round in 1..=effort.rounds {
        if !progress.has(longest) {
            let made = findings.samples.rounds();
            findings.notes.push(format!("{made} rounds in place of {}: no time", effort.rounds));
            break;
        }
        let start = Instant::now();
        let mut turns = BTreeMap::new();
        let mut failed = Vec::new();
        progress.part(&format!("round {round} of {}", effort.rounds))?;
        for standing in &*standings {
            let peer = standing.peer;
            progress.step(&format!("round {round} of {}: {}", effort.rounds, peer.label()))?;
            let notes = &mut findings.notes;
            match turn::take(standing, effort, findings.loaded_rate, notes) {
                Ok(turn) => drop(turns.insert(peer, turn)),
                Err(error) => failed.push((peer, format!("in round {round}: {error:#}"))),
            }
        }
        findings.samples.push(turns);
        for (peer, why) in failed {
            findings.samples.forget(peer);
            findings.failed.insert(peer, why);
            standings.retain(|standing| standing.peer != peer);
        }
        longest = longest.max(start.elapsed());
    }
    Ok(())
}
