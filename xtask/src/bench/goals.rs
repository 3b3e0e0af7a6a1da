//! What Fairlead promises in comparison with others. Pure.

use serde::Serialize;

use super::metric::Metric;
use super::peer::Peer;
use super::samples::Samples;
use super::stats::{Goal, Ratio, Verdict};

/// Of Fairlead in `nat`, which needs nothing of backends, as HAProxy and masquerading do not.
const NAT: Peer = Peer::FairleadNat;
/// With the VIP at the backends, whose answers pass nobody on their way.
const DSR: Peer = Peer::FairleadDsr;

const GOALS: [(Metric, Peer, Peer, Goal); 10] = [
    (Metric::Requests, NAT, Peer::Haproxy, Goal::AtLeast(1.8)),
    (Metric::Requests, NAT, Peer::Nftables, Goal::AtLeast(1.2)),
    (Metric::Requests, DSR, Peer::Haproxy, Goal::AtLeast(1.8)),
    (Metric::Requests, DSR, Peer::Nftables, Goal::AtLeast(1.2)),
    (Metric::Connections, NAT, Peer::Haproxy, Goal::AtLeast(1.1)),
    (Metric::Connections, NAT, Peer::Nftables, Goal::AtLeast(1.0)),
    (Metric::Download, NAT, Peer::Haproxy, Goal::AtLeast(1.1)),
    (Metric::LoadedP50, NAT, Peer::Haproxy, Goal::AtMost(0.4)),
    (Metric::LoadedP99, NAT, Peer::Haproxy, Goal::AtMost(1.0)),
    (Metric::BalancerPerGb, NAT, Peer::Haproxy, Goal::AtMost(0.5)),
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
    let judge = |(metric, ours, theirs, goal): &(Metric, Peer, Peer, Goal)| {
        let ratio = samples.ratio(*metric, *ours, *theirs)?;
        Some(Comparison {
            what: metric.label(),
            ours: ours.label(),
            theirs: theirs.label(),
            goal: *goal,
            ratio,
            verdict: ratio.judge(*goal),
        })
    };
    GOALS.iter().filter_map(judge).collect()
}
