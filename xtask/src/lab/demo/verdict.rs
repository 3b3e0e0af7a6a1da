//! What each step cost, and whether any of it was too much.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use lb_tests::recorder::{Report, Span};

use super::stage::{Stage, Step};

/// A killed server takes what it was answering with it, and what reaches it until it is seen dead.
const AT_KILL: Duration = Duration::from_secs(2);
#[derive(Debug)]
pub(super) struct Verdict {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    step: Step,
    report: Report,
    /// Lost because a server was killed; connections and watch streams.
    at_kill: usize,
    /// Lost without an excuse.
    lost: Vec<Loss>,
}

#[derive(Debug)]
struct Loss {
    /// Since the load's start.
    at: Duration,
    why: String,
}

impl Verdict {
    /// Judges the steps made so far. The load must have ended, or what is under way is not counted.
    pub(super) fn of(stage: &Stage<'_>) -> Result<Self> {
        let recorder = &stage.load()?.recorder;
        // What was under way at a kill may have been started in the step before.
        let kills: Vec<_> = stage.steps.iter().filter_map(|step| step.kill.clone()).collect();
        let row = |step: &Step| Row::of(step.clone(), recorder.report(&step.span), &kills);
        Ok(Self { rows: stage.steps.iter().map(row).collect() })
    }

    pub(super) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.lost.is_empty() && row.step.problems.is_empty())
    }

    pub(super) fn print(&self) {
        println!(
            "\n{:<18} {:>6} {:>9} {:>6} {:>8} {:>12} {:>10}  seen",
            "step", "sent", "answered", "lost", "at kill", "longest gap", "watch gap"
        );
        for row in &self.rows {
            println!(
                "{:<18} {:>6} {:>9} {:>6} {:>8} {:>9} ms {:>7} ms  {}",
                row.step.name,
                row.report.sent,
                row.report.answered,
                row.lost.len(),
                row.at_kill,
                row.report.longest_gap.as_millis(),
                row.step.watch_gap.as_millis(),
                row.step.notes.join("; "),
            );
        }
        println!();
        for row in &self.rows {
            for problem in &row.step.problems {
                println!("{}: {problem}", row.step.name);
            }
            for (why, times) in row.lost_by_reason() {
                let from = times.start.saturating_sub(row.step.span.start).as_secs_f64();
                let to = times.end.saturating_sub(row.step.span.start).as_secs_f64();
                let count = row.lost.iter().filter(|loss| loss.why == why).count();
                println!("{}: {count} × {why}, {from:.1} s to {to:.1} s in", row.step.name);
            }
        }
        if self.is_good() {
            println!("Nothing was lost that was not on the killed server.");
        }
    }
}

impl Row {
    fn of(step: Step, report: Report, kills: &[(String, Duration)]) -> Self {
        let mut row = Self { step, report, at_kill: 0, lost: Vec::new() };
        for (started, failed, why, words) in &row.report.failures {
            let excused = kills.iter().any(|(_, at)| *failed >= *at && *started <= *at + AT_KILL);
            if excused {
                row.at_kill += 1;
            } else {
                row.lost.push(Loss { at: *failed, why: format!("{}: {words}", why.as_str()) });
            }
        }
        for seen in &row.step.watch_breaks {
            let excused = kills.iter().any(|(server, at)| {
                (seen.server == *server || seen.server.is_empty())
                    && (*at..*at + AT_KILL).contains(&seen.at)
            });
            if excused {
                row.at_kill += 1;
            } else {
                let why = format!("watch stream of {:?}: {}", seen.server, seen.why);
                row.lost.push(Loss { at: seen.at, why });
            }
        }
        row
    }

    /// Each reason, with the first and the last time it struck.
    fn lost_by_reason(&self) -> BTreeMap<&str, Span> {
        let mut reasons: BTreeMap<&str, Span> = BTreeMap::new();
        for loss in &self.lost {
            let times = reasons.entry(&loss.why).or_insert(loss.at..loss.at);
            *times = times.start.min(loss.at)..times.end.max(loss.at);
        }
        reasons
    }
}
