//! The tables on the terminal. Pure.

use std::fmt::Write as _;

use super::findings::Findings;
use super::metric::Metric;
use super::number::show;
use super::section::{self, Section};
use super::stats::{Goal, Verdict};

const LABEL: usize = 50;
const COLUMN: usize = 15;

/// Everything, one table after the other.
pub(crate) fn render(findings: &Findings) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = peers(findings, &mut text);
    let _ = comparisons(findings, &mut text);
    let _ = sections(findings, &mut text);
    let _ = remarks(findings, &mut text);
    text
}

fn peers(findings: &Findings, text: &mut String) -> std::fmt::Result {
    let measured = findings.measured();
    if measured.is_empty() {
        return Ok(());
    }
    let rounds = findings.samples.rounds();
    write!(text, "{:<LABEL$}", format!("medians of {rounds} rounds"))?;
    for peer in &measured {
        write!(text, "{:>COLUMN$}", peer.label())?;
    }
    text.push('\n');
    let mut is_any_wide = false;
    for metric in Metric::ALL {
        let summaries: Vec<_> =
            measured.iter().map(|peer| findings.samples.summary(*peer, metric)).collect();
        if summaries.iter().all(Option::is_none) {
            continue;
        }
        write!(text, "{:<LABEL$}", format!("{}, {}", metric.label(), metric.unit()))?;
        for summary in summaries {
            let cell = match summary {
                None => "-".to_owned(),
                Some(summary) if summary.conclusive => show(summary.median),
                Some(summary) => {
                    is_any_wide = true;
                    format!("~{}", show(summary.median))
                }
            };
            write!(text, "{cell:>COLUMN$}")?;
        }
        text.push('\n');
    }
    if is_any_wide {
        text.push_str("~ the rounds differ too much to conclude anything from this figure\n");
    }
    text.push('\n');
    Ok(())
}

fn comparisons(findings: &Findings, text: &mut String) -> std::fmt::Result {
    let comparisons = findings.comparisons();
    if comparisons.is_empty() {
        return Ok(());
    }
    let head = ["goal", "ratio", "quartiles", "asked", "verdict"];
    writeln!(text, "{:<62}{:>7}  {:<14}{:<8}{}", head[0], head[1], head[2], head[3], head[4])?;
    for comparison in comparisons {
        let what = format!("{}: {} to {}", comparison.what, comparison.ours, comparison.theirs);
        let ratio = comparison.ratio;
        let asked = match comparison.goal {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
        };
        let quartiles = format!("{:.2} to {:.2}", ratio.low, ratio.high);
        let verdict = match comparison.verdict {
            Verdict::Holds => "holds",
            Verdict::Missed => "MISSED",
            Verdict::Unclear => "unclear: the rounds differ too much, or are too few",
        };
        writeln!(text, "{what:<62}{:>7.2}  {quartiles:<14}{asked:<8}{verdict}", ratio.value)?;
    }
    text.push('\n');
    Ok(())
}

fn sections(findings: &Findings, text: &mut String) -> std::fmt::Result {
    for Section { title, head, rows, .. } in section::all(findings) {
        let lines = || rows.iter().map(|row| row.iter().map(String::as_str).collect::<Vec<_>>());
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = lines().filter_map(|line| line.get(column).map(|cell| width(cell)));
                cells.chain([width(head[column])]).max().unwrap_or_default()
            })
            .collect();
        writeln!(text, "{title}")?;
        for line in std::iter::once(head.clone()).chain(lines()) {
            for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match index {
                    0 => write!(text, "{cell:<width$}")?,
                    _ => write!(text, "  {cell:>width$}")?,
                }
            }
            text.push('\n');
        }
        text.push('\n');
    }
    Ok(())
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

fn remarks(findings: &Findings, text: &mut String) -> std::fmt::Result {
    for (peer, why) in &findings.failed {
        writeln!(text, "{}: no figures: {why}", peer.label())?;
    }
    for (name, why) in &findings.unavailable {
        writeln!(text, "{name}: not available: {why}")?;
    }
    for note in &findings.notes {
        writeln!(text, "{note}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::example;
    use super::*;

    #[test]
    fn every_peer_has_its_column_or_its_reason() {
        let text = render(&example());
        let head = text.lines().next().unwrap();
        assert!(head.starts_with("medians of 5 rounds"), "{head}");
        for label in ["no balancer", "HAProxy", "Fairlead nat"] {
            assert!(head.contains(label), "{head}");
        }
        assert!(!head.contains("nftables"), "{head}");
        assert!(text.contains("nftables: no figures: only <cp1> answered"), "{text}");
        assert!(text.contains("ipvs: not available: this kernel has no IPVS"), "{text}");
    }

    #[test]
    fn what_is_lost_is_said() {
        let text = render(&example());
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(line("keep-alive requests, 8 KiB: Fairlead nat to HAProxy").ends_with("MISSED"));
        assert!(line("latency, loaded, p99: Fairlead nat to HAProxy").ends_with("holds"));
        assert!(line("IPv4 nat, forward").contains("40.0"), "{text}");
        assert!(line("counting: request, 1 flow").contains("10.0 to 10.0"), "{text}");
        assert!(line("one scrape in 15 s").contains("0.020"), "{text}");
    }

    #[test]
    fn a_wide_spread_is_marked() {
        let mut findings = example();
        assert!(!render(&findings).contains('~'));
        for factor in [1.0, 9.0, 20.0, 40.0, 60.0] {
            let turn = [(Metric::Download, factor)].into();
            findings.samples.push([(super::super::peer::Peer::Direct, turn)].into());
        }
        assert!(render(&findings).contains("too much to conclude"));
    }
}
