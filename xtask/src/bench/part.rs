//! The parts of a run, in the order that they are measured in.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::effort::Effort;
use super::findings::Findings;
use super::progress::Progress;
use super::{failover, growth, looking, ns, packets, traffic};
use crate::build;

/// What a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// Throughput, connections, requests, latency, CPU
    Traffic,
    /// Nanoseconds per packet
    Ns,
    /// Packets a second on one core
    Packets,
    /// What counting, scrapes and following packets cost; with it, packets a second
    Looking,
    /// How cost grows with flows, backends and services
    Growth,
    /// What outages cost
    Failover,
}

impl Part {
    /// Of a quick run, what has a fixed length first: the rounds take what time is left.
    pub(super) const fn order(quick: bool) -> [Self; 6] {
        let (traffic, ns, packets) = (Self::Traffic, Self::Ns, Self::Packets);
        let (looking, failover, growth) = (Self::Looking, Self::Failover, Self::Growth);
        if quick {
            [packets, ns, traffic, looking, failover, growth]
        } else {
            [traffic, packets, looking, ns, failover, growth]
        }
    }

    /// Belongs to a run for which nothing is chosen.
    pub(super) const fn is_usual(self, quick: bool) -> bool {
        match self {
            Self::Traffic | Self::Ns | Self::Packets => true,
            Self::Looking | Self::Failover | Self::Growth => !quick,
        }
    }

    /// The seconds that it takes at most, in a quick run and else; the rounds look at the clock themselves.
    const fn seconds(self) -> [u64; 2] {
        match self {
            Self::Traffic => [0, 0],
            Self::Packets => [6, 15],
            Self::Looking => [80, 90],
            Self::Ns => [25, 90],
            Self::Failover => [45, 50],
            Self::Growth => [60, 60],
        }
    }

    /// Measures it, or notes why not.
    ///
    /// # Errors
    /// The run is to end.
    pub(super) fn measure_in_time(
        self,
        effort: &Effort,
        binary: &Path,
        progress: &Progress,
        findings: &mut Findings,
    ) -> Result<()> {
        let [short, long] = self.seconds();
        if !progress.has(Duration::from_secs(if effort.is_short() { short } else { long })) {
            findings.notes.push(format!("{self:?}: not measured: no time left"));
            return Ok(());
        }
        if let Err(error) = self.measure(effort, binary, progress, findings) {
            // Unless somebody wants it all to end.
            progress.step("")?;
            findings.notes.push(format!("{self:?}: not measured: {error:#}"));
        }
        Ok(())
    }

    fn measure(
        self,
        effort: &Effort,
        binary: &Path,
        progress: &Progress,
        found: &mut Findings,
    ) -> Result<()> {
        match self {
            Self::Traffic => traffic::run(found, effort, binary, progress),
            Self::Ns => measure_ns(effort, progress, found),
            Self::Packets => measure_packets(effort, binary, progress, found),
            Self::Looking => measure_looking(effort, binary, progress, found),
            Self::Failover => measure_failover(effort, binary, progress, found),
            Self::Growth => measure_growth(effort, binary, progress, found),
        }
    }
}

fn measure_ns(effort: &Effort, progress: &Progress, found: &mut Findings) -> Result<()> {
    progress.part("nanoseconds per packet")?;
    let family = effort.is_short().then_some(4);
    found.ns_per_packet = ns::brief(effort.ns_runs, family)?;
    Ok(())
}

fn measure_packets(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    progress.part("packets a second")?;
    found.packets = packets::run(binary, effort.rounds, effort.packets, progress)?;
    Ok(())
}

fn measure_looking(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    progress.part("what looking costs")?;
    let uncounted = build::uncounted()?;
    if found.packets.is_empty() {
        measure_packets(effort, binary, progress, found)?;
    }
    found.looking = looking::run(binary, &uncounted, effort.ns_runs, progress)?;
    Ok(())
}

fn measure_failover(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    found.outages = failover::run(binary, effort.outage, progress)?;
    Ok(())
}

fn measure_growth(
    effort: &Effort,
    binary: &Path,
    progress: &Progress,
    found: &mut Findings,
) -> Result<()> {
    found.growth = growth::run(binary, effort.is_short(), progress, &mut found.notes)?;
    progress.part("growth: flows and tables, of the XDP program")?;
    (found.ns_by_flows, found.tables) = ns::growth(effort.ns_runs)?;
    Ok(())
}
