//! The figures, as a table and as JSON.

use std::fmt;

use lb_tests::bpf::Info;
use serde_json::{Value, json};

use crate::measure::Round;
use crate::scenario::Scenario;
use crate::table;

/// What is asked of a path, in nanoseconds above the floor, or of two paths' ratio.
#[derive(Clone, Copy, Default)]
pub(crate) struct Goal {
    /// More is a failure.
    pub(crate) most: Option<f64>,
    pub(crate) aim: Option<f64>,
}

/// One path through the program.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) goal: Goal,
    /// Never empty.
    pub(crate) rounds: Vec<Round>,
}

/// A round whose floor is so much above the lowest was disturbed: somebody else had the CPU.
const CALM: f64 = 1.15;

/// All paths of a scenario.
pub(crate) struct Report {
    pub(crate) scenario: Scenario,
    pub(crate) program: Info,
    pub(crate) figures: Vec<Figure>,
}

/// Median and quartiles of some numbers.
struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

impl Quartiles {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| sorted[(sorted.len() - 1) * quarter / 4];
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, goal: Goal, rounds: Vec<Round>) -> Self {
        Self { name: name.into(), goal, rounds }
    }

    fn net(&self) -> Quartiles {
        Quartiles::of(self.rounds.iter().map(|round| round.raw - round.floor))
    }

    fn json(&self, scenario: &Scenario) -> Value {
        let net = self.net();
        let (kind, flows) = table::kind(&self.name, scenario.flows).unzip();
        json!({
            "path": self.name,
            "kind": kind,
            "flows": flows,
            "raw": Quartiles::of(self.rounds.iter().map(|round| round.raw)).median,
            "floor": Quartiles::of(self.rounds.iter().map(|round| round.floor)).median,
            "net": net.median,
            "net_quartiles": [net.low, net.high],
            "rounds": self.rounds.len(),
            "most": self.goal.most,
            "aim": self.goal.aim,
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = Quartiles::of(self.rounds.iter().map(|round| round.raw)).median;
        let floor = Quartiles::of(self.rounds.iter().map(|round| round.floor)).median;
        let Quartiles { low, median, high } = self.net();
        write!(f, "{:<40}{raw:>7.1}{floor:>7.1}{median:>7.1}", self.name)?;
        write!(f, "  {:<18}{:>6}  ", format!("{low:.1} to {high:.1}"), self.rounds.len())?;
        self.goal.judge(f, median)
    }
}

impl Goal {
    pub(crate) const fn most(most: f64) -> Self {
        Self { most: Some(most), aim: None }
    }

    fn judge(self, f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
        let Some(most) = self.most else {
            return Ok(());
        };
        write!(f, "≤{most}")?;
        if let Some(aim) = self.aim {
            write!(f, " (aim {aim})")?;
        }
        if value > most { write!(f, "  exceeded") } else { Ok(()) }
    }
}

/// How much dearer one path is than another, both above the floor.
pub(crate) struct Ratio {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) goal: Goal,
}

impl Ratio {
    pub(crate) fn json(&self) -> Value {
        json!({
            "ratio": self.name,
            "value": self.value,
            "most": self.goal.most,
            "aim": self.goal.aim,
        })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<76}{:>6.2}  ", self.name, self.value)?;
        self.goal.judge(f, self.value)
    }
}

impl Report {
    /// Leaves disturbed rounds out, as long as there are others.
    pub(crate) fn new(scenario: Scenario, program: Info, mut figures: Vec<Figure>) -> Self {
        let floors = figures.iter().flat_map(|figure| &figure.rounds).map(|round| round.floor);
        let lowest = floors.fold(f64::INFINITY, f64::min);
        let is_calm = |round: &Round| round.floor <= lowest * CALM;
        for figure in &mut figures {
            if figure.rounds.iter().any(is_calm) {
                figure.rounds.retain(is_calm);
            }
        }
        Self { scenario, program, figures }
    }

    /// Net time of a path; `None`: it was not measured.
    pub(crate) fn net(&self, path: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == path).map(|figure| figure.net().median)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "scenario": self.scenario.to_string(),
            "mode": self.scenario.mode_name(),
            "family": self.scenario.family.pick(4, 6),
            "backends": self.scenario.backends,
            "unit": "ns",
            "program": {
                "instructions": self.program.xlated_bytes / 8,
                "machine_code_bytes": self.program.jited_bytes,
            },
            "figures": self.figures.iter().map(|figure| figure.json(&self.scenario)).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instructions = self.program.xlated_bytes / 8;
        let bytes = self.program.jited_bytes;
        writeln!(f, "{}: {instructions} instructions, {bytes} bytes of code", self.scenario)?;
        let [path, raw, floor] = ["ns per packet", "raw", "floor"];
        let [net, quartiles, rounds] = ["net", "quartiles", "rounds"];
        writeln!(f, "{path:<40}{raw:>7}{floor:>7}{net:>7}  {quartiles:<18}{rounds}  goal")?;
        self.figures.iter().try_for_each(|figure| writeln!(f, "{figure}"))
    }
}
