//! What is said of an operator's looking: what counting costs a packet, and what following packets does while somebody
//! reads. Pure.
//!
//! The program's time is measured alone, with and without, in turns; what a packet takes in all is that of the packets
//! made in the kernel. What a path takes longer than a request of one flow is added to it.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::packets::Packets;
use super::stats::{Goal, Ratio, Summary, Verdict};

/// What is on by default may cost so much of the datapath's speed: the time of a packet, to that without.
const GOAL: Goal = Goal::AtMost(1.0 / 0.98);
/// What is on by default.
const COUNTING: &str = "counting";
/// How the packets are called that a whole packet's time is taken from.
const WHOLE: &str = "Fairlead nat, 1 flow";

/// The program's time for a packet of one path, in each round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timed {
    pub(crate) what: String,
    pub(crate) path: String,
    pub(crate) flows: u64,
    /// Nanoseconds, floor included.
    pub(crate) with: Vec<f64>,
    pub(crate) without: Vec<f64>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Looking {
    pub(crate) timed: Vec<Timed>,
    pub(crate) scrape: Option<Scrape>,
}

/// What a scrape of the metrics takes of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Scrape {
    /// Of CPU time.
    pub(crate) ms: f64,
    /// Of a core, of a controller that is not asked.
    pub(crate) idle: f64,
}

/// What one kind of looking costs on one path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    pub(crate) what: String,
    pub(crate) path: String,
    pub(crate) flows: u64,
    pub(crate) with_ns: f64,
    pub(crate) without_ns: f64,
    pub(crate) more_ns: Summary,
    /// Of a packet, from one end of the node to the other. `None`: that was not measured.
    pub(crate) packet: Option<Whole>,
}

/// Of a packet in all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Whole {
    pub(crate) ns: f64,
    /// The time with, to that without.
    pub(crate) ratio: Ratio,
    /// Only of what is on by default.
    pub(crate) verdict: Option<Verdict>,
}

impl Scrape {
    /// Part of a core, of one in so many seconds.
    pub(crate) fn share(self, every_seconds: f64) -> f64 {
        self.ms / 1e3 / every_seconds
    }
}

impl Looking {
    pub(crate) fn costs(&self, packets: &[Packets]) -> Vec<Cost> {
        let whole = packets.iter().find(|it| it.program == WHOLE).map(|it| it.millions_s);
        let hot = self.timed.iter().find(|it| it.what == COUNTING && it.flows == 1);
        let hot = hot.and_then(|it| Summary::of(&it.with)).map(|it| it.median);
        self.timed.iter().filter_map(|timed| timed.cost(whole, hot)).collect()
    }
}

impl Timed {
    fn cost(&self, whole: Option<Summary>, hot: Option<f64>) -> Option<Cost> {
        let (with, without) = (Summary::of(&self.with)?, Summary::of(&self.without)?);
        let pairs = || self.with.iter().zip(&self.without);
        let more: Vec<f64> = pairs().map(|(with, without)| with - without).collect();
        let packet = whole.zip(hot).and_then(|(rate, hot)| self.of_packet(rate, hot));
        Some(Cost {
            what: self.what.clone(),
            path: self.path.clone(),
            flows: self.flows,
            with_ns: with.median,
            without_ns: without.median,
            more_ns: Summary::of(&more)?,
            packet,
        })
    }

    fn of_packet(&self, rate: Summary, hot: f64) -> Option<Whole> {
        let is_default = self.what == COUNTING;
        // What follows packets is in front of a program that counts.
        let base = Summary::of(if is_default { &self.with } else { &self.without })?.median;
        let rest = 1e3 / rate.median - hot;
        let all = |times: &[f64]| times.iter().map(|time| rest + time).collect::<Vec<_>>();
        let ratio = Ratio::of(&all(&self.with), &all(&self.without))?;
        let judged = if rate.conclusive { ratio.judge(GOAL) } else { Verdict::Unclear };
        Some(Whole { ns: rest + base, ratio, verdict: is_default.then_some(judged) })
    }
}

/// From the bench of the XDP program.
pub(crate) fn timed(json: &Value) -> Result<Vec<Timed>> {
    let one = |value: &Value| {
        let numbers = |key: &str| {
            let list = value[key].as_array()?;
            list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()
        };
        Some(Timed {
            what: value["what"].as_str()?.to_owned(),
            path: value["path"].as_str()?.to_owned(),
            flows: value["flows"].as_u64()?,
            with: numbers("with")?,
            without: numbers("without")?,
        })
    };
    let all: Option<_> =
        json["observed"].as_array().context("nothing was observed")?.iter().map(one).collect();
    all.context("a path without its rounds")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn timed_as(what: &str, flows: u64, with: f64, more: f64) -> Timed {
        let with: Vec<f64> = (0..5).map(|round| with + f64::from(round)).collect();
        let without = with.iter().map(|with| with - more).collect();
        Timed { what: what.to_owned(), path: "request".to_owned(), flows, with, without }
    }

    fn packets(millions: &[f64]) -> Vec<Packets> {
        let millions_s = Summary::of(millions).unwrap();
        vec![Packets { program: WHOLE, flows: 1, millions_s }]
    }

    #[test]
    fn counting_is_judged_by_a_whole_packets_time() {
        let looking = Looking {
            timed: vec![
                timed_as(COUNTING, 1, 148.0, 10.0),
                timed_as(COUNTING, 60_000, 548.0, 40.0),
                timed_as("following every packet", 1, 750.0, 600.0),
            ],
            scrape: None,
        };
        let costs = looking.costs(&packets(&[1.0, 1.0, 1.0]));
        assert_eq!(
            (costs[0].with_ns, costs[0].without_ns, costs[0].more_ns.median),
            (150.0, 140.0, 10.0)
        );
        let whole: Vec<_> = costs.iter().map(|cost| cost.packet.unwrap()).collect();
        assert_eq!((whole[0].ns, whole[1].ns, whole[2].ns), (1000.0, 1400.0, 1002.0));
        assert!((whole[0].ratio.value - 1000.0 / 990.0).abs() < 1e-9);
        let verdicts: Vec<_> = whole.iter().map(|whole| whole.verdict).collect();
        assert_eq!(verdicts, [Some(Verdict::Holds), Some(Verdict::Missed), None]);
    }

    #[test]
    fn without_a_packets_time_nothing_is_concluded() {
        let looking = Looking { timed: vec![timed_as(COUNTING, 1, 148.0, 10.0)], scrape: None };
        assert_eq!(looking.costs(&[])[0].packet, None);
        let verdict = looking.costs(&packets(&[0.5, 1.0, 2.0]))[0].packet.unwrap().verdict;
        assert_eq!(verdict, Some(Verdict::Unclear));
    }

    #[test]
    fn rounds_are_taken_from_the_benchs_json() {
        let json = json!({"observed": [{"what": "counting", "path": "request", "flows": 1,
            "with": [1.5], "without": [1.0], "floor": [0.5]}]});
        let timed = timed(&json).unwrap();
        assert_eq!((timed[0].with[0], timed[0].without[0], timed[0].flows), (1.5, 1.0, 1));
        assert!(super::timed(&json!({"observed": [{}]})).is_err());
        assert_eq!(Scrape { ms: 3.0, idle: 0.0 }.share(15.0), 2e-4);
    }
}
