//! What Fairlead promises in comparison with others. Pure.

use serde::Serialize;

use super::metric::Metric;
use super::peer::Peer;
use super::samples::Samples;
use super::stats::{Goal, Ratio, Verdict};

/// Of Fairlead in `nat`, which needs nothing of backends, as HAProxy and masquerading do not.
const OURS: Peer = Peer::FairleadNat;

const GOALS: [(Metric, Peer, Goal); 8] = [
    (Metric::Requests, Peer::Haproxy, Goal::AtLeast(1.8)),
    (Metric::Requests, Peer::Nftables, Goal::AtLeast(1.2)),
    (Metric::Connections, Peer::Haproxy, Goal::AtLeast(1.1)),
    (Metric::Connections, Peer::Nftables, Goal::AtLeast(1.0)),
    (Metric::Download, Peer::Haproxy, Goal::AtLeast(1.1)),
    (Metric::LoadedP50, Peer::Haproxy, Goal::AtMost(0.4)),
    (Metric::LoadedP99, Peer::Haproxy, Goal::AtMost(1.0)),
    (Metric::BalancerPerGb, Peer::Haproxy, Goal::AtMost(0.5)),
];

/// A goal, and what the rounds say about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) what: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static str,
    pub(crate) goal: Goal,
    pub(crate) ratio: Ratio,
    pub(crate) verdict: Verdict,
}

/// All whose peers were measured.
pub(crate) fn judge(samples: &Samples) -> Vec<Comparison> {
    let judge = |(metric, theirs, goal): &(Metric, Peer, Goal)| {
        let ratio = samples.ratio(*metric, OURS, *theirs)?;
        Some(Comparison {
            what: metric.label(),
            ours: OURS.label(),
            theirs: theirs.label(),
            goal: *goal,
            ratio,
            verdict: ratio.judge(*goal),
        })
    };
    GOALS.iter().filter_map(judge).collect()
}
