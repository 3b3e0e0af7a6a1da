//! What the rounds found, by peer and metric. Pure.

use std::collections::BTreeMap;

use super::metric::Metric;
use super::peer::Peer;
use super::stats::{Ratio, Summary};

/// A turn of one peer in one round.
pub(crate) type Turn = BTreeMap<Metric, f64>;

/// Turns in the order of their rounds. A round is kept only if all its peers had their turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    turns: BTreeMap<Peer, Vec<Turn>>,
}

impl Samples {
    /// Adds a whole round.
    pub(crate) fn push(&mut self, round: BTreeMap<Peer, Turn>) {
        let direct = round.get(&Peer::Direct).cloned();
        for (peer, mut turn) in round {
            if let Some(direct) = direct.as_ref().filter(|_| peer != Peer::Direct) {
                for (difference, of) in Metric::DIFFERENCES {
                    if let (Some(ours), Some(direct)) = (turn.get(&of), direct.get(&of)) {
                        turn.insert(difference, ours - direct);
                    }
                }
            }
            self.turns.entry(peer).or_default().push(turn);
        }
    }

    /// A peer that failed later on has no figures.
    pub(crate) fn forget(&mut self, peer: Peer) {
        self.turns.remove(&peer);
    }

    pub(crate) fn rounds(&self) -> usize {
        self.turns.values().map(Vec::len).max().unwrap_or_default()
    }

    pub(crate) fn values(&self, peer: Peer, metric: Metric) -> Vec<f64> {
        let turns = self.turns.get(&peer).map(Vec::as_slice).unwrap_or_default();
        turns.iter().filter_map(|turn| turn.get(&metric).copied()).collect()
    }

    pub(crate) fn summary(&self, peer: Peer, metric: Metric) -> Option<Summary> {
        Summary::of(&self.values(peer, metric))
    }

    pub(crate) fn ratio(&self, metric: Metric, ours: Peer, theirs: Peer) -> Option<Ratio> {
        Ratio::of(&self.values(ours, metric), &self.values(theirs, metric))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_a_balancer_is_what_the_machine_needed_more_in_the_same_round() {
        let mut samples = Samples::default();
        for (direct, haproxy) in [(1.0, 3.0), (2.0, 5.0)] {
            let turn = |value| Turn::from([(Metric::MachinePerGb, value)]);
            samples.push([(Peer::Direct, turn(direct)), (Peer::Haproxy, turn(haproxy))].into());
        }
        assert_eq!(samples.values(Peer::Haproxy, Metric::BalancerPerGb), [2.0, 3.0]);
        assert_eq!(samples.summary(Peer::Direct, Metric::BalancerPerGb), None);
        assert_eq!(samples.rounds(), 2);
        let ratio = samples.ratio(Metric::MachinePerGb, Peer::Haproxy, Peer::Direct).unwrap();
        assert_eq!((ratio.low, ratio.value, ratio.high), (2.625, 4.0 / 1.5, 2.875));
    }
}
