//! Medians and what surrounds them. Pure.

use serde::Serialize;

/// Quartiles further apart than this part of the median allow no conclusion.
const WIDE: f64 = 0.25;
/// Nor do fewer rounds.
const FEW: usize = 3;

/// Several measurements of the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The lower quartile.
    pub(crate) low: f64,
    /// The upper one.
    pub(crate) high: f64,
    pub(crate) rounds: usize,
    /// Whether the quartiles are close enough to the median for a conclusion.
    pub(crate) conclusive: bool,
}

impl Summary {
    /// `None`: nothing was measured.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|rank| quantile(&sorted, rank));
        let (low, median, high) = (low?, median?, high?);
        let conclusive = sorted.len() >= FEW && high - low <= WIDE * median.abs();
        Some(Self { median, low, high, rounds: sorted.len(), conclusive })
    }
}

/// Between the two nearest, in proportion.
fn quantile(sorted: &[f64], rank: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    // As floating point: there are few rounds.
    let place = rank * last as f64;
    let below = (0..=last).rev().find(|index| *index as f64 <= place)?;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// What is asked of a ratio of two peers' figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// What the rounds say about a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Holds,
    Missed,
    /// The goal lies between the quartiles of the rounds, or there are too few of them.
    Unclear,
}

/// A ratio of two figures that were measured in the same rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Of the medians.
    pub(crate) value: f64,
    /// Quartiles of the ratios of each round.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) rounds: usize,
}

impl Ratio {
    /// `None`: the two have no round in common.
    pub(crate) fn of(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let each: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        let value = Summary::of(ours)?.median / Summary::of(theirs)?.median;
        let Summary { low, high, rounds, .. } = Summary::of(&each)?;
        Some(Self { value, low, high, rounds })
    }

    pub(crate) fn judge(&self, goal: Goal) -> Verdict {
        let holds = |value: f64| match goal {
            Goal::AtLeast(least) => value >= least,
            Goal::AtMost(most) => value <= most,
        };
        // What others took is a difference, which noise can turn into less than nothing.
        if self.rounds < FEW || self.low <= 0.0 {
            return Verdict::Unclear;
        }
        match (holds(self.low), holds(self.high)) {
            (true, true) if holds(self.value) => Verdict::Holds,
            (false, false) if !holds(self.value) => Verdict::Missed,
            _ => Verdict::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_rounds() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((summary.low, summary.median, summary.high), (1.75, 2.5, 3.25));
        assert_eq!(summary.rounds, 4);
        assert!(!summary.conclusive);
        let one = Summary::of(&[7.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
        assert!(!one.conclusive, "one round");
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_round_of_five_that_was_disturbed_moves_nothing() {
        let summary = Summary::of(&[100.0, 101.0, 99.0, 100.0, 5.0]).unwrap();
        assert_eq!(summary.median, 100.0);
        assert!(summary.conclusive);
    }

    #[test]
    fn a_goal_between_the_quartiles_is_neither_won_nor_lost() {
        let ratio = Ratio::of(&[8.0, 10.0, 12.0], &[8.0, 8.0, 8.0]).unwrap();
        assert_eq!((ratio.low, ratio.value, ratio.high), (1.125, 1.25, 1.375));
        assert_eq!(ratio.judge(Goal::AtLeast(1.1)), Verdict::Holds);
        assert_eq!(ratio.judge(Goal::AtLeast(1.25)), Verdict::Unclear);
        assert_eq!(ratio.judge(Goal::AtLeast(1.4)), Verdict::Missed);
        assert_eq!(ratio.judge(Goal::AtMost(1.375)), Verdict::Holds);
        assert_eq!(ratio.judge(Goal::AtMost(1.0)), Verdict::Missed);
    }

    #[test]
    fn a_drift_of_the_machine_does_not_touch_the_ratio() {
        let ratio = Ratio::of(&[20.0, 10.0, 30.0], &[10.0, 5.0, 15.0]).unwrap();
        assert_eq!((ratio.low, ratio.value, ratio.high), (2.0, 2.0, 2.0));
    }
}
