//! How much is measured, and how long it may take. Pure.

use std::time::Duration;

use super::memory;

/// Of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Each way.
    pub(crate) bulk: Duration,
    /// Each of its two runs; whole seconds.
    pub(crate) wrk: Duration,
    /// Each of its two runs.
    pub(crate) paced: Duration,
    pub(crate) connects: usize,
    /// Connections that are open and idle, to see what memory they take.
    pub(crate) idle: usize,
    /// How long an outage is watched.
    pub(crate) outage: Duration,
    /// Of packets that are made in the kernel, each time.
    pub(crate) packets: Duration,
    /// Of the XDP program, for each path through it.
    pub(crate) ns_runs: u32,
    /// Of everything.
    pub(crate) limit: Duration,
}

impl Effort {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        bulk: Duration::from_millis(1000),
        wrk: Duration::from_secs(2),
        paced: Duration::from_millis(1500),
        connects: 500,
        idle: memory::CONNECTIONS,
        outage: Duration::from_secs(4),
        packets: Duration::from_millis(300),
        ns_runs: 300_000,
        limit: Duration::from_secs(600),
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        bulk: Duration::from_millis(300),
        wrk: Duration::from_secs(1),
        paced: Duration::from_millis(400),
        connects: 100,
        idle: memory::CONNECTIONS,
        outage: Duration::from_secs(3),
        packets: Duration::from_millis(150),
        ns_runs: 120_000,
        limit: Duration::from_secs(120),
    };
    /// To see that it works at all; the figures mean nothing.
    pub(crate) const LEAST: Self = Self {
        rounds: 1,
        bulk: Duration::from_millis(100),
        wrk: Duration::from_secs(1),
        paced: Duration::from_millis(100),
        connects: 20,
        idle: 200,
        outage: Duration::from_secs(1),
        packets: Duration::from_millis(20),
        ns_runs: 20_000,
        limit: Duration::from_secs(90),
    };

    /// Less than a full run has.
    pub(crate) const fn is_short(&self) -> bool {
        self.rounds < Self::FULL.rounds
    }
}
